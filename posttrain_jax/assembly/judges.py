"""Makes judges from the config: reward functions in worker processes, or a reward model."""

import dataclasses
import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from posttrain_jax.assembly.model import Policy
from posttrain_jax.assembly.references import reference_columns
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.rewards.extract import AnswerStyle
from posttrain_jax.rewards.failures import FailureLimit
from posttrain_jax.rewards.judge import OVERLONG, REWARD_MODEL, OverlongPenalty, TimedOut, VerifierJudge
from posttrain_jax.rewards.model_reward import ModelReward
from posttrain_jax.rewards.workers import RewardFunction, RewardWorkers
from posttrain_jax.runs.settings import at_least
from posttrain_jax.types import FinishReason, Group, InputError, Judge


@dataclasses.dataclass(frozen=True, kw_only=True)
class RewardFunctionSettings:
  """Holds a config's group of fields about one reward function.

  Attributes:
    function: "module:function" or "file.py:function".
    weight: of its value in the reward.
    options: its keyword arguments.
    lowest: its lowest reward, for answers that run out of time; None for 0.
  """

  function: str
  weight: float
  options: Mapping[str, Any]
  lowest: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class RewardSettings:
  """Holds a config's group of fields about rewards.

  Attributes:
    accuracy: the function whose value is the accuracy that dynamic sampling and evaluations look at.
    workers: processes that run the functions; 0 for none but this one.
    batch_seconds: bound on the limit of a call; it has no more answers than have their `answer_seconds` in it.
    answer_seconds: limit of one answer.
    timed_out: what an answer gets that runs out of time.
    max_failures: the run ends if a function fails on at least this share of a step's answers; above 1: never.
    functions: the reward functions by name.
  """

  accuracy: str
  workers: int
  batch_seconds: float
  answer_seconds: float
  timed_out: TimedOut
  max_failures: float = at_least(0)
  functions: Mapping[str, RewardFunctionSettings]


class OverlongFilter(enum.StrEnum):
  """Names what truncated answers take part in (DAPO, section 3.4)."""

  OFF = "off"  # everything
  LOSS = "loss"  # they leave the loss, and stay in their group's mean, deviation and accuracy
  GROUP = "group"  # they leave the group as well, as if they had no reward


def answer_text(tokenizer: Tokenizer, tokens: np.ndarray, *, ended: bool = False) -> str:
  """Returns the text of an answer without the token that ended it.

  That is one of the tokeniser's stop ids. A stop id of the config counts too, if it is a special token. If it is an
  ordinary token, it stays in the text, and so does a stop string.

  Args:
    tokenizer: the model's.
    tokens: int32 [n], the answer.
    ended: whether the answer ended before its cap.
  """
  last = int(tokens[-1]) if len(tokens) else None
  stopped = last is not None and (last in tokenizer.stop_ids or (ended and tokenizer.is_special(last)))
  return tokenizer.decode(tokens[:-1] if stopped else tokens)


def _without(group: Group, left_out: np.ndarray) -> Group:
  """Returns the group with some answers made invalid, as if they had no verdict."""
  zero = np.float32(0)
  return dataclasses.replace(
    group,
    valid=group.valid & ~left_out,
    accuracy=np.where(left_out, zero, group.accuracy),
    rewards=np.where(left_out, zero, group.rewards),
  )


def make_workers(section: RewardSettings) -> RewardWorkers:
  """Starts the processes that run the reward functions.

  Raises:
    InputError: if a function cannot be loaded.
  """
  functions = [
    RewardFunction(
      path=each.function, weight=each.weight, options=dict(each.options), name=name, lowest=each.lowest or 0.0
    )
    for name, each in section.functions.items()
  ]
  return RewardWorkers(
    functions, workers=section.workers, batch_seconds=section.batch_seconds, answer_seconds=section.answer_seconds
  )


def check_answer_style(rewards: RewardSettings, answer_style: AnswerStyle) -> None:
  """Refuses an answer style that differs from the verifier's.

  Majority votes must read answers as the verifier does.

  Raises:
    InputError: if they do not, or if `rewards.accuracy` names no function.
  """
  if rewards.accuracy not in rewards.functions:
    known = ", ".join(rewards.functions)
    raise InputError(f"rewards.accuracy: {rewards.accuracy!r}, expected one of rewards.functions: {known}")
  style = rewards.functions[rewards.accuracy].options.get("style", answer_style)
  if style != answer_style:
    raise InputError(
      f"eval.answer_style: {str(answer_style)!r}, expected {style!r} as in "
      f"rewards.functions.{rewards.accuracy}.options.style"
    )


