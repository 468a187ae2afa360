"""Makes the optimiser: AdamW with clipping and a learning-rate schedule, from optax."""

import dataclasses
import enum
import math

import jax
import numpy as np
import optax
from flax import nnx

from posttrain_jax.compiled_once import made_once
from posttrain_jax.learner import null_space
from posttrain_jax.learner.null_space import NullSpaceSettings
from posttrain_jax.types import InputError


class Schedule(enum.StrEnum):
  """Names the learning rate's course after its linear warm-up."""

  CONSTANT = "constant"
  LINEAR = "linear"
  COSINE = "cosine"


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
  """Describes AdamW (arXiv:1711.05101) and its schedule.

  All counts are optimiser updates.

  Attributes:
    learning_rate: peak learning rate.
    schedule: course of the rate after the warm-up.
    warmup_updates: updates over which the rate rises linearly from 0.
    decay_updates: update at which `linear` and `cosine` reach the end value.
    end_fraction: end value as a share of the peak.
    b1: decay of the first moment.
    b2: decay of the second moment.
    epsilon: added to the square root of the second moment.
    weight_decay: decoupled weight decay, on matrices only: not on norms and biases.
    clip_norm: largest global norm of the gradient; 0 turns clipping off.
    null_space: keeps updates of the MLP matrices where general data does not move; None for no such bound.
  """

  learning_rate: float
  schedule: Schedule
  warmup_updates: int
  decay_updates: int
  end_fraction: float
  b1: float
  b2: float
  epsilon: float
  weight_decay: float
  clip_norm: float
  null_space: NullSpaceSettings | None = None

  def __post_init__(self):
    """Checks the fields.

    Raises:
      InputError: if a number is out of range, or is so after rounding to float32.
    """
    positive, below_one = np.float32(self.epsilon) > 0, lambda decay: decay >= 0 and np.float32(decay) < 1
    for name, ok, expected in (
      ("learning_rate", self.learning_rate >= 0, "0 or more"),
      ("warmup_updates", self.warmup_updates >= 0, "0 or more"),
      ("decay_updates", self.decay_updates >= 0, "0 or more"),
      ("end_fraction", self.end_fraction >= 0, "0 or more"),
      ("b1", below_one(self.b1), "0 or more and less than 1"),
      ("b2", below_one(self.b2), "0 or more and less than 1"),
      ("epsilon", positive, "more than 0"),  # a parameter without a gradient would become 0 / 0
      ("weight_decay", self.weight_decay >= 0, "0 or more"),
      ("clip_norm", self.clip_norm >= 0, "0 (off) or more"),
    ):
      value = getattr(self, name)
      if not (ok and math.isfinite(value)):
        raise InputError(f"optimizer.{name}: {value}, expected a finite number, {expected}")

  def check(self, where: str = "optimizer", *, updates: int | None = None) -> None:
    """Refuses a decaying schedule that ends before its warm-up.

    It is called once the number of updates is known: `decay_updates` of 0 may stand for the end of the epochs.

    Args:
      where: the section's dotted name.
      updates: of the whole run, for the message; None if it is not known.

    Raises:
      InputError: if `decay_updates` does not come after `warmup_updates`.
    """
    if self.schedule != Schedule.CONSTANT and self.decay_updates <= self.warmup_updates:
      whole = "" if updates is None else f"; {where}.decay_updates={updates} is the end of this run"
      raise InputError(
        f"{where}.decay_updates: {self.decay_updates}, expected more than warmup_updates {self.warmup_updates} "
        f"for the {self.schedule} schedule{whole}"
      )


def learning_rate_schedule(config: OptimizerConfig) -> optax.Schedule:
  """Makes the learning rate as a function of the number of updates applied before.

  Raises:
    InputError: if a decaying schedule ends before its warm-up.
  """
  config.check()
  peak, end = config.learning_rate, config.learning_rate * config.end_fraction
  span = max(config.decay_updates - config.warmup_updates, 1)
  after = {
    Schedule.CONSTANT: lambda: optax.constant_schedule(peak),
    Schedule.LINEAR: lambda: optax.linear_schedule(peak, end, span),
    Schedule.COSINE: lambda: optax.cosine_decay_schedule(peak, span, config.end_fraction),
  }[Schedule(config.schedule)]()
  if not config.warmup_updates:
    return after
  # The first update already moves: rate 1/n, 2/n, ... of the peak.
  warmup = optax.linear_schedule(peak / config.warmup_updates, peak, max(config.warmup_updates - 1, 1))
  return optax.join_schedules([warmup, after], [config.warmup_updates])


@made_once
def make_optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
  """Makes the transformation: clipping by the global norm, AdamW, and the projection on null spaces.

  Raises:
    InputError: if the null spaces cannot be read.
  """

  def decayed(params: nnx.State):
    biases = (("heads", "head_dim"), ("kv_heads", "head_dim"))

    def one(variable):
      axes = tuple(variable.get_metadata("logical_axes"))
      return variable.replace(len(axes) > 1 and axes not in biases)

    return jax.tree.map(one, params, is_leaf=lambda x: isinstance(x, nnx.Variable))

  adamw = optax.adamw(
    learning_rate_schedule(config),
    b1=config.b1,
    b2=config.b2,
    eps=config.epsilon,
    weight_decay=config.weight_decay,
    mask=decayed,
  )
  parts = [optax.clip_by_global_norm(config.clip_norm)] if config.clip_norm else []
  if config.null_space is None:
    return optax.chain(*parts, adamw) if parts else adamw
  spaces = null_space.load(config.null_space.path)
  return optax.chain(*parts, adamw, null_space.in_null_space(spaces, mlp_alone=config.null_space.mlp_alone))


def start(config: OptimizerConfig, opt_state: optax.OptState) -> optax.OptState:
  """Puts what comes from files into a new optimiser state."""
  return null_space.fill(opt_state, null_space.load(config.null_space.path)) if config.null_space else opt_state
