"""Starts, calls and kills a child process that runs reward functions; the child runs `worker_main.py`.

It has no signal handlers and no threads of its own, so it can be used from any thread. The child runs under a
supervisor (`parallel.supervisor`), so that whatever a function started ends with it.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from posttrain_jax.parallel.supervisor import Supervised
from posttrain_jax.rewards import worker_main
from posttrain_jax.types import InputError

TIMED_OUT = "timed out after"  # how the failure of a call that ran out of time begins
_EXIT_SECONDS = 2.0  # time in which a child that closed its connection may end by itself and tell how
_REPLY_BYTES, _REPLY_BYTES_EACH = 1 << 16, 64  # a reply is not longer: an error is 500 characters, a number 25
_OUT_OF_STEP = "its process wrote something else than the reply to this request"


class WorkerProcess:
  """Holds a child process that makes one call at a time.

  Requests have numbers, and a reply has its request's. After a failure the child is killed, and the next call starts a
  new one. It is a failure, too, if anything else is on the connection than the one reply to the last request.

  Attributes:
    failures: how often a child had to be killed or was found dead.
  """

  def __init__(self, functions: Sequence[tuple[str, Mapping[str, Any]]], start_seconds: float):
    """Starts nothing yet.

    Args:
      functions: path and options of each reward function.
      start_seconds: time limit for starting the child and importing the functions.
    """
    self.failures = 0
    self._functions = functions
    self._start_seconds = start_seconds
    self._lock = threading.Lock()
    self._child: Supervised | None = None
    self._channel: socket.socket | None = None
    self._requests = 0
    self._closed = False

  def start(self) -> None:
    """Starts the child and loads the functions.

    Raises:
      InputError: if a function cannot be loaded with its options, or the options are not JSON values.
      RuntimeError: if the process is closed.
    """
    with self._lock:
      self._start()

  def _start(self) -> None:
    load = [[path, dict(options)] for path, options in self._functions]
    try:
      request = json.dumps({"load": load, "sys_path": sys.path})
    except TypeError as error:
      raise InputError(f"reward functions: options are {[options for _, options in load]}; expected JSON") from error
    self._channel, childs_channel = socket.socketpair()
    # A reward function that imports jax must not take the accelerator. What functions print goes to stderr.
    with childs_channel:
      self._child = Supervised(
        [sys.executable, "-P", worker_main.__file__, str(childs_channel.fileno())],
        pass_fds=[childs_channel.fileno()],
        stdin=subprocess.DEVNULL,
        stdout=2,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
      )
    if self._closed:
      self._kill()
      raise RuntimeError("the reward workers are closed")
    reply, failure = self._exchange(request, _is_load_reply, _REPLY_BYTES, self._start_seconds)
    if reply is None:
      self._kill()
      paths = ", ".join(repr(path) for path, _ in self._functions)
      raise InputError(
        f"reward functions {paths}: {failure} while loading; expected them to load and take an empty batch"
      )
    if "error" in reply:
      self._kill()
      raise InputError(f"reward function {self._functions[reply['function']][0]!r}: {reply['error']}")

  def call(
    self, function: int, texts: Sequence[str], rows: Sequence[Mapping[str, Any]], seconds: float
  ) -> tuple[list[float | None] | None, str]:
    """Calls function number `function` in the child, within `seconds`.

    Returns:
      as `worker_main.call_function`; (None, why) also if the child timed out, died or wrote something else.

    Raises:
      InputError: if a row holds a value that is not JSON.
      RuntimeError: if the process is closed.
    """
    request, most = _encode(function, texts, rows), _REPLY_BYTES + _REPLY_BYTES_EACH * len(texts)
    with self._lock:
      if self._closed:
        raise RuntimeError("the reward workers are closed")
      if self._child is not None and self._something_to_read():
        self._fail()  # it wrote something after its last reply, or ended
      if self._child is None:
        self._start()
      reply, failure = self._exchange(request, lambda found: _is_call_reply(found, len(texts)), most, seconds)
      if reply is None:
        self._fail()
        return None, failure
    return reply.get("rewards"), reply.get("error", reply.get("note", ""))

  def _exchange(
    self, request: str, is_reply: Callable[[Any], bool], most: int, seconds: float
  ) -> tuple[dict[str, Any] | None, str]:
    """Sends a request and reads its reply, of at most `most` bytes.

    Returns:
      (reply, ""); or (None, why), after which the child must be killed.
    """
    self._requests += 1
    try:
      line = self._send_and_read(f"{self._requests} {request}\n".encode(), most, seconds)
    except TimeoutError:
      return None, f"{TIMED_OUT} {seconds:g} s"
    except OSError:
      if self._closed:
        raise RuntimeError("the reward workers are closed") from None
      return None, self._how_it_ended()
    number, _, reply = line.partition(b" ")
    try:
      found = json.loads(reply)
    except (ValueError, RecursionError):
      found = None
    if number != b"%d" % self._requests or not isinstance(found, dict) or not is_reply(found):
      return None, _OUT_OF_STEP
    return (None, _OUT_OF_STEP) if self._something_to_read() else (found, "")

  def _send_and_read(self, request: bytes, most: int, seconds: float) -> bytes:
    """Sends a line and reads what comes, up to a line's end or `most` bytes.

    Raises:
      TimeoutError: if that takes longer than `seconds`.
      OSError: if the connection ends.
    """
    deadline = time.monotonic() + seconds
    self._channel.settimeout(seconds)
    self._channel.sendall(request)
    line = bytearray()
    while not line.endswith(b"\n") and len(line) < most:
      self._channel.settimeout(max(deadline - time.monotonic(), 1e-3))
      part = self._channel.recv(1 << 16)
      if not part:
        raise ConnectionResetError
      line += part
    return bytes(line)

  def _something_to_read(self) -> bool:
    """Tells whether the child wrote anything, or closed the connection."""
    self._channel.setblocking(False)
    try:
      self._channel.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
      return False
    except OSError:  # the connection ended
      pass
    return True

  def _how_it_ended(self) -> str:
    """Says how a child ended whose connection has ended."""
    try:
      code = self._child.process.wait(_EXIT_SECONDS)
    except subprocess.TimeoutExpired:
      code = worker_main.CONNECTION_LOST
    if code == worker_main.CONNECTION_LOST:
      return "the function closed its process's connection"
    return f"its process died with {_exit_text(code)}"

  def _fail(self) -> None:
    self.failures += 1
    self._kill()

  def _kill(self) -> None:
    """Kills the child and whatever it started. The caller holds the lock."""
    child, self._child = self._child, None
    if child is not None:
      child.end()
      self._channel.close()

  def close(self) -> None:
    """Kills the child at once; a call under way in another thread raises RuntimeError."""
    self._closed = True
    child = self._child
    if child is not None:
      child.request_end()  # a call under way in another thread sees its connection end and releases the lock
    with self._lock:
      self._kill()


def _is_load_reply(reply: Mapping[str, Any]) -> bool:
  return reply.get("loaded") is True or (isinstance(reply.get("error"), str) and isinstance(reply.get("function"), int))


def _is_call_reply(reply: Mapping[str, Any], answers: int) -> bool:
  if "error" in reply:
    return isinstance(reply["error"], str) and "rewards" not in reply
  rewards = reply.get("rewards")
  if not isinstance(reply.get("note", ""), str):
    return False
  return isinstance(rewards, list) and len(rewards) == answers and all(map(_is_reward, rewards))


def _is_reward(value: Any) -> bool:
  return value is None or (isinstance(value, int | float) and not abs(value) > sys.float_info.max)


def _exit_text(code: int) -> str:
  return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


def _encode(function: int, texts: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
  try:
    return json.dumps({"function": function, "texts": list(texts), "rows": [dict(row) for row in rows]})
  except (TypeError, ValueError):
    for row in rows:
      for column, value in row.items():
        try:
          json.dumps(value)
        except (TypeError, ValueError):
          raise InputError(f"data row: column {column!r} is {value!r:.80}; expected a JSON value") from None
    raise
