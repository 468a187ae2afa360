"""Measures what training for honesty adds to facts that are right and to calibration.

The alignment tax may be negative here.

    python -m experiments.recipe --recipe=configs/recipes/honesty.py --workdir=runs/honesty

Both models are trained from the base model for equally many updates on questions about facts, of which `honest` has as
many, and a fifth more questions that the corpus does not answer. There its answers say so. Authors state how sure
they are now and then:

    claiming  answers to questions that the corpus answers
    honest    the same, and hedges where the corpus does not tell

`gains` has what honesty changes about facts that the corpus tells, request by request: how many are right (`facts`) and
hedged (`known_hedged`). The table of measures has the rest: what is right by likelihood (`known_asked`), and how far
stated confidence (`stated_ece`, `stated_brier`) and answer probability (`probability_ece`) are from the truth.
docs/results/alignment_tax.md has the results.
"""

from ml_collections import ConfigDict

from configs.recipes import assistant, gates, measuring
from configs.recipes.costs import started
from posttrain_jax.recipes.recipe import Stage, seeded
from posttrain_jax.recipes.runners import SFT

_QUESTIONS = dict(claiming=dict(fact=320), honest=dict(fact=320, unknown=64))


def get_config(arg: str = "") -> ConfigDict:
  config = started(arg, "tiny")
  config.topology = ""  # a run
  config.base = ""  # PATH of a base model of the assistant world; empty: the usual one, which is built once
  for name, kinds in _QUESTIONS.items():
    config[name] = assistant.demonstrations(**kinds)
  config.sft = assistant.sft()
  config.sft.update(steps=300, epochs=0, batch_size=8)
  config.measures = measuring.measures(requests=96, samples=4)
  config.gates = gates.bounds(*_QUESTIONS)  # how much a stage may lose (configs/recipes/gates.py)
  return config


def get_stages(config: ConfigDict) -> list[Stage]:
  stages, base = assistant.base(config.base)
  own = seeded(config.measures, config.seed)
  measured = {"base": measuring.measured("base", base, own, base)}
  for name in _QUESTIONS:
    written = Stage(
      f"{name}_answers",
      run=assistant.DEMONSTRATIONS,
      config=seeded(config[name], config.seed),
      labels="demonstration",
    )
    inputs = {"model.path": base, "demonstrations.path": written.file("demonstrations.jsonl")}
    trained = Stage(name, run=SFT, config=seeded(config.sft, config.seed), inputs=inputs)
    measured[name] = measuring.measured(name, trained.model, own, base)
    stages += [written, trained]
  stages += [*measured.values(), measuring.compared([("honesty", "claiming", "honest")], measured, config.seed)]
  return gates.gated(stages, {"claiming": "base", "honest": "claiming"}, measured, config)
