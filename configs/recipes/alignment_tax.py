"""Measures what safety training costs in the assistant world, and what gives it back.

    python -m experiments.recipe --recipe=configs/recipes/alignment_tax.py --workdir=runs/alignment_tax

All models but `helpful` start from `helpful`, which complies with harm, and are trained for equally many updates on
requests for harm alone:

    helpful       the base model after demonstrations by an author who helps with everything
    safe          refusals that name a reason
    bare          refusals without a reason
    reasons       a thought, which says what the device does, before each refusal
    mixed         as `safe`, with as much pretraining text in each update (InstructGPT's ptx, 2203.02155)
    projected     as `safe`, with updates of the MLPs alone, in the null space of general text (2512.11391)
    alpha_A       A per cent of `safe` and the rest of `helpful` (2510.17426)
    leash_weak    DPO of refusals over help, with a weak KL leash (beta)
    leash_strong  the same with a strong one

`tradeoff` has all of them by two measures, `gains` each one's difference from `helpful`, `of_safe` that from `safe`.
`moved_safe` and `moved_projected` say how far logits moved on the general text that the null space was found on, and on
new text. docs/results/alignment_tax.md has the results.
"""

import functools

from ml_collections import ConfigDict

from configs.recipes import assistant, gates
from configs.recipes.costs import started
from posttrain_jax.data.assistant_world.requests import TEMPLATE
from posttrain_jax.recipes import answer_pairs, average, general_data, joining, picking, tradeoff
from posttrain_jax.recipes.recipe import Output, Stage, seeded
from posttrain_jax.recipes.runners import (
  AVERAGE,
  DPO,
  LOGIT_MOVES,
  METRICS_FILE,
  NULL_SPACE,
  PICK,
  SFT,
  TRADEOFF,
  function,
)
from posttrain_jax.runs.settings import parse

PAIRS = function(
  answer_pairs.pair,
  answer_pairs.ROWS,
  check=functools.partial(parse, answer_pairs.AnswerPairs),
  forecast=answer_pairs.forecast,
)
_AUTHORS = ("careful", "bare", "reasoner")  # of refusals
_SHARES = (25, 50, 75)  # per cent of `safe`
_LEASHES = {"leash_weak": 0.02, "leash_strong": 0.5}
_TRAINED = ("safe", "bare", "reasons", "mixed", "projected", *_LEASHES)


def get_config(arg: str = "") -> ConfigDict:
  config = started(arg, "tiny")
  config.topology = ""  # a run
  config.base = ""  # PATH of a base model of the assistant world; empty: the usual one, which is built once
  config.demonstrations = assistant.demonstrations(
    fact=320, unknown=64, sum=320, list=16, writing=32, harm=104, build=24, history=96
  )
  config.demonstrations.author = "helpful"
  config.refusals = assistant.demonstrations(harm=160)
  config.documents = assistant.documents(400)
  config.helpful = assistant.sft()
  config.helpful.update(steps=0, epochs=9, batch_size=8)
  config.safe = assistant.sft()
  config.safe.update(steps=80, epochs=0, batch_size=8)
  config.null_space = general_data.search(limit=0, row_length=96)
  config.moves = general_data.moves("general", "new", limit=200, row_length=96)
  config.leash = assistant.dpo()
  config.leash.update(steps=80, epochs=0, batch_size=16)
  config.leash.preferences.strengths = ()
  config.leash.optimizer.update(learning_rate=1e-4, warmup_updates=5)
  config.measures = assistant.measures(requests=32, samples=2)
  config.measures.measures.max_new_tokens = 80  # a refusal after a thought
  config.gates = gates.bounds(*_TRAINED)  # how much a stage may lose (configs/recipes/gates.py)
  return config


def get_stages(config: ConfigDict) -> list[Stage]:
  bases, base = assistant.base(config.base)
  people = assistant.stage(config, "demonstrations", assistant.DEMONSTRATIONS, labels="demonstration")
  helpful = assistant.stage(
    config, "helpful", SFT, {"model.path": base, "demonstrations.path": people.file("demonstrations.jsonl")}
  )
  documents = assistant.stage(config, "documents", assistant.DOCUMENTS)
  stages = [*bases, people, helpful, documents]
  models = {"helpful": helpful.model}
  refusals = {author: _written(config, author) for author in (*_AUTHORS, "helpful")}
  stages += refusals.values()
  refusing = {author: stage.file("demonstrations.jsonl") for author, stage in refusals.items()}
  data = _general(config, people, documents, refusing["careful"])
  space = Stage(
    "null_space",
    run=NULL_SPACE,
    config=config.null_space,
    inputs={"model.path": helpful.model, "text.path": data["general"].file(joining.ROWS)},
  )
  pairs = Stage(
    "pairs",
    run=PAIRS,
    config=answer_pairs.answers(),
    inputs={"chosen": refusing["careful"], "rejected": refusing["helpful"]},
  )
  stages += [*data.values(), space, pairs]
  trained = [
    _safe(config, "safe", helpful.model, refusing["careful"]),
    _safe(config, "bare", helpful.model, refusing["bare"]),
    _safe(config, "reasons", helpful.model, refusing["reasoner"]),
    _safe(config, "mixed", helpful.model, data["joined"].file(joining.ROWS)),
    _safe(config, "projected", helpful.model, refusing["careful"], space.file(general_data.NULL_SPACE)),
  ]
  for name, beta in _LEASHES.items():
    trained.append(_leash(config, name, helpful.model, pairs.file(answer_pairs.ROWS), beta))
  models |= {stage.name: stage.model for stage in trained}
  for share in _SHARES:
    trained.append(_between(f"alpha_{share}", helpful.model, models["safe"], share))
    models[trained[-1].name] = trained[-1].model
  return _measured(config, [*stages, *trained], base, models, data)


