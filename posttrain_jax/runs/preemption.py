"""Turns SIGTERM into a checkpoint at the end of the step and exit code 75.

With one process, `Preemption` handles the signal itself. With several, `jax.distributed.initialize` has taken SIGTERM
over: a signal to any process stops all of them at the end of the same step. This is the step of the process that is
furthest, or the next one.
"""

import signal


class Preempted(Exception):
  """Reports that the run stopped on request, after a finished checkpoint.

  The same command goes on from there.
  """


class Preemption:
  """Listens for SIGTERM while in a `with` block.

  With one process, the first SIGTERM sets `requested` and restores the default action, so that a second one ends the
  process at once.

  Attributes:
    requested: True once SIGTERM has arrived; with several processes, once they have agreed to stop.
  """

  def __init__(self):
    self.requested = False
    self._steps, self._previous = 0, None

  def at_step_end(self) -> bool:
    """Tells whether to stop after this step.

    Every process must ask after every step; all get the same answer.
    """
    if _joined() and not self.requested:
      from jax.experimental import multihost_utils

      self._steps += 1  # one count over the warm-up and the steps after it
      self.requested = multihost_utils.reached_preemption_sync_point(self._steps)
    return self.requested

  def __enter__(self) -> "Preemption":
    if not _joined():  # with several processes, a handler here would hide the signal from JAX
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
  """Tells whether this process has joined others.

  It touches no device. JAX is imported only when this is called.
  """
  import jax

  return jax.distributed.is_initialized()
