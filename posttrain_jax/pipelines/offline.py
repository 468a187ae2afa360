"""Runs the loop of the methods that learn from fixed data: SFT, reward models and DPO.

A step is one update. Batches are found from (seed, step) alone. So a checkpoint holds the train state and the journal's
position, nothing else.
"""

import contextlib
import dataclasses
import math
import pathlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

from flax import nnx

from posttrain_jax.learner.batch_learner import BatchLearner
from posttrain_jax.learner.optimizer import OptimizerConfig, Schedule
from posttrain_jax.learner.state import abstract_like
from posttrain_jax.learner.update import Batch
from posttrain_jax.runs.keeper import Keeper
from posttrain_jax.runs.preemption import Preemption
from posttrain_jax.runs.sections import CheckpointSettings, EvaluationTimes, LoggingSettings, LoopSettings
from posttrain_jax.runs.settings import at_least
from posttrain_jax.runs.start_line import describe_data
from posttrain_jax.types import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class UpdateSettings:
  """Holds what a config says of updates on fixed data.

  Attributes:
    steps: updates; 0 with `epochs` set for as many as they take.
    epochs: how often each row is trained on; 0 where `steps` counts.
    batch_size: rows of an update.
    max_skipped_updates: updates in a row that are not finite which end the run.
    optimizer: the optimiser; `decay_updates` of 0 is the last update.
  """

  steps: int = at_least(0)
  epochs: int = at_least(0)
  batch_size: int
  max_skipped_updates: int = at_least(1)
  optimizer: OptimizerConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class OfflineSettings(UpdateSettings):
  """Holds what the loop reads of a method's config."""

  eval: EvaluationTimes
  checkpoint: CheckpointSettings
  logging: LoggingSettings


# (metrics, records of some of the evaluated answers, as `rollouts.group_json` makes them)
Evaluated = tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]
Settings = TypeVar("Settings", bound=OfflineSettings)


def check_length(settings: OfflineSettings) -> None:
  """Refuses a length of training that is wrong whatever the data are.

  Raises:
    InputError: if there are neither steps nor epochs; or as `with_length`, if there are no epochs.
  """
  if not settings.steps and not settings.epochs:
    raise InputError("steps: 0, and epochs: 0; expected one of them above 0")
  if not settings.epochs:
    with_length(settings, 0)


def with_length(settings: Settings, num_rows: int) -> Settings:
  """Returns settings whose number of steps is known.

  With `epochs` set, `steps` of 0 becomes the steps that they take. If `steps` is set as well, the run ends earlier. A
  decaying learning rate ends with the epochs, or with the steps if there are none (`optimizer.decay_updates` of 0). An
  evaluation after each epoch is `eval.every` of −1.

  Args:
    settings: the method's.
    num_rows: rows of an epoch.

  Raises:
    InputError: if evaluations are to come after each epoch and `epochs` is 0, or if a decaying learning rate ends
      before its warm-up.
  """
  asked = settings.optimizer.decay_updates
  if settings.eval.every < 0 and not settings.epochs:
    raise InputError(
      f"eval.every: {settings.eval.every}, which is every epoch; expected `epochs`, or a number of steps"
    )
  if settings.epochs:
    length, optimizer = math.ceil(settings.epochs * num_rows / settings.batch_size), settings.optimizer
    times = settings.eval
    if times.every < 0:
      times = dataclasses.replace(times, every=math.ceil(num_rows / settings.batch_size))
    settings = dataclasses.replace(
      settings,
      steps=settings.steps or length,
      optimizer=dataclasses.replace(optimizer, decay_updates=optimizer.decay_updates or length),
      eval=times,
    )
  elif settings.optimizer.schedule != Schedule.CONSTANT:
    optimizer = settings.optimizer
    optimizer = dataclasses.replace(optimizer, decay_updates=optimizer.decay_updates or settings.steps)
    settings = dataclasses.replace(settings, optimizer=optimizer)
  optimizer = settings.optimizer
  if not asked and optimizer.schedule != Schedule.CONSTANT and optimizer.decay_updates <= optimizer.warmup_updates:
    raise InputError(
      f"optimizer.warmup_updates: {optimizer.warmup_updates}, expected less than the run's {optimizer.decay_updates} "
      f"updates for the {optimizer.schedule} schedule; more rows, epochs or steps make more updates"
    )
  optimizer.check()
  return settings


def fit(
  settings: LoopSettings,
  learner: BatchLearner[Batch],
  batch: Callable[[int], Batch],
  path: pathlib.Path,
  *,
  title: str,
  evaluate: Callable[[], Evaluated],
  preemption: Preemption,
  evaluate_first: bool,
  facts: Mapping[str, float] | None = None,
  ends: str = "",
) -> nnx.State:
  """Trains until `steps`, from wherever the last checkpoint is.

  Args:
    settings: say when the loop evaluates, saves and ends.
    learner: whose state is trained.
    batch: the batch of a step; steps count from 0.
    path: an existing directory that the run owns.
    title: what the terminal calls the run.
    evaluate: measures the learner's current parameters. The answers that it returns are kept in rollouts/.
    preemption: whether SIGTERM arrived.
    evaluate_first: also evaluates what training starts from, as step 0.
    facts: what is known of the data before training; written with the run's first row, which is in every checkpoint.
    ends: words about what ends an answer, for the start line; empty where no answers are drawn.

  Returns:
    The trained parameters, in the learner's shardings.

  Raises:
    Preempted: after SIGTERM and a checkpoint.
    Diverged: if too many updates in a row were not finite; the last checkpoint is good.
  """
  with contextlib.ExitStack() as stack:
    abstract = abstract_like(learner.state, learner.shardings)
    data = "; ".join(words for words in (describe_data(facts or {}), ends) if words)
    keeper = Keeper(stack, path, settings, abstract, title=title, preemption=preemption, data=data)
    first = 0 if evaluate_first and settings.eval.every else 1
    if keeper.restored is not None:
      learner.state, first = keeper.restored.state, keeper.step + 1
      learner.skipped.in_a_row = keeper.restored.extra["skipped_in_a_row"]

    for step in range(first, settings.steps + 1):
      metrics: dict[str, Any] = dict(facts or {}) if keeper.restored is None and step == first else {}
      if step:
        with keeper.clock.phase("train"):
          metrics |= learner.train(batch(step - 1))
      if keeper.evaluates(step):
        with keeper.clock.phase("eval"):
          found, answers = evaluate()
        metrics |= found
        if answers:
          keeper.journal.write_rollouts(step, ({"step": step, **record} for record in answers))
      metrics = {"updates": learner.version, **metrics}
      if keeper.end(
        step,
        metrics,
        learner.state,
        learner.state.params,
        lambda: {"skipped_in_a_row": learner.skipped.in_a_row},
      ):
        break
    keeper.finish()
    return learner.state.params


def check_best(times: EvaluationTimes, known: Collection[str], *, epochs: bool = True) -> None:
  """Refuses evaluation times that mean nothing to a method.

  Args:
    times: when to evaluate, and what the best checkpoint is.
    known: names of the sets that evaluations measure.
    epochs: whether the method counts epochs, so that `every` may be −1.

  Raises:
    InputError: if `eval.best` names no known set, or if `eval.every` is negative where there are no epochs.
  """
  if times.every < 0 and not epochs:
    raise InputError(f"eval.every: {times.every}, expected at least 0")
  group = times.best.removeprefix("-").partition("/")[0]
  if times.every and known and group not in known:  # where nothing is evaluated, no checkpoint is the best
    raise InputError(f"eval.best: {times.best!r}, expected SET/METRIC with one of {', '.join(known)}")
