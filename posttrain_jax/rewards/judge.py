"""Turns answers into rewards: the weighted sum of reward functions and the overlong penalty."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from posttrain_jax.losses import rewards as shaping
from posttrain_jax.rewards import extract
from posttrain_jax.rewards.workers import RewardWorkers
from posttrain_jax.types import Group, InputError

OVERLONG = "overlong"  # name of the length penalty among the components


@dataclasses.dataclass(frozen=True)
class OverlongPenalty:
  """Describes DAPO's soft overlong punishment (2503.14476, equation 13), which is added to the reward.

  Attributes:
    max_length: length in tokens, stop id included, at which the penalty reaches -weight: the cap on new tokens.
    buffer: number of tokens before max_length over which the penalty falls linearly from 0.
    weight: factor of the penalty.
  """

  max_length: int
  buffer: int
  weight: float = 1.0

  def __post_init__(self):
    if not 0 <= self.buffer <= self.max_length:
      raise InputError(f"overlong penalty: buffer is {self.buffer}; expected 0 to max_length = {self.max_length}")


@dataclasses.dataclass(frozen=True)
class VerifierJudge:
  """Judges groups: fills in their components, accuracy, rewards and valid.

  Attributes:
    workers: run the reward functions.
    accuracy: name of the reward function whose reward, clipped to [0, 1], is the accuracy that dynamic sampling uses.
      Weights, other functions and the overlong penalty do not change it.
    overlong: the penalty on long answers; None for none. It is never NaN and never part of the accuracy.
  """

  workers: RewardWorkers
  accuracy: str
  overlong: OverlongPenalty | None = None

  def __post_init__(self):
    names = [function.name for function in self.workers.functions]
    if self.accuracy not in names:
      raise InputError(f"accuracy is {self.accuracy!r}; expected the name of a reward function: {', '.join(names)}")
    if self.overlong is not None and OVERLONG in names:
      raise InputError(
        f"a reward function is named {OVERLONG!r}, the name of the length penalty; expected another name"
      )

  def __call__(self, groups: Sequence[Group]) -> list[Group]:
    """Judges groups, with one call of `workers.score` for each reward function.

    An answer is valid if every reward function, those of weight 0 included, gave it a finite reward. An invalid answer
    has reward 0 and accuracy 0, which mean nothing; its components show which function failed.

    Args:
      groups: groups with texts.

    Returns:
      the groups in the same order, with components, accuracy, rewards and valid.

    Raises:
      ValueError: if a group has not one text for each answer.
    """
    for group in groups:
      if len(group.texts) != len(group.answers):
        raise ValueError(f"prompt {group.prompt.index} has {len(group.texts)} texts for {len(group.answers)} answers")
    texts = [text for group in groups for text in group.texts]
    rows = [group.prompt.row for group in groups for _ in group.texts]
    ends = np.cumsum([len(group.texts) for group in groups], dtype=int)[:-1]
    verdicts = {
      function.name: np.split(_float32(self.workers.score(index, texts, rows)), ends)
      for index, function in enumerate(self.workers.functions)
    }
    return [
      self._judged(group, {name: parts[position] for name, parts in verdicts.items()})
      for position, group in enumerate(groups)
    ]

  def _judged(self, group: Group, verdicts: Mapping[str, np.ndarray]) -> Group:
    components = dict(verdicts)
    rewards = sum(np.float64(function.weight) * verdicts[function.name] for function in self.workers.functions)
    if self.overlong is not None:
      penalty = shaping.soft_overlong_penalty(
        group.lengths, max_length=self.overlong.max_length, buffer=self.overlong.buffer
      )
      components[OVERLONG] = np.asarray(penalty, np.float32)
      rewards = rewards + np.float64(self.overlong.weight) * components[OVERLONG]
    rewards = _float32(rewards)
    valid = np.isfinite(np.stack([rewards, *components.values()])).all(axis=0)
    return dataclasses.replace(
      group,
      components=components,
      accuracy=np.where(valid, np.clip(verdicts[self.accuracy], 0, 1), np.float32(0)),
      rewards=np.where(valid, rewards, np.float32(0)),
      valid=valid,
    )


def _float32(rewards: np.ndarray) -> np.ndarray:
  with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and then invalid
    return rewards.astype(np.float32)


def check_reference(row: Mapping[str, Any], where: str, column: str = "answer") -> None:
  """Checks that a data row has a reference for verifiers.

  Args:
    row: the data row.
    where: "file:line", named in the error.
    column: the reference's column.

  Raises:
    InputError: if the reference is missing, empty, or neither text nor a number.
  """
  if column not in row:
    raise InputError(f"{where}: no column {column!r}; expected the reference answer there; found {', '.join(row)}")
  try:
    extract.reference_answer(row[column])
  except ValueError as error:
    raise InputError(f"{where}: column {column!r}: {error}") from None
