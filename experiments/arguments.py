"""Reads what stands on a command line about a config, before absl does.

absl takes a misspelt field in silence, wraps what a config file raises into long messages, and names no field in those
about types. Here each of these mistakes is one line that names the field, what was found and what was expected.
"""

import difflib
import os
import pathlib
import re
import runpy
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

import ml_collections
from absl import flags

from experiments import config_entries
from posttrain_jax.local_path import local_path

CONFIGS = pathlib.Path(__file__).resolve().parents[1] / "configs"


class UsageError(Exception):
  """Says in one line what is wrong with the command line."""


def option(args: Sequence[str], name: str) -> str | None:
  """Returns the last value of an option, `--name=value` or `--name value`; None without one."""
  found = None
  for index, arg in enumerate(args):
    if arg == "--":
      break
    if arg in (f"--{name}", f"-{name}"):
      if index + 1 == len(args):
        raise UsageError(f"--{name}: found no value, expected one")
      found = args[index + 1]
    elif arg.startswith((f"--{name}=", f"-{name}=")):
      found = arg.split("=", 1)[1]
  return found


def without_option(args: Sequence[str], name: str) -> list[str]:
  """Returns the arguments without an option, whose value may be an argument of its own."""
  left, rest = [], list(args)
  while rest:
    arg = rest.pop(0)
    if arg == "--":
      return [*left, arg, *rest]
    if arg in (f"--{name}", f"-{name}"):
      rest.pop(0)
    elif not arg.startswith((f"--{name}=", f"-{name}=")):
      left.append(arg)
  return left


def options(args: Sequence[str]) -> Iterator[tuple[str, str | None]]:
  """Yields (name, value) of each option before a bare `--`.

  If a value is None, it may be the next argument.
  """
  for arg in args[1:]:
    if arg == "--":
      return
    match = re.fullmatch(r"--?([A-Za-z][^=]*)(?:=(.*))?", arg, re.DOTALL)
    if match:
      yield match[1], match[2]


def expanded(arg: str, name: str = "config") -> str:
  """Expands `~` in --NAME=FILE.py[:arg], which the shell leaves, and finds the package's own configs/NAME.py."""
  match = re.fullmatch(rf"(--?{name}=)([^:]*)(.*)", arg, re.DOTALL)
  if match is None:
    return arg
  local_path(match[2] + match[3], f"--{name}")  # refuses gs://
  file = local_path(match[2], f"--{name}")
  own = CONFIGS.parent / file
  if not file.exists() and file.parts[:1] == (CONFIGS.name,) and own.is_file():
    file = own  # the package's own config, named as in the documentation, from another directory
  return f"{match[1]}{file}{match[3]}"


def load(argument: str, name: str = "config") -> tuple[ml_collections.ConfigDict, dict[str, Any]]:
  """Loads `FILE.py[:arg]`: its config without overrides, and the names that it defines.

  absl would wrap what the file raises into long messages.
  """
  path, *arg = argument.split(":", 1)
  path = os.path.expanduser(path)
  if os.path.isdir(path):
    raise UsageError(f"--{name}={argument}: {path} is a directory, expected a file FILE.py")
  if not os.path.isfile(path):
    raise UsageError(f"--{name}={argument}: there is no file {path}")
  _look_for_modules_in(os.getcwd())
  _look_for_modules_in(os.path.dirname(path))
  try:
    module = runpy.run_path(path)
    if "get_config" not in module:
      raise UsageError(f"{path}: found no function get_config, expected one that returns ml_collections.ConfigDict")
    config = module["get_config"](*arg)
  except UsageError:
    raise
  except Exception as error:  # the file may raise anything
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else 1
    raise UsageError(f"{path}:{line}: {type(error).__name__}: {error}") from error
  if not isinstance(config, ml_collections.ConfigDict):
    raise UsageError(f"{path}: get_config returned {type(config).__name__}, expected ml_collections.ConfigDict")
  return config, module


def _look_for_modules_in(folder: str) -> None:
  """Lets Python find modules in a folder too, after all others."""
  if os.path.abspath(folder) not in map(os.path.abspath, sys.path):
    sys.path.append(os.path.abspath(folder))


def flatten(config: ml_collections.ConfigDict, prefix: str = "") -> dict[str, Any]:
  """Returns dotted name → value of every field that is not a group."""
  fields = {}
  for name in config:
    value = config[name]
    is_group = isinstance(value, ml_collections.ConfigDict)
    fields |= flatten(value, f"{prefix}{name}.") if is_group else {f"{prefix}{name}": value}
  return fields


def check_overrides(args: Sequence[str], base: ml_collections.ConfigDict) -> None:
  """Refuses a `--config.x.y` that is no field and names the closest one; absl does not."""
  fields = flatten(base)
  for name, _ in options(args):
    field = re.sub(r"^(no)?config\.", "", name)
    if field == name:
      continue
    sequence, index = re.fullmatch(r"(.*?)(?:\[(\d+)\])?", field).groups()
    if sequence not in fields:
      if any(known.startswith(f"{field}.") for known in fields):
        raise UsageError(f"--config.{field}: is a group of fields, expected one of them, --config.{field}.NAME=value")
      close = difflib.get_close_matches(field, fields, n=1, cutoff=0.0)
      raise UsageError(
        f"--config.{field}: there is no such config field, the closest is {', '.join(close) or 'none'}"
        f"{config_entries.hint(field)}"
      )
    if index is not None and not (isinstance(fields[sequence], list) and int(index) < len(fields[sequence])):
      raise UsageError(f"--config.{field}: found an index, expected --config.{sequence}=value with the whole value")
    if _field_type(base, sequence) is type(None):
      raise UsageError(f"--config.{field}: is None in the config file and has no type, expected a placeholder there")


def check_elements(base: ml_collections.ConfigDict, config: ml_collections.ConfigDict) -> None:
  """Refuses elements of another type than in the config file; absl checks the sequence only."""
  before = flatten(base)
  for name, value in flatten(config).items():
    if isinstance(value, (tuple, list)) and len({type(item) for item in before[name] or ()}) == 1:
      expected = type(before[name][0])
      for item in value:
        if type(item) is not expected and (expected, type(item)) != (float, int):
          raise UsageError(f"--config.{name}={value}: found {item!r}, expected {expected.__name__}")


def wrong_type(error: flags.IllegalFlagValueError, base: ml_collections.ConfigDict) -> Exception:
  """Rewords absl's error about a value, with the type of the config field."""
  match = re.match(r"flag --config\.([^=]+)=(.*?): ", str(error), re.DOTALL)
  if match is None or match[1] not in flatten(base):
    return error
  return UsageError(f"--config.{match[1]}: found {match[2]!r}, expected {_field_type(base, match[1]).__name__}")


def _field_type(base: ml_collections.ConfigDict, name: str) -> type:
  """Returns the type of a field; of a placeholder its declared type."""
  *groups, last = name.split(".")
  for group in groups:
    base = base[group]
  return base.get_type(last)
