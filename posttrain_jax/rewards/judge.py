"""Turns answers into rewards: the weighted sum of reward functions and the overlong penalty."""

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from posttrain_jax.losses import rewards as shaping
from posttrain_jax.rewards import extract
from posttrain_jax.rewards.failures import FailureLimit
from posttrain_jax.rewards.workers import RewardFunction, RewardWorkers, Scores
from posttrain_jax.types import Group, InputError

# Names among the components besides the reward functions': the length penalty and two marks, 1 or 0.
OVERLONG, FAILED, TIMED_OUT = "overlong", "failed", "timed_out"
REWARD_MODEL = "reward_model"  # name of a reward model's scores among the components


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


class TimedOut(enum.StrEnum):
  """Names what an answer gets that a reward function runs out of time on."""

  INVALID = "invalid"  # no reward, as if the answer had not been drawn
  LOWEST = "lowest"  # the function's lowest reward, so that nothing is won by hanging a verifier


@dataclasses.dataclass(frozen=True)
class VerifierJudge:
  """Judges groups: fills in their components, accuracy, rewards and valid.

  Attributes:
    workers: run the reward functions.
    accuracy: name of the reward function whose reward, clipped to [0, 1], is the accuracy that dynamic sampling uses.
      Where it abstains, the first function with a weight that does not abstain takes its place. Weights, other
      functions and the overlong penalty do not change it.
    overlong: the penalty on long answers; None for none. It is never NaN and never part of the accuracy.
    timed_out: what an answer gets that a function runs out of time on.
    failures: ends the run where a function fails too often; None never does.
    columns: a group whose row has nothing in one of these columns is left to a reward model: no function is asked, its
      accuracy is NaN, and its answers are valid.
    rest_to_model: whether an answer on which all functions with a weight abstain is left to a reward model, too.
  """

  workers: RewardWorkers
  accuracy: str
  overlong: OverlongPenalty | None = None
  timed_out: TimedOut = TimedOut.INVALID
  failures: FailureLimit | None = None
  columns: frozenset[str] = frozenset()
  rest_to_model: bool = False

  def __post_init__(self):
    names = [function.name for function in self.workers.functions]
    if self.accuracy not in names:
      raise InputError(f"accuracy is {self.accuracy!r}; expected the name of a reward function: {', '.join(names)}")
    reserved = {FAILED, TIMED_OUT, REWARD_MODEL} | ({OVERLONG} if self.overlong is not None else set())
    if reserved & set(names):
      name = sorted(reserved & set(names))[0]
      what = "the name of the length penalty" if name == OVERLONG else "which has a meaning of its own"
      raise InputError(f"a reward function is named {name!r}, {what}; expected another name")

  def __call__(self, groups: Sequence[Group]) -> list[Group]:
    """Judges groups, with one call of `workers.judge` for each reward function.

    An answer is valid if no function with a weight failed on it, nor the accuracy's, and at least one with a weight
    gave it a reward or leaves it to a reward model. A function that abstains has not failed. An invalid answer has
    reward 0 and accuracy 0, which mean nothing. Its components show which function gave it none, and the marks
    `failed` and `timed_out` are 1 where a function failed that counts, and where one ran out of time. A group without
    such an answer lacks the mark.

    Args:
      groups: groups with texts.

    Returns:
      the groups in the same order, with components, accuracy, rewards and valid.

    Raises:
      RewardsFailed: if too many answers failed.
      ValueError: if a group has not one text for each answer.
    """
    for group in groups:
      if len(group.texts) != len(group.answers):
        raise ValueError(f"prompt {group.prompt.index} has {len(group.texts)} texts for {len(group.answers)} answers")
    asked = [group for group in groups if not self._is_left_to_model(group)]
    texts = [text for group in asked for text in group.texts]
    rows = [group.prompt.row for group in asked for _ in group.texts]
    found = {function.name: self._scores(index, texts, rows) for index, function in enumerate(self.workers.functions)}
    judged, start = [], 0
    for group in groups:
      if self._is_left_to_model(group):
        n = len(group.texts)
        nothing = Scores(np.full(n, np.nan), np.ones(n, bool), np.zeros(n, bool), {})
        judged.append(self._judged(group, dict.fromkeys(found, nothing)))
        continue
      part = slice(start, start + len(group.texts))
      judged.append(self._judged(group, {name: _part(scores, part) for name, scores in found.items()}))
      start = part.stop
    return judged

  def _is_left_to_model(self, group: Group) -> bool:
    return any(group.prompt.row.get(column) in (None, "") for column in self.columns)

  def _scores(self, index: int, texts: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Scores:
    """Asks one function, and counts its failures."""
    function, scores = self.workers.functions[index], self.workers.judge(index, texts, rows)
    if self.failures is not None and self._counts(function):
      asked = len(texts) - int(scores.abstained.sum())
      self.failures.add(function.name, scores.failed, rows, scores.reasons, asked)
    if self.timed_out == TimedOut.LOWEST:
      scores = dataclasses.replace(scores, rewards=np.where(scores.timed_out, function.lowest, scores.rewards))
    if function.name == self.accuracy:
      _warn_of_range(function.name, scores.rewards)
    return scores

  def _counts(self, function: RewardFunction) -> bool:
    return bool(function.weight) or function.name == self.accuracy

  def _judged(self, group: Group, found: Mapping[str, Scores]) -> Group:
    functions, nothing = self.workers.functions, np.zeros(len(group.answers))
    components = {name: _float32(scores.rewards) for name, scores in found.items()}
    weighted = [function for function in functions if function.weight] or list(functions)
    given = {name: np.isfinite(values) for name, values in components.items()}
    failed = np.any(
      [~given[each.name] & ~found[each.name].abstained for each in functions if self._counts(each)], axis=0
    )
    rewards = sum(
      (np.float64(each.weight) * np.where(given[each.name], components[each.name], 0) for each in weighted), nothing
    )
    accuracy = np.full(len(group.answers), np.nan, np.float32)
    for name in (self.accuracy, *(each.name for each in weighted)):
      accuracy = np.where(np.isnan(accuracy), components[name], accuracy)
    if self.overlong is not None:
      penalty = shaping.soft_overlong_penalty(
        group.lengths, max_length=self.overlong.max_length, buffer=self.overlong.buffer
      )
      components[OVERLONG] = np.asarray(penalty, np.float32)
      rewards = rewards + np.float64(self.overlong.weight) * components[OVERLONG]
    rewards = _float32(rewards)
    left = self._is_left_to_model(group)
    if self.rest_to_model:
      left = left | np.all([found[each.name].abstained for each in weighted], axis=0)
    judged = np.any([given[each.name] for each in weighted], axis=0) | left
    valid = ~failed & judged & np.isfinite(rewards)
    timed_out = np.any([scores.timed_out for scores in found.values()], axis=0)
    components |= {
      name: mark.astype(np.float32) for name, mark in ((FAILED, failed), (TIMED_OUT, timed_out)) if mark.any()
    }
    return dataclasses.replace(
      group,
      components=components,
      accuracy=np.where(valid, np.clip(accuracy, 0, 1), np.float32(0)),
      rewards=np.where(valid, rewards, np.float32(0)),
      valid=valid,
    )


def without_verdict(group: Group) -> np.ndarray:
  """Marks the answers without a verdict, bool [G].

  The reward functions failed on them, or all abstained.
  """
  failed = group.components.get(FAILED, np.zeros(len(group.answers), np.float32)) > 0
  rewards = [values for name, values in group.components.items() if name not in (FAILED, TIMED_OUT, OVERLONG)]
  return failed | ~np.isfinite(rewards).any(axis=0) if rewards else failed


def timed_out(group: Group) -> np.ndarray:
  """Marks the answers on which a reward function ran out of time: bool [G]."""
  return group.components.get(TIMED_OUT, np.zeros(len(group.answers), np.float32)) > 0


def _part(scores: Scores, part: slice) -> Scores:
  return Scores(scores.rewards[part], scores.abstained[part], scores.timed_out[part], {})


def _float32(rewards: np.ndarray) -> np.ndarray:
  with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and then invalid
    return rewards.astype(np.float32)


def _warn_of_range(name: str, rewards: np.ndarray) -> None:
  """Warns, once a minute, of an accuracy that is no share of right."""
  outside = rewards[np.isfinite(rewards) & ((rewards > 1) | (rewards < -1))]
  if outside.size:
    logging.log_every_n_seconds(
      logging.WARNING,
      "reward function %s is the accuracy (rewards.accuracy) and gave %g: accuracies are clipped to [0, 1], so that "
      "groups may count as all right; expected values from 0, wrong, to 1, right, or another function there; "
      "rewards stay as they are",
      60,
      name,
      outside[0],
    )


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
