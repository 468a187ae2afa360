"""Holds the reward models of configs/recipes/deepseek_v3.py: their data, their training, and RL on each."""

from collections.abc import Mapping

from ml_collections import ConfigDict

from configs.recipes import assistant, generative_judge
from posttrain_jax.data.assistant_world.judgements import WORDING
from posttrain_jax.recipes import judgement_data, picking
from posttrain_jax.recipes.recipe import Output, Stage, seeded
from posttrain_jax.recipes.runners import COLLECT, GENERATIVE_REWARD, GRPO, PICK, REWARD_MODEL

Source = Output | str  # what an earlier stage makes, or a path or name


def own_judgements(config: ConfigDict, accepted: Stage) -> list[Stage]:
  """Returns the stages that write judgements as demonstrations, so that the policy can judge."""
  judged = _judgements(config, "own_judgements", accepted)
  completion = "{rationale}" + WORDING.mark + "{score}"
  section = picking.rewritten(config.seed, prompt=WORDING.template, completion=completion)
  rows = Stage("judged", run=PICK, config=section, inputs={"path": judged.file(judgement_data.JUDGEMENTS)})
  return [judged, rows]


def judged(config: ConfigDict, sft: Stage, files: Mapping[str, Source]) -> list[Stage]:
  """Returns the stages of both reward models, and of RL on each."""
  data, judgements, comparisons = _reward_data(config, sft, files)
  preference = assistant.stage(
    config, "preference", REWARD_MODEL, {"model.path": sft.model, "preferences.path": comparisons}
  )
  asked = {"model.path": sft.model, "prompts.path": files["asked"]}
  scalar = Stage(
    "scalar",
    run=GRPO,
    config=seeded(config.v3, config.seed),
    inputs={**asked, "reward_model": preference.model},
  )
  own = seeded(config.v3, config.seed).unlock()
  own.judge = config.asking.copy_and_resolve_references()
  if config.self_rewarding:
    own.judge.update(self_rewarding=True, votes=4)
    own.judge.sampling.temperature = 1.0
    return [*data, Stage("v3", run=GRPO, config=own.lock(), inputs=asked), preference, scalar]
  judge = assistant.stage(
    config, "judge", GENERATIVE_REWARD, {"model.path": sft.model, "demonstrations.path": judgements}
  )
  v3 = Stage("v3", run=GRPO, config=own.lock(), inputs={**asked, "judge.path": judge.model})
  return [*data, judge, v3, preference, scalar]


def _reward_data(config: ConfigDict, sft: Stage, files: Mapping[str, Source]) -> tuple[list[Stage], Source, Source]:
  """Returns the stages of judgements and of comparisons by their scores, and both.

  There are no stages if files have them.
  """
  if "judgements" in files:
    return [], files["judgements"], files["comparisons"]
  answers = assistant.stage(config, "answers", COLLECT, {"model.path": sft.model, "prompts.path": files["compared"]})
  judged = _judgements(config, "judgements", answers)
  return [answers, judged], judged.file(judgement_data.JUDGEMENTS), judged.file(judgement_data.COMPARISONS)


def _judgements(config: ConfigDict, name: str, answers: Stage) -> Stage:
  """Returns the stage that judges a collection's answers.

  A judgement takes people as long as a check.
  """
  inputs = {"candidates": answers.file("candidates")}
  own = seeded(config.judgements, config.seed)
  return Stage(name, run=generative_judge.JUDGEMENTS, config=own, inputs=inputs, labels="check")
