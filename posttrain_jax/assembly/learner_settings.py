"""What a config says of a policy's learner: GRPO's and PPO's."""

import ml_collections

from posttrain_jax.learner.division import Division
from posttrain_jax.learner.objective import Objective
from posttrain_jax.learner.optimizer import OptimizerConfig
from posttrain_jax.runs.settings import build
from posttrain_jax.types import InputError


def learner_settings(config: ml_collections.ConfigDict, *, updates: str) -> tuple[Objective, OptimizerConfig, Division]:
  """What is minimised, how, and how a step's groups are divided.

  Args:
    config: `objective`, `optimizer`, `rollout` and `learner` (see `configs/tiny_dapo.py`).
    updates: which field of `learner` says into how many updates the groups are cut.

  Returns:
    (objective, optimiser, division of the groups).

  Raises:
    InputError: sizes that mean nothing, or groups that cannot be cut so.
  """
  rollout, parts = config.rollout, config.learner[updates]
  given = dict(temperature=float(rollout.sampling.temperature), max_new_tokens=rollout.max_new_tokens)
  objective = build(Objective, config.objective, "objective", **given)
  if rollout.groups % parts:
    raise InputError(f"learner.{updates}: {parts} does not divide rollout.groups = {rollout.groups}")
  rows = config.learner.get("rows_per_prompt", 1)  # PPO has no such field: its values are of whole groups
  if rows < 1 or rollout.group_size % rows:
    raise InputError(f"learner.rows_per_prompt: {rows} does not divide rollout.group_size = {rollout.group_size}")
  division = Division(rollout.groups // parts, config.learner.micro_batches, rows)
  return objective, build(OptimizerConfig, config.optimizer, "optimizer"), division
