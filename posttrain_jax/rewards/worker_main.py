"""Runs in a reward worker: loads reward functions, then scores batches until it is killed.

It is started as a file, not as a module, and imports the standard library only, so that a start takes tens of
milliseconds. `worker_process.py` is the other end. A message is a line: the number of the request, a blank, JSON.

    n {"load": [[path, options], ...], "sys_path": [...]}  →  n {"loaded": true} or n {"error": text, "function": i}
    n {"function": i, "texts": [...], "rows": [...]}       →  n {"rewards": [...]} or n {"error": text}

A reward is a number, null where the function abstained, or NaN where it returned no finite number; then there is a
"note" beside the rewards that says what it returned.

Only this process speaks. One that a function forks loses the connection, and ends where it would leave the function.
"""

import contextlib
import difflib
import hashlib
import importlib
import importlib.util
import inspect
import itertools
import json
import math
import os
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

CONNECTION_LOST = 121  # exit code after a function closed the connection


class LoadError(Exception):
  """Says in one line why a reward function cannot be used."""


def load_function(path: str, options: Mapping[str, Any]) -> Callable[..., Sequence[float]]:
  """Loads the function named "module:function" or "file.py:function" and checks it.

  A relative file is looked for in the current directory, then in those of `sys.path`.

  The function must take `options` and is called once with an empty batch. That call finds wrong option values, and does
  slow imports before a time limit runs.

  Raises:
    LoadError: if the function cannot be imported, does not take these options, or fails on an empty batch.
  """
  module_name, _, name = path.rpartition(":")
  if not (module_name and name):
    raise LoadError("expected 'module:function' or 'file.py:function'")
  try:
    with _forks_end_here():
      module = _import_file(module_name) if module_name.endswith(".py") else importlib.import_module(module_name)
  except (LoadError, KeyboardInterrupt):
    raise
  except BaseException as error:
    raise LoadError(f"cannot import {module_name}: {describe(error)}") from error
  function = getattr(module, name, None)
  if not callable(function):
    close = difflib.get_close_matches(name, [key for key in vars(module) if callable(getattr(module, key))], n=1)
    raise LoadError(f"{module_name} has no function {name!r}" + (f"; did you mean {close[0]!r}?" if close else ""))
  try:
    inspect.signature(function).bind([], [], **options)
  except TypeError as error:
    raise LoadError(f"does not take (texts, rows, **{dict(options)}): {error}") from error
  except ValueError:  # some functions written in C have no signature; the empty batch tells
    pass
  rewards, error = call_function(function, options, [], [])
  if rewards is None:
    raise LoadError(f"fails on an empty batch with options {dict(options)}: {error}")
  return function


def call_function(
  function: Callable[..., Sequence[float]],
  options: Mapping[str, Any],
  texts: Sequence[str],
  rows: Sequence[Mapping[str, Any]],
) -> tuple[list[float | None] | None, str]:
  """Calls a reward function on a batch.

  Returns:
    (rewards, note): for each text a finite float, None if the function abstained, or NaN if it returned anything else;
    the note shows the first such value and is "" without one. Or (None, error) if the call failed.
  """
  most = len(texts) + 1  # a function may go on for ever
  try:
    with _forks_end_here():
      found = list(itertools.islice(iter(function(texts, rows, **options)), most))
      rewards = [_finite(reward) for reward in found]
  except KeyboardInterrupt:
    raise
  except BaseException as error:  # asyncio's CancelledError and SystemExit are no Exceptions
    return None, describe(error)
  if len(rewards) != len(texts):
    count = str(len(rewards)) if len(rewards) < most else f"more than {len(texts)}"
    return None, f"returned {count} rewards for {len(texts)} answers"
  return rewards, next((_bad_value(value) for value, reward in zip(found, rewards) if reward != reward), "")


def describe(error: BaseException) -> str:
  """Describes an exception in one line, with the file and line that raised it."""
  frames = inspect.getinnerframes(error.__traceback__, context=0)
  place = f" ({os.path.basename(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""
  try:
    text = str(error)[:500]
  except Exception:
    text = "its text cannot be shown"
  return " ".join(f"{type(error).__name__}: {text}"[:500].split()) + place


def _finite(reward: Any) -> float | None:
  """Returns a reward as a finite number, None as None, others as NaN.

  Text is no number.
  """
  if reward is None:
    return None
  try:
    value = math.nan if isinstance(reward, str | bytes | bytearray) else float(reward)
  except Exception:  # of a class of the function's own
    return math.nan
  return value if math.isfinite(value) else math.nan


