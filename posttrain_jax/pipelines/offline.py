"""The loop of everything that learns from fixed data: SFT, reward models, DPO and its kin. A step is one update.

Batches are found from (seed, step) alone, so a checkpoint holds the state and where the journal was, nothing else.
"""

import contextlib
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import ml_collections
from flax import nnx

from posttrain_jax.learner.batch_learner import BatchLearner
from posttrain_jax.learner.state import abstract_like
from posttrain_jax.runs.keeper import Keeper
from posttrain_jax.runs.preemption import Preemption
from posttrain_jax.runs.settings import at_least
from posttrain_jax.types import InputError

_LEAST = {
  "steps": 0,
  "epochs": 0,
  "max_skipped_updates": 1,
  "eval.every": -1,
  "checkpoint.every": 1,
  "checkpoint.keep": 1,
  "optimizer.decay_updates": 0,
}


def check(config: ml_collections.ConfigDict) -> None:
  """Raises InputError for numbers that mean nothing to the loop."""
  at_least(config, _LEAST)
  if config.eval.every < 0 and not config.epochs:
    raise InputError(f"eval.every: {config.eval.every}, which is every epoch; expected `epochs`, or a number of steps")


def set_length(config: ml_collections.ConfigDict, num_rows: int) -> None:
  """Finds the number of steps from that of epochs, in place.

  With `epochs` set, `steps` of 0 becomes the steps that they take and a decaying learning rate ends with them
  (`optimizer.decay_updates` of 0); `steps` set as well ends the run earlier. An evaluation after each epoch is
  `eval.every` of −1. Without epochs nothing changes.

  Args:
    config: `epochs`, `steps`, `batch_size`, `optimizer`, `eval`.
    num_rows: rows of an epoch.
  """
  if config.epochs:
    length = math.ceil(config.epochs * num_rows / config.batch_size)
    config.steps = config.steps or length
    config.optimizer.decay_updates = config.optimizer.decay_updates or length
    if config.eval.every < 0:
      config.eval.every = math.ceil(num_rows / config.batch_size)


def fit(
  config: ml_collections.ConfigDict,
  learner: BatchLearner,
  batch: Callable[[int], Any],
  path: pathlib.Path,
  *,
  title: str,
  evaluate: Callable[[], Mapping[str, Any]],
  preemption: Preemption,
  evaluate_first: bool,
  facts: Mapping[str, float] | None = None,
) -> nnx.State:
  """Trains until `config.steps`, from wherever the last checkpoint is.

  Args:
    config: `steps`, `eval`, `checkpoint` and `logging`.
    learner: whose state is trained.
    batch: the batch of a step; steps count from 0.
    path: an existing directory that the run owns.
    title: what the terminal calls the run.
    evaluate: metrics of the learner's present parameters.
    preemption: whether SIGTERM arrived.
    evaluate_first: also evaluates what training starts from, as step 0.
    facts: what is known of the data before training; written with the first step.

  Returns:
    The trained parameters, in the learner's shardings.

  Raises:
    Preempted: after SIGTERM and a checkpoint.
    Diverged: too many updates in a row were not finite; the last checkpoint is good.
  """
  with contextlib.ExitStack() as stack:
    abstract = abstract_like(learner.state, learner.shardings)
    keeper = Keeper(stack, path, config, abstract, title=title, preemption=preemption)
    first = 0 if evaluate_first and config.eval.every else 1
    if keeper.restored is not None:
      learner.state, first = keeper.restored.state, keeper.step + 1
      learner.skipped.in_a_row = keeper.restored.extra["skipped_in_a_row"]
    elif facts:
      keeper.say("  ".join(f"{name} {value:.6g}" for name, value in facts.items()))

    for step in range(first, config.steps + 1):
      metrics: dict[str, Any] = dict(facts or {}) if step <= 1 and step == first else {}
      if step:
        with keeper.clock.phase("train"):
          metrics |= learner.train(batch(step - 1))
      if keeper.evaluates(step):
        with keeper.clock.phase("eval"):
          metrics |= evaluate()
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


def check_best(config: ml_collections.ConfigDict, known: Mapping[str, Any]) -> None:
  """Raises InputError where `eval.best` names something that evaluations do not measure."""
  group = config.eval.best.removeprefix("-").partition("/")[0]
  if config.eval.every and group not in known:
    sets = ", ".join(known) or "nothing: no set is evaluated, so eval.every has to be 0"
    raise InputError(f"eval.best: {config.eval.best!r}, expected SET/METRIC with one of {sets}")
