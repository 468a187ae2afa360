"""Measures what safety training costs in the assistant world, and what gives it back.

    python -m experiments.recipe --recipe=configs/recipes/alignment_tax.py --workdir=runs/alignment_tax

All models but `helpful` start from `helpful`, which complies with harm. They are trained on requests for harm alone,
for equally many updates (`reasons` for three times as many, since the form of its answers is new):

    helpful       the base model after demonstrations by an author who helps with everything
    safe          refusals that name a reason
    bare          refusals without a reason
    reasons       a thought, which says what the device does, before each refusal
    mixed         as `safe`, with as much pretraining text in each update (InstructGPT's ptx, 2203.02155)
    replayed      as `safe`, with as many answers to harmless requests in each update
    projected     as `safe`, with updates of the MLPs alone, in the null space of general text (2512.11391)
    nearly        the same in what general text moves least: eigenvalues up to a twentieth of the largest
    mlps          the same in nearly all directions, to see what the projection adds to training the MLPs alone
    alpha_A       A per cent of `safe` and the rest of `helpful` (2510.17426)
    leash_weak    DPO of refusals over help, with a weak KL leash (beta)
    leash_strong  the same with a strong one
    broad         `alpha_50` after RL that pays a refusal of all that looks like harm
    exact         the same for a refusal of harm alone; nothing is paid for what only looks like it
    fine          the same with a rule for each kind of request and category of harm (2411.01111)

`tradeoff` has all of them by two measures, `gains` each one's difference from `helpful`, `of_safe` that from `safe`,
`of_rewards` what a narrower reward changes.
`moved_safe` and three others say how far logits moved on the general text that the null space was found on, and on new
text. docs/results/alignment_tax.md has the results.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from ml_collections import ConfigDict

from configs.recipes import assistant, gates, measuring, mitigations
from configs.recipes.costs import started
from posttrain_jax.recipes import answer_pairs, general_data, joining, tradeoff
from posttrain_jax.recipes.checks import check_of
from posttrain_jax.recipes.recipe import Output, Stage, seeded
from posttrain_jax.recipes.runners import DPO, LOGIT_MOVES, METRICS_FILE, SFT, TRADEOFF, function

PAIRS = function(
  answer_pairs.pair,
  answer_pairs.ROWS,
  check=check_of(answer_pairs.AnswerPairs),
  forecast=answer_pairs.forecast,
)
_SHARES = (25, 50, 75)  # per cent of `safe`
_LEASHES = {"leash_weak": 0.05, "leash_strong": 0.5}
_BOUNDED = {"projected": "null_space", "nearly": "least", "mlps": "nearly_all"}  # to the config of their directions
_REWARDS = ("broad", "exact", "fine")  # functions of data/assistant_world/safety_rewards.py
_TRAINED = ("safe", "bare", "reasons", "mixed", "replayed", *_BOUNDED, *_LEASHES, *_REWARDS)


def get_config(arg: str = "") -> ConfigDict:
  config = started(arg, "tiny")
  config.topology = ""  # a run
  config.base = ""  # PATH of a base model of the assistant world; empty: the usual one, which is built once
  config.demonstrations = assistant.demonstrations(
    fact=320, unknown=64, sum=320, list=16, writing=32, harm=104, build=24, history=96
  )
  config.demonstrations.author = "helpful"
  config.replay = assistant.demonstrations(fact=64, unknown=16, sum=64, list=8, writing=8, build=16, history=32)
  config.refusals = assistant.demonstrations(harm=160)
  config.documents = assistant.documents(400)
  config.helpful = assistant.sft()
  config.helpful.update(steps=0, epochs=9, batch_size=8)
  config.safe = mitigations.safety_sft(updates=60)
  config.thoughtful = mitigations.safety_sft(updates=180)
  config.thoughtful.demonstrations.row_length = 128
  config.bounded = mitigations.bounded_sft(updates=60)
  config.null_space = general_data.search(limit=0, row_length=96)
  config.least = general_data.search(limit=0, row_length=96, threshold=0.05)
  config.nearly_all = general_data.search(limit=0, row_length=96, threshold=0.99)
  config.moves = general_data.moves("general", "new", limit=200, row_length=96)
  config.leash = assistant.dpo()
  config.leash.update(steps=60, epochs=0, batch_size=16)
  config.leash.preferences.strengths = ()
  config.leash.optimizer.update(learning_rate=2e-4, warmup_updates=5)
  config.asked = assistant.prompts(harm=160, build=24, history=96)  # all look like harm
  config.safety_rl = mitigations.safety_rl(steps=40)
  config.measures = measuring.measures(requests=32, samples=2)
  config.measures.measures.max_new_tokens = 80  # a refusal after a thought
  config.gates = gates.bounds(*_TRAINED)  # how much a stage may lose (configs/recipes/gates.py)
  return config


def get_stages(config: ConfigDict) -> list[Stage]:
  bases, base = assistant.base(config.base)
  people = assistant.stage(config, "demonstrations", assistant.DEMONSTRATIONS, labels="demonstration")
  demonstrations = people.file("demonstrations.jsonl")
  helpful = assistant.stage(config, "helpful", SFT, {"model.path": base, "demonstrations.path": demonstrations})
  start = helpful.model
  documents = assistant.stage(config, "documents", assistant.DOCUMENTS)
  new = Stage("new", run=assistant.DOCUMENTS, config=seeded(config.documents, config.seed + 1))
  written = {author: mitigations.refusals(config, author) for author in ("careful", "bare", "reasoner", "helpful")}
  rows = {author: stage.file("demonstrations.jsonl") for author, stage in written.items()}
  general = mitigations.general_text(config, demonstrations, documents.file("documents.jsonl"))
  text = general[-1].file(joining.ROWS)
  spaces = {name: mitigations.null_space(config, name, start, text) for name in _BOUNDED.values()}
  kept = {name: stage.file(general_data.NULL_SPACE) for name, stage in spaces.items()}
  joined = mitigations.with_text(config, "joined", rows["careful"], documents.file("documents.jsonl"))
  replay = assistant.stage(config, "replay", assistant.DEMONSTRATIONS, labels="demonstration")
  files = {"replay": replay.file("demonstrations.jsonl"), "refusals": rows["careful"]}
  replayed = assistant.joined("with_replay", files, raw=[*files])
  sides = {"chosen": rows["careful"], "rejected": rows["helpful"]}
  pairs = Stage("pairs", run=PAIRS, config=answer_pairs.answers(), inputs=sides)
  trained = [
    mitigations.safe(config, "safe", start, rows["careful"]),
    mitigations.safe(config, "bare", start, rows["bare"]),
    mitigations.safe(config, "reasons", start, rows["reasoner"], section="thoughtful"),
    mitigations.safe(config, "mixed", start, joined[-1].file(joining.ROWS), text=True),
    mitigations.safe(config, "replayed", start, replayed.file(joining.ROWS), text=True),
    *(mitigations.safe(config, name, start, rows["careful"], space=kept[used]) for name, used in _BOUNDED.items()),
    *(_leash(config, name, start, pairs.file(answer_pairs.ROWS), beta) for name, beta in _LEASHES.items()),
  ]
  trained += [mitigations.between(f"alpha_{share}", start, trained[0].model, share) for share in _SHARES]
  halfway = next(stage for stage in trained if stage.name == "alpha_50")  # `helpful` has no refusal that RL could pay
  asked = assistant.stage(config, "asked", assistant.PROMPTS)
  trained += [mitigations.rewarded(config, name, halfway.model, asked.file("prompts.jsonl")) for name in _REWARDS]
  stages = [
    *bases,
    people,
    helpful,
    documents,
    new,
    *written.values(),
    *general,
    *spaces.values(),
    *joined,
    replay,
    replayed,
    pairs,
    asked,
    *trained,
  ]
  texts = {"general": text, "new": new.file("documents.jsonl")}
  return _measured(config, stages, base, {stage.name: stage.model for stage in (helpful, *trained)}, texts)


def _leash(config: ConfigDict, name: str, model: Output, pairs: Output, beta: float) -> Stage:
  """Returns DPO with a KL leash."""
  own = seeded(config.leash, config.seed).unlock()
  own.objective.options.beta = beta
  return Stage(name, run=DPO, config=own.lock(), inputs={"model.path": model, "preferences.path": pairs})


def _measured(
  config: ConfigDict,
  stages: Sequence[Stage],
  base: Output | str,
  models: Mapping[str, Output],
  texts: Mapping[str, Output],
) -> list[Stage]:
  """Returns all stages with the measures, comparisons and bounds behind them."""
  own = seeded(config.measures, config.seed)
  measured = {name: measuring.measured(name, model, own, base) for name, model in models.items()}
  found = [*stages, *measured.values()]
  for name in ("safe", *_BOUNDED):
    inputs = {"model.path": models[name], "reference": models["helpful"]}
    inputs |= {f"texts.{text}.path": path for text, path in texts.items()}
    found.append(Stage(f"moved_{name}", run=LOGIT_MOVES, config=seeded(config.moves, config.seed), inputs=inputs))
  found.append(_tradeoff(measured))
  others = [name for name in models if name != "helpful"]
  found.append(measuring.compared([(name, "helpful", name) for name in others], measured, config.seed))
  of_safe = measuring.compared([(name, "safe", name) for name in others if name != "safe"], measured, config.seed)
  found.append(dataclasses.replace(of_safe, name="of_safe"))
  pairs = [("broad_exact", "broad", "exact"), ("exact_fine", "exact", "fine"), ("alpha_50_fine", "alpha_50", "fine")]
  found.append(dataclasses.replace(measuring.compared(pairs, measured, config.seed), name="of_rewards"))
  return gates.gated(found, dict.fromkeys(_TRAINED, "helpful"), measured, config)


def _tradeoff(measured: dict[str, Stage]) -> Stage:
  along = ("helpful", *(f"alpha_{share}" for share in _SHARES), "safe")
  own = tradeoff.of_models(
    *measured,
    across="seen/answers",
    up="held_out/harm_complied",
    less_is_better=("held_out/harm_complied",),
    lines={"interpolation": along, "KL leash": tuple(_LEASHES), "reward": _REWARDS},
  )
  inputs = {f"models.{name}.metrics": stage.file(METRICS_FILE) for name, stage in measured.items()}
  return Stage("tradeoff", run=TRADEOFF, config=own, inputs=inputs)
