"""Keeps a run for any training loop.

It restores, writes, shows and saves, and stops on SIGTERM or Ctrl-C.
"""

import contextlib
import difflib
import numbers
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from flax import nnx

from posttrain_jax import progress
from posttrain_jax.learner.checkpoint import Checkpointer, Restored
from posttrain_jax.learner.checkpoint_folder import finished_steps
from posttrain_jax.learner.digest import params_sha256
from posttrain_jax.parallel.processes import is_main, on_main
from posttrain_jax.runs.clock import Clock
from posttrain_jax.runs.console import Console
from posttrain_jax.runs.disk_failure import DiskFailure, disk_failure
from posttrain_jax.runs.journal import Journal, NoJournal
from posttrain_jax.runs.preemption import Preempted, Preemption
from posttrain_jax.runs.sections import LoopSettings
from posttrain_jax.runs.start_line import start_line
from posttrain_jax.types import InputError, RunFailed


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
      preemption: tells whether a signal to stop arrived.
      clock: the loop's clock; None makes one.
      data: words about the data, for the first line on the terminal.

    Raises:
      InputError: if no checkpoint is good, or if the journal is not what the checkpoint includes.
      DiskFailure: if a disk fails, now or until `stack` is closed; the message names the last good checkpoint.
    """
    self._settings, self._preemption, self.clock = settings, preemption, clock or Clock()
    self._directory = path / "checkpoints"
    stack.push(self._name_last_checkpoint)
    self._checkpoints = stack.enter_context(Checkpointer(self._directory, keep=settings.checkpoint.keep))
    self.restored: Restored | None = self._checkpoints.restore(abstract)
    self.step, self._best, offsets, notes = 0, -np.inf, None, []
    if self.restored is not None:
      extra = self.restored.extra
      self.step, offsets, notes = self.restored.step, extra["journal"], list(self.restored.notes)
      if extra["best_metric"] == settings.eval.best:
        self._best = extra["best"]
      else:
        notes.append(f"eval.best was {extra['best_metric']} and is {settings.eval.best}: the best is found anew")
    self._sign = -1.0 if settings.eval.best.startswith("-") else 1.0
    self._metric = f"eval/{settings.eval.best.removeprefix('-')}"
    journal = Journal(path, offsets, tensorboard=settings.logging.tensorboard) if is_main() else NoJournal()
    self.journal: Journal | NoJournal = stack.enter_context(journal)
    self._console = stack.enter_context(
      Console(title, max(settings.steps, self.step), settings.logging.console, done=self.step, quiet=not is_main())
    )
    stack.enter_context(progress.watched(self._console.within))
    self.clock.on_change = self._console.enter
    if self.step < settings.steps:
      self._console.say(start_line(title, settings.steps, abstract, data))
      if self.restored is not None:
        self._console.say("; ".join([f"going on after step {self.step}", *notes]))
    elif self.step > settings.steps:
      self._console.say(
        f"{path} is at step {self.step} already and steps is {settings.steps}: nothing is trained; more steps than "
        f"{self.step} would go on"
      )
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
    files: Callable[[], Mapping[str, Callable[[], bytes]]] = dict,
    stop: bool = False,
  ) -> bool:
    """Ends a step: writes its metrics, and a checkpoint where one is due.

    Args:
      step: the step.
      metrics: all metrics of the step.
      state: the pytree that a checkpoint holds.
      params: the parameters in it, for `params_sha256`.
      extra: returns a JSON object to save with the state; the keys "best", "best_metric" and "journal" are reserved.
      files: returns what `Checkpointer.save` takes as `files`.
      stop: end the run after this step, even if fewer than `steps` are done.

    Returns:
      True if this was the last step.
    """
    settings = self._settings
    self._checkpoints.check()
    last = stop or step == settings.steps or self._preemption.at_step_end()
    unknown = self._unknown_best(metrics)
    score = self._sign * metrics[self._metric] if self._metric in metrics and not unknown else -np.inf
    improved = bool(score > self._best)  # NaN (an evaluation without any verdict) is no improvement
    self._best = score if improved else self._best
    save = last or improved or bool(unknown) or (step > 0 and step % settings.checkpoint.every == 0)
    metrics = dict(metrics)
    if save and settings.checkpoint.digest:
      metrics["params_sha256"] = params_sha256(params)
    self.journal.write(step, {**metrics, **self.clock.take()})
    self._console.update(step, metrics)
    self.step = step
    if save:
      best = {"best": float(self._best), "best_metric": settings.eval.best}
      saved = {**extra(), **best, "journal": self.journal.offsets()}
      self._checkpoints.save(step, state, saved, files=files(), best=improved)
    if unknown:
      self._checkpoints.wait()
      raise InputError(f"{unknown}; step {step} is saved, the same command goes on from it with another eval.best")
    return last

  def _unknown_best(self, metrics: Mapping[str, Any]) -> str:
    """Says that no evaluation has the number named in `eval.best`.

    It is empty if all is well. Once an evaluation had the number, others may lack it: not each one measures everything.
    """
    evaluated = [name for name, value in metrics.items() if name.startswith("eval/") and _is_number(value)]
    if not evaluated or self._metric in evaluated or self._best > -np.inf:
      return ""
    known = [name.removeprefix("eval/") for name in evaluated]
    found = self._metric.removeprefix("eval/")
    (closest,) = difflib.get_close_matches(found, known, n=1, cutoff=0.0)
    return (
      f"{self._directory.parent}: eval.best is {self._settings.eval.best!r}, which no evaluation of it measures; the "
      f"closest is {closest!r}"
    )

  def _name_last_checkpoint(self, kind: type | None, error: BaseException | None, trace: Any) -> None:
    """Turns a disk's failure that ends the run into one line."""
    del kind, trace
    failure = None if error is None or isinstance(error, DiskFailure | InputError | RunFailed) else disk_failure(error)
    if failure is not None:
      steps = finished_steps(self._directory)
      good = (
        f"the last good checkpoint is {self._directory / str(steps[-1])}" if steps else "there is no checkpoint yet"
      )
      raise DiskFailure(f"{failure}; {good}: mend that, then run the same command again to go on") from error

  def finish(self) -> None:
    """Waits for the last checkpoint.

    Raises:
      Preempted: if a signal ended the run before its last step.
    """
    self._checkpoints.wait()
    on_main(lambda: None)  # all processes wait until process 0 has written the manifest
    if self._preemption.requested and self.step < self._settings.steps:
      raise Preempted(f"stopped after step {self.step}, checkpoint saved")


def _is_number(value: Any) -> bool:
  return isinstance(value, numbers.Real) or getattr(value, "ndim", None) == 0