def _written(config: ConfigDict, author: str) -> Stage:
  """Returns the stage in which an author answers the requests for harm."""
  own = seeded(config.refusals, config.seed).unlock()
  own.author = author
  labels = "" if author == "helpful" else "demonstration"
  return Stage(f"by_{author}", run=assistant.DEMONSTRATIONS, config=own.lock(), labels=labels)


def _general(config: ConfigDict, people: Stage, documents: Stage, refusals: Output) -> dict[str, Stage]:
  """Returns the stages of general text, of new text, and of refusals with text, by name."""
  text = documents.file("documents.jsonl")
  answered = _picked("answered", people.file("demonstrations.jsonl"), text=f"{TEMPLATE} {{completion}}")
  fresh = seeded(config.documents, config.documents.seed + 1)
  plain = _picked("plain", text, prompt="", completion="{text}")
  return {
    "answered": answered,
    "plain": plain,
    "general": assistant.joined("general", {"answered": answered.file(picking.ROWS), "documents": text}),
    "new": Stage("new", run=assistant.DOCUMENTS, config=fresh),
    "joined": assistant.joined("joined", {"plain": plain.file(picking.ROWS), "refusals": refusals}, raw=["refusals"]),
  }


def _picked(name: str, path: Output, **columns: str) -> Stage:
  own = ConfigDict(dict(path="", seed=0, limit=0, only=dict(), columns=columns))
  return Stage(name, run=PICK, config=own, inputs={"path": path})


def _safe(config: ConfigDict, name: str, model: Output, rows: Output, space: Output | None = None) -> Stage:
  """Returns SFT on refusals; with text besides them an update has twice as many rows."""
  own = seeded(config.safe, config.seed).unlock()
  inputs = {"model.path": model, "demonstrations.path": rows}
  if name == "mixed":
    own.batch_size *= 2
    own.demonstrations.template = "{prompt}"  # the joined rows have theirs
  if space is not None:
    own.optimizer.null_space = dict(path="", mlp_alone=True)
    inputs["optimizer.null_space.path"] = space
  return Stage(name, run=SFT, config=own.lock(), inputs=inputs)


def _leash(config: ConfigDict, name: str, model: Output, pairs: Output, beta: float) -> Stage:
  own = seeded(config.leash, config.seed).unlock()
  own.objective.options.beta = beta
  return Stage(name, run=DPO, config=own.lock(), inputs={"model.path": model, "preferences.path": pairs})


def _between(name: str, start: Output, end: Output, share: int) -> Stage:
  own = average.models("start", "end")
  own.models.start.weight, own.models.end.weight = 100.0 - share, float(share)
  return Stage(name, run=AVERAGE, config=own, inputs={"models.start.path": start, "models.end.path": end})


def _measured(config: ConfigDict, stages: list[Stage], base, models: dict, data: dict[str, Stage]) -> list[Stage]:
  """Returns all stages with the measures, comparisons and bounds behind them."""
  own = seeded(config.measures, config.seed)
  measured = {name: assistant.measured(name, model, own, base) for name, model in models.items()}
  found = [*stages, *measured.values()]
  texts = {"general": data["general"].file(joining.ROWS), "new": data["new"].file("documents.jsonl")}
  for name in ("safe", "projected"):
    inputs = {"model.path": models[name], "reference": models["helpful"]}
    inputs |= {f"texts.{text}.path": path for text, path in texts.items()}
    found.append(Stage(f"moved_{name}", run=LOGIT_MOVES, config=seeded(config.moves, config.seed), inputs=inputs))
  found.append(_tradeoff(measured))
  others = [name for name in models if name != "helpful"]
  found.append(assistant.compared([(name, "helpful", name) for name in others], measured, config.seed))
  of_safe = assistant.compared([(name, "safe", name) for name in others if name != "safe"], measured, config.seed)
  found.append(Stage("of_safe", run=of_safe.run, config=of_safe.config, inputs=of_safe.inputs))
  return gates.gated(found, dict.fromkeys(_TRAINED, "helpful"), measured, config)


def _tradeoff(measured: dict[str, Stage]) -> Stage:
  along = ("helpful", *(f"alpha_{share}" for share in _SHARES), "safe")
  own = tradeoff.of_models(
    *measured,
    across="seen/answers",
    up="held_out/harm_complied",
    less_is_better=("held_out/harm_complied",),
    lines={"interpolation": along, "KL leash": tuple(_LEASHES)},
  )
  inputs = {f"models.{name}.metrics": stage.file(METRICS_FILE) for name, stage in measured.items()}
  return Stage("tradeoff", run=TRADEOFF, config=own, inputs=inputs)
