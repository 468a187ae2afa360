"""Starts, calls and kills a child process that runs reward functions; the child runs `worker_main.py`.

It has no signal handlers and no threads of its own, so it can be used from any thread.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from posttrain_jax.rewards import worker_main
from posttrain_jax.types import InputError


class WorkerProcess:
  """Holds a child process that makes one call at a time.

  After a failure the child is killed, and the next call starts a new one.

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
    self._process: subprocess.Popen | None = None
    self._channel: socket.socket | None = None
    self._lifeline: int | None = None
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
    self._channel, child_channel = socket.socketpair()
    child_lifeline, self._lifeline = os.pipe()
    # Without preexec_fn, Popen runs no Python between fork and exec, so JAX's threads are no danger. A session of its
    # own makes the child a process group that can be killed as a whole, and keeps Ctrl-C from it. A reward function
    # that imports jax must not take the accelerator. What functions print goes to stderr.
    self._process = subprocess.Popen(
      [sys.executable, "-P", worker_main.__file__, str(child_channel.fileno()), str(child_lifeline)],
      pass_fds=[child_channel.fileno(), child_lifeline],
      stdin=subprocess.DEVNULL,
      stdout=2,
      start_new_session=True,
      env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    child_channel.close()
    os.close(child_lifeline)
    if self._closed:
      self._kill()
      raise RuntimeError("the reward workers are closed")
    response, failure = self._exchange(request, self._start_seconds)
    if response is None:
      code = self._kill()
      paths = ", ".join(repr(path) for path, _ in self._functions)
      why = failure or f"their process died with {_exit_text(code)}"
      raise InputError(f"reward functions {paths}: {why} while loading; expected them to load and take an empty batch")
    if "error" in response:
      self._kill()
      raise InputError(f"reward function {self._functions[response['function']][0]!r}: {response['error']}")

  def call(
    self, function: int, texts: Sequence[str], rows: Sequence[Mapping[str, Any]], seconds: float
  ) -> tuple[list[float | None] | None, str]:
    """Calls function number `function` in the child, within `seconds`.

    Returns:
      as `worker_main.call_function`; (None, why) also if the child timed out or died.

    Raises:
      InputError: if a row holds a value that is not JSON.
      RuntimeError: if the process is closed.
    """
    request = _encode(function, texts, rows)
    with self._lock:
      if self._closed:
        raise RuntimeError("the reward workers are closed")
      if self._process is None:
        self._start()
      response, failure = self._exchange(request, seconds)
      if response is None:
        self.failures += 1
        code = self._kill()
        return None, failure or f"its process died with {_exit_text(code)}"
    return response.get("rewards"), response.get("error", "")

  def _exchange(self, request: str, seconds: float) -> tuple[dict[str, Any] | None, str]:
    """Sends one line and reads one.

    Returns:
      (response, ""); or (None, why), after which the child must be killed. `why` is empty if the connection ended,
      nearly always because the child died.
    """
    deadline = time.monotonic() + seconds
    response = bytearray()
    try:
      self._channel.settimeout(seconds)
      self._channel.sendall(request.encode() + b"\n")
      while not response.endswith(b"\n"):
        self._channel.settimeout(max(deadline - time.monotonic(), 1e-3))
        part = self._channel.recv(1 << 16)
        if not part:
          raise ConnectionResetError
        response += part
      return json.loads(response), ""
    except TimeoutError:
      return None, f"timed out after {seconds:g} s"
    except OSError:
      if self._closed:
        raise RuntimeError("the reward workers are closed") from None
      return None, ""

  def _kill(self) -> int:
    """Kills the child and its children; returns its exit status. The caller holds the lock."""
    process, self._process = self._process, None
    if process is None:
      return 0
    _kill_group(process)
    code = process.wait()
    self._channel.close()
    os.close(self._lifeline)
    return code

  def close(self) -> None:
    """Kills the child at once; a call under way in another thread raises RuntimeError."""
    self._closed = True
    process = self._process
    if process is not None:
      _kill_group(process)  # a call under way in another thread sees its connection end and releases the lock
    with self._lock:
      self._kill()


def _kill_group(process: subprocess.Popen) -> None:
  """Kills the process group, unless its leader was already waited for."""
  if process.returncode is None:
    with contextlib.suppress(ProcessLookupError):
      os.killpg(process.pid, signal.SIGKILL)


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
