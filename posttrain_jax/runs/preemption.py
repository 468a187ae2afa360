"""Preemption: SIGTERM asks the loop to checkpoint at the end of its step and to leave with exit code 75.

One process listens for the signal itself. With several, `jax.distributed.initialize` has taken SIGTERM over, and a
signal to any of them stops all at the end of the same step, that of the furthest or the one after.
"""

import signal


class Preempted(Exception):
  """The run was asked to stop and has stopped after a finished checkpoint; running it again goes on from there."""


class Preemption:
  """Listens for SIGTERM while in a `with` block.

  On one process the first SIGTERM sets `requested` and puts the default action back, so that a second one ends it at
  once.

  Attributes:
    requested: whether SIGTERM has arrived; with several processes, whether they have agreed to stop.
  """

  def __init__(self):
    self.requested = False
    self._steps, self._previous = 0, None

  def at_step_end(self) -> bool:
    """Whether to stop after this step; every process has to ask after every step, and gets the same answer."""
    if _joined() and not self.requested:
      from jax.experimental import multihost_utils

      self._steps += 1  # a warm-up's steps and those after it count on
      self.requested = multihost_utils.reached_preemption_sync_point(self._steps)
    return self.requested

  def __enter__(self) -> "Preemption":
    if not _joined():  # else a handler of ours would take the signal away from those who agree on it
      previous = signal.signal(signal.SIGTERM, self._handle)
      self._previous = signal.SIG_DFL if previous is None else previous  # None: not set from Python
    return self

  def __exit__(self, *exc_info) -> None:
    if self._previous is not None:
      signal.signal(signal.SIGTERM, self._previous)

  def _handle(self, signum, frame) -> None:
    del frame
    self.requested = True
    signal.signal(signum, signal.SIG_DFL)


def _joined() -> bool:
  """Whether this process has joined others; looks at no device, and JAX is imported no sooner than it is needed."""
  import jax

  return jax.distributed.is_initialized()
