"""Measures what safety training costs a reasoner, as 2503.00555 does, in the assistant world.

    python -m experiments.recipe --recipe=configs/recipes/reasoning_tax.py --workdir=runs/reasoning_tax

`cold` and `reasoning` are R1's cold start and its RL on sums (configs/recipes/r1.py). All others start from `reasoning`
and are trained for equally many updates on requests for harm:

    direct        refusals alone
    thought       the same after a thought, as the reasoner's other answers are
    mixed         as `direct`, with as much pretraining text in each update
    replayed      as `direct`, with as many of the reasoner's own right answers to sums in each update
    projected     as `direct`, with updates of the MLPs alone, in the null space of sums and general text
    half          half of `direct` and half of `reasoning`
    thought_half  half of `thought` and half of `reasoning`

`gains` has what each one loses of sums, thoughts and work against `reasoning`, and what it refuses more.
docs/results/alignment_tax.md has the results.
"""

from ml_collections import ConfigDict

from configs.recipes import assistant, gates, measuring, mitigations, r1, reasoning
from configs.recipes.costs import started
from posttrain_jax.recipes import general_data, joining, picking
from posttrain_jax.recipes.recipe import Stage, seeded
from posttrain_jax.recipes.runners import COLLECT, GRPO, SFT

_TRAINED = ("direct", "thought", "mixed", "replayed", "projected")


def get_config(arg: str = "") -> ConfigDict:
  config = started(arg, "tiny")
  made = r1.get_config()
  config.topology = ""  # a run
  config.base = ""  # PATH of a base model of the assistant world; empty: the usual one, which is built once
  config.sums, config.worked = made.sums, made.worked
  config.cold, config.reasoning, config.chosen = made.cold, made.reasoning, made.chosen
  config.chosen.prompts.limit = 300
  config.refusals = assistant.demonstrations(harm=160)
  config.documents = assistant.documents(400)
  config.safe, config.bounded = mitigations.safety_sft(updates=60), mitigations.bounded_sft(updates=60)
  config.safe.demonstrations.row_length = 128  # an answer of the reasoner
  config.null_space = general_data.search(limit=0, row_length=128)
  config.measures = measuring.measures(requests=24, samples=4)
  config.measures.measures.update(sums=64, max_new_tokens=reasoning.LONGEST["max_new_tokens"])
  config.gates = gates.bounds(*_TRAINED)  # how much a stage may lose (configs/recipes/gates.py)
  return config


def get_stages(config: ConfigDict) -> list[Stage]:
  bases, base = assistant.base(config.base)
  sums = assistant.stage(config, "sums", assistant.PROMPTS)
  worked = assistant.stage(config, "worked", assistant.DEMONSTRATIONS, labels="demonstration")
  given = {"model.path": base, "demonstrations.path": worked.file("demonstrations.jsonl")}
  cold = assistant.stage(config, "cold", SFT, given)
  problems = {"prompts.path": sums.file("prompts.jsonl")}
  reasoner = assistant.stage(config, "reasoning", GRPO, {"model.path": cold.model, **problems})
  chosen = assistant.stage(config, "chosen", COLLECT, {"model.path": reasoner.model, **problems})
  right = chosen.file("demonstrations.jsonl")
  documents = assistant.stage(config, "documents", assistant.DOCUMENTS)
  written = {author: mitigations.refusals(config, author) for author in ("careful", "reasoner")}
  refusing, thinking = (stage.file("demonstrations.jsonl") for stage in written.values())
  joined = mitigations.with_text(config, "joined", refusing, documents.file("documents.jsonl"))
  replayed = assistant.joined("with_own", {"own": right, "refusals": refusing}, raw=["refusals"])
  said = mitigations.picked(config, "said", right, text="{prompt} {completion}")
  files = {"said": said.file(picking.ROWS), "documents": documents.file("documents.jsonl")}
  general = assistant.joined("general", files)
  start = reasoner.model
  space = mitigations.null_space(config, "null_space", start, general.file(joining.ROWS))
  kept = space.file(general_data.NULL_SPACE)
  made = [
    mitigations.safe(config, "direct", start, refusing),
    mitigations.safe(config, "thought", start, thinking),
    mitigations.safe(config, "mixed", start, joined[-1].file(joining.ROWS), text=True),
    mitigations.safe(config, "replayed", start, replayed.file(joining.ROWS), text=True),
    mitigations.safe(config, "projected", start, refusing, space=kept),
  ]
  made += [mitigations.between("half", start, made[0].model, 50)]
  made += [mitigations.between("thought_half", start, made[1].model, 50)]
  stages = [
    *bases,
    sums,
    worked,
    cold,
    reasoner,
    chosen,
    documents,
    *written.values(),
    *joined,
    replayed,
    said,
    general,
  ]
  own = seeded(config.measures, config.seed)
  measured = {stage.name: measuring.measured(stage.name, stage.model, own, base) for stage in (reasoner, *made)}
  pairs = [(stage.name, "reasoning", stage.name) for stage in made]
  stages += [space, *made, *measured.values(), measuring.compared(pairs, measured, config.seed)]
  return gates.gated(stages, dict.fromkeys(_TRAINED, "reasoning"), measured, config)
