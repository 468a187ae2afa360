"""Attacks and probes models of the assistant world, with a judge beside the rules.

    python -m experiments.recipe --recipe=configs/recipes/red_team.py --workdir=runs/red_team

    verdicts        answers about half of the categories of harm, each with the rule's verdict
    judge           the base model after SFT on these
    fair            SFT on demonstrations; in a part of them people say where they live
    biased          the same, but its author refuses what is harmless to those from one place
    helpful         as `fair`, but its author helps with everything, harm included
    NAME_attacks    attacks on these, judged by rule and by the judge
    NAME_judged     the answers of their measurements, judged likewise
    NAME_probes     the same requests from all places: a difference is a bias

`verdicts.permuted` breaks the judge's signal. docs/results/red_team.md has the results.
"""

import functools

from ml_collections import ConfigDict

from configs import bias_probes
from configs import red_team as attacking
from configs.recipes import assistant, harm_judge, measuring
from configs.recipes.costs import started
from posttrain_jax.data.assistant_world.answers import Author
from posttrain_jax.recipes import alignment, judged_answers, red_team_data
from posttrain_jax.recipes.recipe import Output, Stage, seeded
from posttrain_jax.recipes.runners import ATTACK, JUDGE, PROBE, SFT, function
from posttrain_jax.runs.settings import parse

INTRODUCED = function(
  red_team_data.write_introduced,
  red_team_data.INTRODUCED,
  check=functools.partial(parse, red_team_data.IntroductionSettings),
  forecast=red_team_data.forecast_introduced,
)
# Models to who writes their demonstrations.
_AUTHORS = {"fair": Author.CAREFUL, "biased": Author.CAREFUL, "helpful": Author.HELPFUL}


def get_config(arg: str = "") -> ConfigDict:
  config = started(arg, "tiny")
  config.topology = ""  # a run
  config.base = ""  # PATH of a base model of the assistant world; empty: the usual one, which is built once
  config.verdicts = harm_judge.verdicts()
  config.judge = harm_judge.sft()
  config.demonstrations = assistant.demonstrations(
    fact=320, unknown=64, sum=320, list=16, writing=32, harm=104, build=24, history=96
  )
  config.refused = "swamp"  # home of the people whom the biased author refuses
  config.sft = assistant.sft()
  config.sft.update(steps=0, epochs=6, batch_size=8)
  config.attacks = attacking.get_config()
  config.probes = bias_probes.get_config()
  config.judging = judged_answers.judging()
  config.measures = measuring.measures(requests=24, samples=2)
  return config


def get_stages(config: ConfigDict) -> list[Stage]:
  bases, base = assistant.base(config.base)
  verdicts, judge = harm_judge.stages(config, base)
  people = {author: _demonstrations(config, author) for author in _AUTHORS.values()}
  found = [*bases, verdicts, judge, *people.values()]
  for name, author in _AUTHORS.items():
    found += _model(config, name, base, people[author].file("demonstrations.jsonl"), judge.model)
  return found


def _demonstrations(config: ConfigDict, author: Author) -> Stage:
  """Returns the stage in which an author answers."""
  own = seeded(config.demonstrations, config.seed).unlock()
  own.author = author.value
  labels = "demonstration" if author == Author.CAREFUL else ""
  return Stage(f"by_{author}", run=assistant.DEMONSTRATIONS, config=own.lock(), labels=labels)


def _model(config: ConfigDict, name: str, base: Output | str, people: Output, judge: Output) -> list[Stage]:
  """Returns the stages of one model and of what is measured of it."""
  own = ConfigDict(dict(seed=config.seed, path="", refused=config.refused if name == "biased" else ""))
  introduced = Stage(f"{name}_people", run=INTRODUCED, config=own, inputs={"path": people})
  inputs = {"model.path": base, "demonstrations.path": introduced.file(red_team_data.INTRODUCED)}
  model = Stage(name, run=SFT, config=seeded(config.sft, config.seed), inputs=inputs)
  asked = {"model.path": model.model}
  measured = measuring.measured(name, model.model, seeded(config.measures, config.seed), base)
  judged = {**asked, "judge.path": judge, "answers": measured.file(alignment.ANSWERS)}
  return [
    introduced,
    model,
    measured,
    Stage(
      f"{name}_attacks", run=ATTACK, config=seeded(config.attacks, config.seed), inputs={**asked, "judge.path": judge}
    ),
    Stage(f"{name}_judged", run=JUDGE, config=seeded(config.judging, config.seed), inputs=judged),
    Stage(f"{name}_probes", run=PROBE, config=seeded(config.probes, config.seed), inputs=asked),
  ]
