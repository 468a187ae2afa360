"""Passes on how far a piece of work has got, to whoever shows it.

The engine and the learners report here. They need not know whether there is a terminal, and nothing happens if no
watcher is there.
"""

import contextlib
from collections.abc import Callable, Iterator

# (what is counted, such as "answers"; how many are done; how many are known so far to be needed)
Watcher = Callable[[str, int, int], None]

_watchers: list[Watcher] = []


@contextlib.contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
  """Gives all reports of the `with` block to a watcher; of nested ones, to the innermost."""
  _watchers.append(watcher)
  try:
    yield
  finally:
    _watchers.remove(watcher)


def report(unit: str, done: int, total: int) -> None:
  """Reports progress.

  Args:
    unit: what is counted, as a plural noun.
    done: how many are done.
    total: how many there will be, as far as is known; it may grow.
  """
  if _watchers:
    _watchers[-1](unit, done, total)
