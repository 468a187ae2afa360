"""Preemption: SIGTERM asks the loop to checkpoint at the end of its step and to leave with exit code 75.

For one process. With several, `jax.distributed.initialize` takes SIGTERM over, and
`reached_preemption_sync_point` is what to ask instead.
"""

import signal


class Preempted(Exception):
  """The run was asked to stop and has stopped after a finished checkpoint; running it again goes on from there."""


class Preemption:
  """Listens for SIGTERM while in a `with` block.

  The first SIGTERM sets `requested` and puts the default action back, so that a second one ends the process at once.

  Attributes:
    requested: whether SIGTERM has arrived.
  """

  def __init__(self):
    self.requested = False

  def __enter__(self) -> "Preemption":
    previous = signal.signal(signal.SIGTERM, self._handle)
    self._previous = signal.SIG_DFL if previous is None else previous  # None: not set from Python
    return self

  def __exit__(self, *exc_info) -> None:
    signal.signal(signal.SIGTERM, self._previous)

  def _handle(self, signum, frame) -> None:
    del frame
    self.requested = True
    signal.signal(signum, signal.SIG_DFL)
