"""Brings what other threads deliver to the server's loop."""

import asyncio
import threading
from typing import Any

# An engine reports the pieces of all its slots at once. If each woke the loop up, the thread that delivers them would
# wait for the loop's after each of them, since only one of Python's threads runs at a time.
_GATHER_SECONDS = 0.002


class Mailbox:
  """Gathers what comes within a moment, and hands it out in the loop, in its order."""

  def __init__(self, loop: asyncio.AbstractEventLoop):
    """Takes the loop in which it hands out."""
    self._loop, self._lock = loop, threading.Lock()
    self._came: list[tuple[asyncio.Queue, Any]] = []

  def put(self, queue: asyncio.Queue, item: Any) -> None:
    """Puts an item into one of the loop's queues a moment later.

    It may be called from any thread. After the end of the loop nothing happens.
    """
    with self._lock:
      self._came.append((queue, item))
      is_first = len(self._came) == 1
    if is_first and not self._loop.is_closed():
      self._loop.call_soon_threadsafe(self._loop.call_later, _GATHER_SECONDS, self._hand_out)

  def _hand_out(self) -> None:
    with self._lock:
      came, self._came = self._came, []
    for queue, item in came:
      queue.put_nowait(item)