def make_judge(
  workers: RewardWorkers,
  tokenizer: Tokenizer,
  *,
  accuracy: str,
  penalty: OverlongPenalty | None = None,
  overlong_filter: OverlongFilter = OverlongFilter.OFF,
  timed_out: TimedOut = TimedOut.INVALID,
  failures: FailureLimit | None = None,
  by_model: bool = False,
) -> Callable[[Sequence[Group]], list[Group]]:
  """Makes the judge of the groups that the engine returns.

  Args:
    workers: where the reward functions run.
    tokenizer: turns answers into text.
    accuracy: name of the reward function that is the accuracy.
    penalty: soft overlong penalty, None for none.
    overlong_filter: GROUP makes truncated answers invalid; LOSS is for the loss's mask, not for the judge.
    timed_out: what an answer gets that a function runs out of time on.
    failures: ends the run where a function fails too often; None never does.
    by_model: whether a reward model judges afterwards; then groups without a reference are left to it, and answers on
      which all functions abstain.
  """
  columns = reference_columns(workers.functions) if by_model else frozenset()
  judge = VerifierJudge(workers, accuracy, penalty, timed_out, failures, columns, rest_to_model=by_model)

  def judge_groups(groups: Sequence[Group]) -> list[Group]:
    texts = [
      tuple(answer_text(tokenizer, a.tokens, ended=a.finish_reason == FinishReason.EOS) for a in group.answers)
      for group in groups
    ]
    judged = judge([dataclasses.replace(group, texts=each) for group, each in zip(groups, texts)])
    if overlong_filter == OverlongFilter.GROUP:
      judged = [_without(group, group.truncated) for group in judged]
    return judged

  return judge_groups


def judge_by_functions(
  rewards: RewardSettings,
  workers: RewardWorkers,
  tokenizer: Tokenizer,
  *,
  penalty: OverlongPenalty | None = None,
  overlong_filter: OverlongFilter = OverlongFilter.OFF,
  answers: int = 1,
  by_model: bool = False,
) -> Judge:
  """Makes the judge that a config's reward functions are; `make_judge` says more.

  Args:
    rewards: the config's `rewards`.
    workers: run the functions.
    tokenizer: turns answers into text.
    penalty: soft overlong penalty, None for none.
    overlong_filter: what truncated answers take part in.
    answers: answers of a step, by which a function that fails is judged; 1: each call by itself.
    by_model: whether a reward model judges afterwards.
  """
  return make_judge(
    workers,
    tokenizer,
    accuracy=rewards.accuracy,
    penalty=penalty,
    overlong_filter=overlong_filter,
    timed_out=rewards.timed_out,
    failures=FailureLimit(rewards.max_failures, max(1, answers // jax.process_count())),
    by_model=by_model,
  )


ScoreGroups = Callable[[Sequence[Group]], list[np.ndarray]]


def place_reward_model(loaded: Policy, where: str, *, mesh: Mesh) -> ModelReward:
  """Copies a reward model to the devices that it scores on.

  Args:
    loaded: from `assembly.readers.load_reader`.
    where: the config field that names it.
    mesh: devices and layout.

  Raises:
    InputError: if the model does not fit the mesh.
  """
  try:
    return ModelReward(loaded.model, loaded.params, mesh=mesh)
  except InputError as error:
    raise InputError(f"{where}: {error}") from None


def rejudge_by_model(score: ScoreGroups, *, unchecked_by: str = "") -> Judge:
  """Gives judged groups a reward model's rewards; keeps the length penalty, if any.

  The verifier's verdict stays as the accuracy: for the metrics, and for dynamic sampling.

  Args:
    score: the reward model's scores.
    unchecked_by: name of a reward function. Only answers on which it abstains get a score, which is added to what the
      other functions give; a group without such an answer is not scored. So rules judge what they can check, and the
      model the rest (DeepSeek-V3, 2412.19437, section 5.2.1). Empty: every answer's reward is its score.
  """

  def rejudge(judged: Sequence[Group]) -> list[Group]:
    if not unchecked_by:
      return [_rejudged(group, scores) for group, scores in zip(judged, score(judged))]
    unchecked = [_unchecked(group, unchecked_by) for group in judged]
    asked = [group for group, marks in zip(judged, unchecked) if marks.any()]
    scores = iter(score(asked) if asked else ())
    return [
      _completed(group, next(scores) if marks.any() else np.full(len(marks), np.nan), marks)
      for group, marks in zip(judged, unchecked)
    ]

  return rejudge


def judge_by_model(verify: Judge, score: ScoreGroups, *, unchecked_by: str = "") -> Judge:
  """Makes a judge that asks a verifier, then a reward model; see `rejudge_by_model`."""
  rejudge = rejudge_by_model(score, unchecked_by=unchecked_by)
  return lambda groups: rejudge(verify(groups))


def _unchecked(group: Group, function: str) -> np.ndarray:
  """Marks the answers on which a reward function gave nothing, bool [G]."""
  return ~np.isfinite(group.components[function])


def _completed(group: Group, scores: np.ndarray, unchecked: np.ndarray) -> Group:
  """Returns a group whose unchecked answers have a model's score besides their other rewards."""
  valid = group.valid & (np.isfinite(scores) | ~unchecked)
  rewards = np.where(valid, group.rewards + np.where(unchecked, scores, 0), 0).astype(np.float32)
  components = {**group.components, REWARD_MODEL: np.where(unchecked, scores, np.nan).astype(np.float32)}
  accuracy = np.where(unchecked, np.where(valid, np.float32(np.nan), 0), group.accuracy).astype(np.float32)
  return dataclasses.replace(group, rewards=rewards, valid=valid, accuracy=accuracy, components=components)


def _rejudged(group: Group, scores: np.ndarray) -> Group:
  valid = group.valid & np.isfinite(scores)
  rewards = np.where(valid, scores + group.components.get(OVERLONG, 0), 0).astype(np.float32)
  components = {**group.components, REWARD_MODEL: np.asarray(scores, np.float32)}
  return dataclasses.replace(group, rewards=rewards, valid=valid, components=components)
