"""Prices the work of stages: people's hours for labels, and hours of chips."""

import dataclasses
from collections.abc import Mapping

from posttrain_jax.recipes.effort import Effort
from posttrain_jax.recipes.recipe import Stage
from posttrain_jax.types import InputError

_TERA = 1e12


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChipPrice:
  """Describes a kind of accelerator.

  Attributes:
    tflops: its peak in 10¹² FLOPs a second, in bfloat16.
    training_use: share of the peak that updates reach.
    sampling_use: share of the peak that drawing answers reaches.
    dollars_per_hour: price of one chip.
  """

  tflops: float
  training_use: float
  sampling_use: float
  dollars_per_hour: float

  def __post_init__(self):
    """Raises InputError if a number is out of range."""
    for name in ("training_use", "sampling_use"):
      if not 0 < getattr(self, name) <= 1:
        raise InputError(f"{name}: {getattr(self, name)}, expected above 0, and at most 1")
    if self.tflops <= 0 or self.dollars_per_hour < 0:
      raise InputError(
        f"tflops: {self.tflops}, dollars_per_hour: {self.dollars_per_hour}; expected above 0, at least 0"
      )

  def hours(self, effort: Effort) -> float:
    """Returns the chip's hours for some work; more chips divide them among each other."""
    seconds = effort.training_flops / self.training_use + effort.sampling_flops / self.sampling_use
    return seconds / (self.tflops * _TERA) / 3600


@dataclasses.dataclass(frozen=True, kw_only=True)
class CostSettings:
  """Holds a recipe's `costs` section; `configs/recipes/costs.py` says what its fields mean.

  Attributes:
    fill: expected length of answers and rows, as a share of their limit.
    minutes: kind of label to the minutes that a person needs for one.
    dollars_per_hour: of a person.
    chips: kinds of accelerators by name.
    here: dollars for an hour of this machine.
  """

  fill: float
  minutes: Mapping[str, float]
  dollars_per_hour: float
  chips: Mapping[str, ChipPrice]
  here: float

  def __post_init__(self):
    """Raises InputError if the expected length is out of range."""
    if not 0 < self.fill <= 1:
      raise InputError(f"costs.fill: {self.fill}, expected above 0, and at most 1")

  def label_hours(self, stage: Stage, effort: Effort) -> float:
    """Returns the hours in which people would write a stage's labels.

    Raises:
      InputError: if the stage has labels of a kind without minutes.
    """
    if not stage.labels:
      return 0.0
    if stage.labels not in self.minutes:
      known = ", ".join(self.minutes) or "none"
      raise InputError(
        f"stage {stage.name}: labels {stage.labels!r} have no price, expected one of costs.minutes: {known}"
      )
    return effort.examples * self.minutes[stage.labels] / 60
