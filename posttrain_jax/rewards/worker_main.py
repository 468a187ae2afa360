"""Runs in a reward worker: loads reward functions, then scores batches until it is killed.

It is started as a file, not as a module, and imports the standard library only, so that a start takes tens of
milliseconds. `worker_process.py` is the other end. The messages are JSON, one on each line:

    {"load": [[path, options], ...], "sys_path": [...]}      → {"loaded": true} or {"error": text, "function": i}
    {"function": i, "texts": [...], "rows": [...]}           → {"rewards": [number or null, ...]} or {"error": text}
"""

import contextlib
import difflib
import fcntl
import importlib
import inspect
import json
import math
import os
import select
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any


class LoadError(Exception):
  """Says in one line why a reward function cannot be used."""


def load_function(path: str, options: Mapping[str, Any]) -> Callable[..., Sequence[float]]:
  """Loads the function named "module:function" and checks it.

  The function must take `options` and is called once with an empty batch. That call finds wrong option values, and does
  slow imports before a time limit runs.

  Raises:
    LoadError: if the function cannot be imported, does not take these options, or fails on an empty batch.
  """
  module_name, separator, name = path.partition(":")
  if not (separator and module_name and name):
    raise LoadError("expected 'module:function'")
  try:
    module = importlib.import_module(module_name)
  except (Exception, SystemExit) as error:
    raise LoadError(f"cannot import {module_name}: {describe(error)}") from error
  function = getattr(module, name, None)
  if not callable(function):
    close = difflib.get_close_matches(name, [key for key in vars(module) if callable(getattr(module, key))], n=1)
    raise LoadError(f"{module_name} has no function {name!r}" + (f"; did you mean {close[0]!r}?" if close else ""))
  try:
    inspect.signature(function).bind([], [], **options)
  except TypeError as error:
    raise LoadError(f"does not take (texts, rows, **{dict(options)}): {error}") from error
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
    (rewards, ""): a finite float or None for each text; or (None, error) if the call failed.
  """
  try:
    rewards = [_finite(reward) for reward in function(texts, rows, **options)]
  except (Exception, SystemExit) as error:
    return None, describe(error)
  if len(rewards) != len(texts):
    return None, f"returned {len(rewards)} rewards for {len(texts)} answers"
  return rewards, ""


def describe(error: BaseException) -> str:
  """Describes an exception in one line, with the file and line that raised it."""
  frames = inspect.getinnerframes(error.__traceback__, context=0)
  place = f" ({os.path.basename(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""
  return " ".join(f"{type(error).__name__}: {error}"[:500].split()) + place


def _finite(reward: Any) -> float | None:
  if reward is None or isinstance(reward, str | bytes):
    return None
  try:
    value = float(reward)
  except (TypeError, ValueError, OverflowError):
    return None
  return value if math.isfinite(value) else None


def _die_with_parent(lifeline: int) -> None:
  """Ends this process and its children when the parent's end of the pipe `lifeline` closes.

  The kernel then sends SIGIO to the process group, which ends it by default. This works however the parent dies. It
  also works while a verifier holds the interpreter's lock, when a watching thread would not run. (PR_SET_PDEATHSIG
  would fire when the parent's thread that started this process ends, not when the parent ends.)
  """
  fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
  fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
  if select.select([lifeline], [], [], 0)[0]:  # it was closed before the lines above took effect
    os._exit(1)


def _be_the_first_to_go() -> None:
  """Makes the kernel end this process before the training process if memory runs out."""
  with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # only Linux has this file
    file.write("1000")


def _serve(channel: socket.socket) -> None:
  functions = []
  with channel.makefile("r", encoding="utf-8") as requests:
    for line in requests:
      request = json.loads(line)
      if "load" in request:
        sys.path[:] = request["sys_path"]
        response: dict[str, Any] = {"loaded": True}
        for index, (path, options) in enumerate(request["load"]):
          try:
            functions.append((load_function(path, options), options))
          except LoadError as error:
            response = {"error": str(error), "function": index}
            break
      else:
        function, options = functions[request["function"]]
        rewards, error = call_function(function, options, request["texts"], request["rows"])
        response = {"error": error} if rewards is None else {"rewards": rewards}
      channel.sendall(json.dumps(response).encode() + b"\n")


if __name__ == "__main__":
  _die_with_parent(lifeline=int(sys.argv[2]))
  _be_the_first_to_go()
  _serve(socket.socket(fileno=int(sys.argv[1])))
