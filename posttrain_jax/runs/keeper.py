"""Keeps a run for any training loop: restores, writes, shows, saves, and stops on SIGTERM."""

import contextlib
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from flax import nnx

from posttrain_jax import progress
from posttrain_jax.learner.checkpoint import Checkpointer, Restored
from posttrain_jax.learner.digest import params_sha256
from posttrain_jax.parallel.processes import is_main, on_main
from posttrain_jax.runs.clock import Clock
from posttrain_jax.runs.console import Console
from posttrain_jax.runs.journal import Journal, NoJournal
from posttrain_jax.runs.preemption import Preempted, Preemption
from posttrain_jax.runs.sections import LoopSettings
from posttrain_jax.runs.start_line import start_line


class Keeper:
  """Keeps a run's checkpoints, its journal and its line on the terminal.

  Attributes:
    restored: the checkpoint that the run goes on from; None at a run's start.
    step: the last step that ended; before the first one, the step of `restored`, or 0 at a run's start.
    clock: measures seconds by phase since the last step.
    journal: takes what a loop writes besides metrics.
  """

  def __init__(
    self,
    stack: contextlib.ExitStack,
    path: pathlib.Path,
    settings: LoopSettings,
    abstract: Any,
    *,
    title: str,
    preemption: Preemption,
    clock: Clock | None = None,
    data: str = "",
  ):
    """Opens the run and restores its newest good checkpoint.

    Args:
      stack: closes what is opened here.
      path: an existing directory that the run owns.
      settings: the method's; only the fields of `LoopSettings` are read.
      abstract: the state to restore: a pytree of ShapeDtypeStructs with shardings.
      title: name of the work on the terminal.
      preemption: tells whether SIGTERM arrived.
      clock: the loop's clock; None makes one.
      data: words about the data, for the first line on the terminal.
    """
    self._settings, self._preemption, self.clock = settings, preemption, clock or Clock()
    self._checkpoints = stack.enter_context(Checkpointer(path / "checkpoints", keep=settings.checkpoint.keep))
    self.restored: Restored | None = self._checkpoints.restore(abstract)
    self.step, self._best, offsets = 0, -np.inf, None
    if self.restored is not None:
      extra = self.restored.extra
      self.step, self._best, offsets = self.restored.step, extra["best"], extra["journal"]
    self._sign = -1.0 if settings.eval.best.startswith("-") else 1.0
    self._metric = f"eval/{settings.eval.best.removeprefix('-')}"
    journal = Journal(path, offsets, tensorboard=settings.logging.tensorboard) if is_main() else NoJournal()
    self.journal: Journal | NoJournal = stack.enter_context(journal)
    self._console = stack.enter_context(
      Console(title, settings.steps, settings.logging.console, done=self.step, quiet=not is_main())
    )
    stack.enter_context(progress.watched(self._console.within))
    self.clock.on_change = self._console.enter
    if self.step < settings.steps:
      self._console.say(start_line(title, settings.steps, abstract, data))
      if self.restored is not None:
        self._console.say("; ".join([f"going on after step {self.step}", *self.restored.notes]))
    self.clock.take()  # time before the first step does not belong to it

  def say(self, text: str) -> None:
    """Prints a line on the terminal."""
    self._console.say(text)

  def evaluates(self, step: int, *, last: bool = False) -> bool:
    """Tells whether an evaluation is due after a step.

    Args:
      step: the step.
      last: the run ends after it for another reason than `steps`.
    """
    every = self._settings.eval.every
    return bool(every) and (step % every == 0 or step == self._settings.steps or last)

  def end(
    self,
    step: int,
    metrics: Mapping[str, Any],
    state: Any,
    params: nnx.State,
    extra: Callable[[], dict[str, Any]],
    *,
    stop: bool = False,
  ) -> bool:
    """Ends a step: writes its metrics, and a checkpoint where one is due.

    Args:
      step: the step.
      metrics: all metrics of the step.
      state: the pytree that a checkpoint holds.
      params: the parameters in it, for `params_sha256`.
      extra: returns a JSON object to save with the state; the keys "best" and "journal" are reserved.
      stop: end the run after this step, even if fewer than `steps` are done.

    Returns:
      True if this was the last step.
    """
    settings = self._settings
    last = stop or step == settings.steps or self._preemption.at_step_end()
    score = self._sign * metrics.get(self._metric, -np.inf * self._sign)
    improved = bool(score > self._best)  # NaN (an evaluation without any verdict) is no improvement
    self._best = score if improved else self._best
    save = last or improved or (step > 0 and step % settings.checkpoint.every == 0)
    metrics = dict(metrics)
    if save and settings.checkpoint.digest:
      metrics["params_sha256"] = params_sha256(params)
    self.journal.write(step, {**metrics, **self.clock.take()})
    self._console.update(step, metrics)
    self.step = step
    if save:
      saved = {**extra(), "journal": self.journal.offsets(), "best": float(self._best)}
      self._checkpoints.save(step, state, saved, best=improved)
    return last

  def finish(self) -> None:
    """Waits for the last checkpoint.

    Raises:
      Preempted: if SIGTERM ended the run before its last step.
    """
    self._checkpoints.wait()
    on_main(lambda: None)  # all processes wait until process 0 has written the manifest
    if self._preemption.requested and self.step < self._settings.steps:
      raise Preempted(f"preempted after step {self.step}, checkpoint saved")
