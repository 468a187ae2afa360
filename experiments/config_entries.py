"""Adds and removes entries of a config's open sections, as flags ask.

Most sections of a config have fixed fields. Open are those whose entries have names that a user gives: reward functions
(`rewards.functions`), evaluation sets (`eval.sets`), options of functions (`options`, `advantage_options`, ...),
`chat_arguments`, `logging.console`, and the bounds of a recipe's gates (`may_fall`, `may_rise`). RULES is what a user
is told about them.
"""

import ast
import copy
import re
from collections.abc import Iterator, Sequence

from ml_collections import ConfigDict

RULES = """Flags add and remove entries of rewards.functions, eval.sets, logging.console, options, chat_arguments and
may_fall and may_rise of a recipe's gates:
  --config.rewards.functions.NAME.function=MODULE:FUNCTION   adds or changes one; FILE.py:FUNCTION is one, too
                                 a changed function starts without options: --config....NAME.options.OPTION=VALUE
  --config.eval.sets.NAME.prompts.path=FILE                  adds a set that is otherwise a copy of one that is there
  --config.SECTION.NAME=None                                 removes the entry NAME
  --config.SECTION={}                                        removes all entries
Modules and files are looked for in the current directory and beside the config file."""

_FUNCTIONS, _SETS = ("rewards", "functions"), ("eval", "sets")
_BOUNDS = ("may_fall", "may_rise")  # measures to how much they may fall or rise
_OF_FUNCTIONS = ("options", "chat_arguments")  # keyword arguments of a function, variables of a chat template


class EntryError(Exception):
  """Says in one line why an entry cannot be added or removed."""


class _Override:
  """Holds one `--config.x.y=value` of the command line.

  Attributes:
    path: the names x, y.
    value: the text; None without one.
    places: positions of the option, and of its value if that is an argument of its own.
  """

  def __init__(self, path: list[str], value: str | None, places: range):
    self.path, self.value, self.places = path, value, places


def apply(args: Sequence[str], config: ConfigDict) -> tuple[list[str], list[str]]:
  """Adds and removes what options ask for, in the config itself.

  Args:
    args: program name and arguments.
    config: as its file gives it.

  Returns:
    (the arguments that are left to parse, notes for the user).

  Raises:
    EntryError: if an entry that is to be removed does not exist, or a set is added where there is none to copy.
  """
  overrides, notes = list(_overrides(args)), []
  done: set[int] = set()
  with config.unlocked():
    for each in overrides:
      if _is_open(each.path[:-2], _FUNCTIONS) and each.path[-1] == "function":
        notes += _set_function(config, each)
      place = each.path.index("prompts") if "prompts" in each.path else 0
      if place and _is_open(each.path[: place - 1], _SETS):
        _add_set(config, each.path[:place])
    for each in overrides:
      if (each.value == "None" and _is_open(each.path[:-1])) or (each.value == "{}" and _is_open(each.path)):
        _remove(config, each)
        done.update(each.places)
    for each in overrides:
      section = _section(config, each.path[:-1])
      if each.value is None or section is None or done.issuperset(each.places):
        continue
      if _is_open(each.path[:-1]) and not _is_open(each.path[:-1], _FUNCTIONS, _SETS) and each.path[-1] not in section:
        section[each.path[-1]] = _literal(each.value)
        done.update(each.places)
  return [arg for place, arg in enumerate(args) if place not in done], notes


def hint(field: str) -> str:
  """Says how to add the entry that a field seems to be part of.

  It is empty for a field of another section.
  """
  path = field.split(".")
  for end in range(2, len(path)):
    if _is_open(path[:end], _FUNCTIONS):
      return f"; a new one needs --config.{'.'.join(path[: end + 1])}.function=MODULE:FUNCTION"
    if _is_open(path[:end], _SETS):
      return f"; a new one needs --config.{'.'.join(path[: end + 1])}.prompts.path=FILE"
  return ""


def _overrides(args: Sequence[str]) -> Iterator[_Override]:
  for place, arg in enumerate(args[1:], start=1):
    if arg == "--":
      return
    match = re.fullmatch(r"--?config\.([^=]+)(?:=(.*))?", arg, re.DOTALL)
    if match and match[2] is not None:
      yield _Override(match[1].split("."), match[2], range(place, place + 1))
    elif match:
      value = args[place + 1] if place + 1 < len(args) and not args[place + 1].startswith("--") else None
      yield _Override(match[1].split("."), value, range(place, place + 1 + (value is not None)))


def _is_open(path: Sequence[str], *kinds: tuple[str, str]) -> bool:
  """Tells whether a path is that of an open section, of these kinds or of any."""
  if tuple(path[-2:]) in (kinds or (_FUNCTIONS, _SETS)):
    return True
  if kinds or not path:
    return False
  return path[-1].endswith(_OF_FUNCTIONS) or path[-1] in _BOUNDS or list(path[-2:]) == ["logging", "console"]


def _section(config: ConfigDict, path: Sequence[str]) -> ConfigDict | None:
  for name in path:
    if not isinstance(config, ConfigDict) or name not in config:
      return None
    config = config[name]
  return config if isinstance(config, ConfigDict) else None


def _set_function(config: ConfigDict, override: _Override) -> list[str]:
  """Adds a function, or changes an existing one.

  It returns a note on the options that go.
  """
  *path, name, _ = override.path
  functions = _section(config, path)
  if functions is None:
    return []
  if name not in functions:
    functions[name] = ConfigDict(dict(function="", weight=1.0, options={}, lowest=0.0))
  entry, dropped = functions[name], {}
  if entry.function not in ("", override.value):
    dropped, entry.options = entry.options.to_dict(), ConfigDict()
  named = ", ".join(f"{option}={value!r}" for option, value in dropped.items())
  where = f"--config.{'.'.join([*path, name])}"
  return [f"{where}.function: without {named} of the function before; see {where}.options.NAME=VALUE"] if named else []


def _add_set(config: ConfigDict, path: Sequence[str]) -> None:
  sets = _section(config, path[:-1])
  if sets is None or path[-1] in sets:
    return
  if not len(sets):
    raise EntryError(f"--config.{'.'.join(path)}: the config has no evaluation set whose other fields it could copy")
  sets[path[-1]] = copy.deepcopy(sets[next(iter(sets))])


def _remove(config: ConfigDict, override: _Override) -> None:
  path = override.path if override.value == "{}" else override.path[:-1]
  section, field = _section(config, path), ".".join(override.path)
  if section is None or (override.value == "None" and override.path[-1] not in section):
    known = ", ".join(section) if section is not None else "none"
    raise EntryError(f"--config.{field}={override.value}: there is no such entry to remove, expected one of: {known}")
  for name in list(section) if override.value == "{}" else override.path[-1:]:
    del section[name]


def _literal(text: str) -> object:
  """Returns the value of a new option, which has no type yet.

  It is a literal of Python, or else the text.
  """
  try:
    return {"true": True, "false": False}[text] if text in ("true", "false") else ast.literal_eval(text)
  except (ValueError, SyntaxError, MemoryError, RecursionError):
    return text
