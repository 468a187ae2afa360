"""Measures a model on evaluation sets, as a stage between others or after the last."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Mapping

from ml_collections import ConfigDict

from posttrain_jax.assembly.hand_over import sampler_params
from posttrain_jax.assembly.judges import RewardSettings
from posttrain_jax.assembly.model import ModelSettings
from posttrain_jax.evaluation.answer_records import sampled_records
from posttrain_jax.evaluation.evaluator import SetsSettings
from posttrain_jax.pipelines import scorers
from posttrain_jax.pipelines.method_assembly import MethodAssembly
from posttrain_jax.recipes.checks import check_of
from posttrain_jax.runs.journal import Journal
from posttrain_jax.runs.settings import parse


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeasuredSets(SetsSettings):
  """Holds the `eval` section of a measurement.

  Attributes:
    reward_model: PATH_OR_NAME of a reward model that also scores the answers; empty for none.
  """

  reward_model: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeasurementSettings:
  """Holds the config of a measurement; its sections are those of `configs/tiny_sft.py`."""

  seed: int
  model: ModelSettings
  mesh: Mapping[str, int]
  rewards: RewardSettings
  eval: MeasuredSets


def measurement(config: ConfigDict) -> ConfigDict:
  """Returns the config of a measurement on the sets that a training config evaluates on.

  The model's path is an input, `model.path`.
  """
  found = ConfigDict({name: config[name] for name in ("seed", "model", "mesh", "rewards", "eval")})
  found = found.copy_and_resolve_references().unlock()
  own = ("answer_style", "slots", "max_prompt_length", "max_new_tokens", "sets")
  found.eval = {**{name: found.eval[name] for name in own}, "reward_model": ""}
  return found


check = check_of(MeasurementSettings)


def measure(config: ConfigDict, folder: pathlib.Path) -> None:
  """Draws and judges answers on all sets.

  Args:
    config: a record `MeasurementSettings`.
    folder: DIR; gets config.json, metrics.jsonl with one line, and some answers in rollouts/.

  Raises:
    InputError: if the model or a set is not fit for use, before anything is compiled.
  """
  settings = parse(MeasurementSettings, config)
  with contextlib.ExitStack() as stack:
    run = MethodAssembly(settings, stack)
    run.require_trained_policy()
    workers, by_model = run.workers(settings.rewards), bool(settings.eval.reward_model)
    evaluator = run.evaluator(settings.eval, settings.rewards, workers, by_model=by_model, scored=by_model)
    run.check_references(workers, by_model=by_model)
    if by_model:
      path = settings.eval.reward_model
      evaluator.reward = scorers.reward_scorer(run, path, "eval.reward_model", engines=evaluator.engines)
    directory, _ = run.open_workdir(str(folder))
    metrics, groups = evaluator(sampler_params(run.policy, run.mesh), 0)
    journal = stack.enter_context(Journal(directory.path, tensorboard=False))
    drawn = sum(int(group.lengths.sum()) for each in groups.values() for group in each)  # without greedy answers
    journal.write(0, {**metrics, "sampling/tokens_generated": drawn})
    journal.write_rollouts(0, [{"step": 0, **each} for each in sampled_records(groups, run.policy.tokenizer.decode)])
