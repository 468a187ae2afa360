"""Shows a run's progress: a bar on a terminal, a line every few seconds elsewhere."""

import math
import time
from collections.abc import Mapping

import rich.console
import rich.progress

_SECONDS_BETWEEN_LINES = 10.0


class Console:
  """Shows a progress bar over steps with a few metrics. A context manager."""

  def __init__(self, title: str, total: int, shown: Mapping[str, str], *, done: int = 0, quiet: bool = False):
    """Sets up the bar.

    Args:
      title: name of the work, such as "train".
      total: number of steps.
      shown: label of each metric to show, by the metric's name.
      done: steps done in an earlier run.
      quiet: show nothing, because another process does.
    """
    self._title, self._total, self._shown = title, total, shown
    self._console = rich.console.Console(stderr=True, quiet=quiet)
    self._last_line = -math.inf
    self._latest: dict[str, float] = {}
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

  def __enter__(self) -> "Console":
    self._progress.start()
    return self

  def __exit__(self, *exc_info) -> None:
    self._progress.stop()

  def update(self, step: int, metrics: Mapping[str, float]) -> None:
    """Shows that `step` is done; a metric that is missing keeps its last value."""
    self._latest |= {name: metrics[name] for name in self._shown if name in metrics}
    text = "  ".join(f"{label} {self._latest[name]:.3f}" for name, label in self._shown.items() if name in self._latest)
    self._progress.update(self._task, completed=step, metrics=text)
    now = time.monotonic()
    if not self._console.is_terminal and (now - self._last_line > _SECONDS_BETWEEN_LINES or step == self._total):
      self.say(f"{self._title} {step}/{self._total}  {text}")
      self._last_line = now

  def say(self, text: str) -> None:
    """Prints a line above the bar."""
    self._console.print(text, highlight=False, markup=False, soft_wrap=True)