def _bad_value(value: Any) -> str:
  """Says what a function returned in place of a number."""
  try:
    shown = " ".join(repr(value)[:80].split())
  except Exception:
    shown = "a value that cannot be shown"
  return f"returned {shown} ({type(value).__name__}), expected a finite number, or None to abstain"


@contextlib.contextmanager
def _forks_end_here() -> Iterator[None]:
  """Ends a process that was forked inside the block when it would leave the block.

  A function that forks and forgets to end the child would otherwise answer twice.
  """
  own, status = os.getpid(), 1
  try:
    yield
    status = 0
  except SystemExit as error:
    status = error.code if isinstance(error.code, int) else int(error.code is not None)
    raise
  finally:
    if os.getpid() != own:
      with contextlib.suppress(BaseException):
        sys.stdout.flush()
      os._exit(status & 0xFF)


def _import_file(file: str) -> types.ModuleType:
  """Imports a module from a file; twice gives the same module."""
  folders = [os.getcwd(), *sys.path]
  found = [path for folder in folders if os.path.isfile(path := os.path.join(folder, os.path.expanduser(file)))]
  if not found:
    raise LoadError(f"there is no file {file}, looked in {os.getcwd()} and the directories of sys.path")
  path = os.path.realpath(found[0])
  folder, name = os.path.dirname(path), os.path.basename(path).removesuffix(".py")
  name = f"{name}_{hashlib.sha256(path.encode()).hexdigest()[:8]}"  # never the name of a package
  if name in sys.modules:
    return sys.modules[name]
  if folder not in sys.path:
    sys.path.append(folder)  # for what it imports from beside it
  spec = importlib.util.spec_from_file_location(name, path)
  sys.modules[name] = module = importlib.util.module_from_spec(spec)
  try:
    spec.loader.exec_module(module)
  except BaseException:
    del sys.modules[name]
    raise
  return module


class _Channel:
  """Holds this process's end of the connection, which forks of this process do not get."""

  def __init__(self, descriptor: int):
    self._descriptor = descriptor
    self._identity = self._find_identity()
    os.set_inheritable(descriptor, False)
    os.register_at_fork(after_in_child=self._close)

  def _find_identity(self) -> tuple[int, ...] | None:
    try:
      return os.fstat(self._descriptor)[:3]
    except OSError:
      return None

  def _close(self) -> None:
    if self._find_identity() == self._identity:
      os.close(self._descriptor)

  def _check(self) -> None:
    """Ends this process if its descriptor is closed, or another file's by now."""
    if self._find_identity() != self._identity:
      os._exit(CONNECTION_LOST)

  def receive(self) -> tuple[int, dict[str, Any]]:
    """Waits for a request and returns its number and content.

    If the other end is closed, it ends this process.
    """
    line = bytearray()
    while not line.endswith(b"\n"):
      self._check()
      part = os.read(self._descriptor, 1 << 20)
      if not part:
        os._exit(0)
      line += part
    number, _, request = line.partition(b" ")
    return int(number), json.loads(request)

  def send(self, number: int, reply: Mapping[str, Any]) -> None:
    left = memoryview(f"{number} {json.dumps(reply)}\n".encode())
    while left:
      self._check()
      left = left[os.write(self._descriptor, left) :]


def _serve(channel: _Channel) -> None:
  functions = []
  while True:
    number, request = channel.receive()
    if "load" in request:
      sys.path[:] = request["sys_path"]
      reply: dict[str, Any] = {"loaded": True}
      for index, (path, options) in enumerate(request["load"]):
        try:
          functions.append((load_function(path, options), options))
        except LoadError as error:
          reply = {"error": str(error), "function": index}
          break
    else:
      function, options = functions[request["function"]]
      try:
        rewards, error = call_function(function, options, request["texts"], request["rows"])
      except KeyboardInterrupt as interrupt:  # raised by the function: no Ctrl-C reaches this process
        rewards, error = None, describe(interrupt)
      reply = {"error": error} if rewards is None else {"rewards": rewards} | ({"note": error} if error else {})
    channel.send(number, reply)


def _be_the_first_to_go() -> None:
  """Makes the kernel end this process before the training process if memory runs out."""
  with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # only Linux has this file
    file.write("1000")


if __name__ == "__main__":
  _be_the_first_to_go()
  try:
    _serve(_Channel(int(sys.argv[1])))
  except OSError:
    os._exit(CONNECTION_LOST)
