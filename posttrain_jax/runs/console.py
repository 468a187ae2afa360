"""Shows a run's progress: two bars on a terminal, a line now and then elsewhere.

The first bar counts steps. The second one shows the step that is under way: its phase, and what the engine and the
learner report to `posttrain_jax.progress`.
"""

import difflib
import math
import time
from collections.abc import Mapping, Sequence

import rich.console
import rich.progress

_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_WITHIN_A_STEP = 30.0  # between two lines about the same step


class Console:
  """Shows a bar over steps with a few metrics, and one over the current step.

  It is a context manager.
  """

  def __init__(self, title: str, total: int, shown: Mapping[str, str], *, done: int = 0, quiet: bool = False):
    """Sets up the bars.

    Args:
      title: name of the work, such as "train".
      total: number of steps.
      shown: label of each metric to show, by the metric's name.
      done: steps done in an earlier run.
      quiet: show nothing, because another process does.
    """
    self._title, self._total, self._shown = title, total, shown
    self._console = rich.console.Console(stderr=True, quiet=quiet)
    self._last_line, self._step = -math.inf, done
    self._latest: dict[str, float] = {}
    self._seen: set[str] = set()  # all metrics of the run so far
    self._missing = dict(shown)  # shown ones that no step had, and that were not warned of
    self._phases: tuple[str, ...] = ()
    self._compiled: set[str] = set()
    self._progress = rich.progress.Progress(
      rich.progress.TextColumn("[bold]{task.description}"),
      rich.progress.BarColumn(bar_width=30),
      rich.progress.MofNCompleteColumn(),
      rich.progress.TimeElapsedColumn(),
      rich.progress.TimeRemainingColumn(),
      rich.progress.TextColumn("{task.fields[metrics]}"),
      console=self._console,
      disable=not self._console.is_terminal,
    )
    self._task = self._progress.add_task(title, total=total, completed=done, metrics="")
    self._within = self._progress.add_task("", total=None, visible=False, metrics="")

  def __enter__(self) -> "Console":
    self._progress.start()
    return self

  def __exit__(self, *exc_info) -> None:
    self._progress.update(self._within, visible=False)
    self._progress.stop()

  def update(self, step: int, metrics: Mapping[str, float]) -> None:
    """Shows that `step` is done; a metric that is missing keeps its last value."""
    self._step = step
    self._latest |= {name: metrics[name] for name in self._shown if name in metrics}
    text = "  ".join(f"{label} {self._latest[name]:.3f}" for name, label in self._shown.items() if name in self._latest)
    self._progress.update(self._task, completed=step, metrics=text)
    if self._is_due(_SECONDS_BETWEEN_LINES) or (step == self._total and not self._console.is_terminal):
      self._line(f"{self._title} {step}/{self._total}  {text}")
    self._look_for_missing(step, metrics)

  def enter(self, phases: Sequence[str]) -> None:
    """Shows which phase of the step is under way.

    Args:
      phases: names of the open phases, the outermost first; none between two steps.
    """
    phases = tuple(phases)
    begins = bool(phases) and phases[:1] != self._phases[:1]
    if not phases:
      self._compiled.update(self._phases)
      self._progress.update(self._within, visible=False)
    if begins:  # a new task, because rich cannot take the total from an old one
      self._progress.remove_task(self._within)
      self._within = self._progress.add_task("", total=None, metrics="")
    self._phases = phases
    if phases:
      self._progress.update(self._within, description=self._phase_text())
    if begins and self._is_due(_SECONDS_WITHIN_A_STEP):
      self._line(f"{self._title} {self._step}/{self._total}: {self._phase_text()}")

  def within(self, unit: str, done: int, total: int) -> None:
    """Shows how far the current phase has got; a `progress.Watcher`."""
    if not self._phases:
      return
    self._progress.update(self._within, completed=done, total=total, metrics=unit)
    if self._is_due(_SECONDS_WITHIN_A_STEP):
      self._line(f"{self._title} {self._step}/{self._total}: {self._phase_text()}, {done} of {total} {unit}")

  def say(self, text: str) -> None:
    """Prints a line above the bars."""
    self._console.print(text, highlight=False, markup=False, soft_wrap=True)

  def _phase_text(self) -> str:
    new = self._phases[0] not in self._compiled
    return ", ".join(self._phases) + (" (first time: compiles)" if new else "")

  def _is_due(self, seconds: float) -> bool:
    """Tells whether the last line is `seconds` old; never on a terminal."""
    return not self._console.is_terminal and time.monotonic() - self._last_line > seconds

  def _line(self, text: str) -> None:
    self.say(text)
    self._last_line = time.monotonic()

  def _look_for_missing(self, step: int, metrics: Mapping[str, float]) -> None:
    """Warns once of each metric to show that the run does not have.

    A metric under `eval/` is missed at the first evaluation after a step, others at the first step that updates the
    parameters. At the last step all are missed.
    """
    self._seen |= metrics.keys()
    self._missing = {name: label for name, label in self._missing.items() if name not in self._seen}
    if not step:
      return
    evaluated, updated = (any(each.startswith(kind) for each in metrics) for kind in ("eval/", "grad_norm"))
    for name in list(self._missing):
      if (evaluated if name.startswith("eval/") else updated) or step == self._total:
        del self._missing[name]
        near = difflib.get_close_matches(name, self._seen, n=1)
        closest = f"; the closest one is {near[0]}" if near else ""
        self.say(f"warning: logging.console: this run has no metric {name}{closest}")
