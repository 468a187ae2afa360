"""Turns SIGTERM and Ctrl-C into a checkpoint and exit code 75.

The checkpoint is made at the end of the step.

With one process, `Preemption` handles the signals itself. With several, `jax.distributed.initialize` has taken SIGTERM
over, and Ctrl-C becomes a SIGTERM: a signal to any process stops all of them at the end of the same step. This is the
step of the process that is furthest, or the next one.

Python runs a signal's handler between two instructions, so a compilation or an update delays it by minutes. A thread
therefore answers at once: it says what will happen, and lets a second signal of the same kind end the process.
"""

import ctypes
import os
import signal
import socket
import threading
from types import FrameType


class Preempted(Exception):
  """Reports that the run stopped on request, after a finished checkpoint.

  The same command goes on from there.
  """


class Preemption:
  """Listens for SIGTERM and Ctrl-C while in a `with` block of the main thread.

  The first signal of a kind sets `requested` and restores the default action, so that a second one ends the process at
  once. A SIGTERM after Ctrl-C is no second one: whoever started this process may pass its own Ctrl-C on.

  Blocks may be nested: when the inner one ends, a request that it has heard is one to the outer one, too.

  Attributes:
    requested: True once a signal has arrived; with several processes, once they have agreed to stop.
  """

  def __init__(self):
    self.requested = False
    self._steps, self._previous = 0, {}

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
    if _joined():  # a handler of SIGTERM here would hide the signal from JAX
      handlers = {signal.SIGINT: _pass_on}
    else:
      handlers = {signal.SIGINT: self._handle, signal.SIGTERM: self._handle}
    self._arrivals, self._wakeup = socket.socketpair()
    self._wakeup.setblocking(False)
    self._previous_wakeup = signal.set_wakeup_fd(self._wakeup.fileno(), warn_on_full_buffer=False)
    for signum, handler in handlers.items():
      previous = signal.signal(signum, handler)
      self._previous[signum] = signal.SIG_DFL if previous is None else previous  # None: not set from Python
    self._thread = threading.Thread(target=_answer, args=(self._arrivals, set(handlers)), name="signals", daemon=True)
    self._thread.start()
    return self

  def __exit__(self, *exc_info) -> None:
    signal.set_wakeup_fd(self._previous_wakeup)
    self._wakeup.close()  # which ends the thread
    self._thread.join()  # it sets the default action, which must not come after the next lines
    for signum, previous in self._previous.items():
      signal.signal(signum, previous)
      around = getattr(previous, "__self__", None)
      if self.requested and isinstance(around, Preemption):  # a recipe's, around that of a stage
        around.requested = True

  def _handle(self, signum: int, frame: FrameType | None) -> None:
    del frame
    self.requested = True
    signal.signal(signum, signal.SIG_DFL)


def _pass_on(signum: int, frame: FrameType | None) -> None:
  del frame
  signal.signal(signum, signal.SIG_DFL)
  os.kill(os.getpid(), signal.SIGTERM)


def _answer(arrivals: socket.socket, signums: set[int]) -> None:
  """Answers each first signal of a kind at once.

  Args:
    arrivals: gives the number of each signal as a byte; this ends when the other end is closed.
    signums: the signals to answer.
  """
  action = ctypes.CDLL(None).signal  # Python's own may be called by the main thread only
  action.argtypes, action.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
  with arrivals:
    while arrived := arrivals.recv(1):
      signum = arrived[0]
      if signum in signums:
        signums.remove(signum)
        name = "Ctrl-C" if signum == signal.SIGINT else signal.Signals(signum).name
        text = f"{name}: stopping after this step with a checkpoint; a second {name} ends the run at once\n"
        os.write(2, text.encode())
        action(signum, None)  # None is SIG_DFL


def _joined() -> bool:
  """Tells whether this process has joined others.

  It touches no device. JAX is imported only when this is called.
  """
  import jax

  return jax.distributed.is_initialized()
