"""Parses a config into frozen records, once.

A method has one record with a field for every field of its config; a group of fields is a record of its own, next to
the code that uses it. After `parse` nothing reads a `ConfigDict`. So a mistyped field, a missing one and a config of
another method end the run before anything is loaded.
"""

import contextlib
import dataclasses
import difflib
import enum
import re
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import ml_collections

from posttrain_jax.types import InputError

Record = TypeVar("Record")
_LEAST, _TAKEN_FROM = "at_least", "taken_from"


def at_least(bound: int) -> Any:
  """Declares a field of a record whose number must not be below a bound."""
  return dataclasses.field(metadata={_LEAST: bound})


def parse(record: type[Record], config: Mapping[str, Any] | ml_collections.ConfigDict, where: str = "") -> Record:
  """Makes a frozen record from a config, or from one of its groups.

  A field of the record that has a default may be missing in the config. A field whose metadata has `taken_from` is not
  in the config's group: its value is that of the named field of the whole config, such as
  "rollout.sampling.temperature". A record with a class method `from_section(section, where)` reads its group itself.

  Args:
    record: the dataclass. Enums, nested records, tuples and mappings of records are converted.
    config: the config or the group.
    where: the group's dotted name, for messages; empty for a whole config.

  Raises:
    InputError: if a field is unknown, missing, of another type or out of range, or if the record refuses its value.
  """
  return _build(record, config, where, config)


def as_config(record: Any) -> dict[str, Any]:
  """Returns the config of a record as a nested dictionary of JSON values and tuples."""
  if hasattr(record, "to_section"):
    return record.to_section()
  found = {}
  for field in dataclasses.fields(record):
    value = getattr(record, field.name)
    if _TAKEN_FROM in field.metadata or (value is None and field.default is None):
      continue
    found[field.name] = _plain(value)
  return found


def convert(expected: Any, value: Any, where: str) -> Any:
  """Returns a config value as the type that a record's field has.

  Raises:
    InputError: if the value is of another type.
  """
  return _convert(expected, value, where, {})


@contextlib.contextmanager
def naming(section: str, record: Any) -> Iterator[None]:
  """Names the fields of a section in full in messages: `optimizer.b2` becomes `warmup.optimizer.b2`.

  Args:
    section: the section's dotted name.
    record: the section. A message that does not begin with a field of it stays as it is.
  """
  try:
    yield
  except InputError as error:
    if _names_field(re.match(r"[a-z_.]*", str(error))[0], record):
      raise InputError(f"{section}.{error}") from None
    raise


def _names_field(name: str, record: Any) -> bool:
  for part in name.split("."):
    if not dataclasses.is_dataclass(record):
      break
    if part not in {field.name for field in dataclasses.fields(record)}:
      return False
    record = getattr(record, part)
  return True


def _build(record: type[Record], section: Any, where: str, config: Any) -> Record:
  if hasattr(record, "from_section"):
    return record.from_section(section, where)
  hints = typing.get_type_hints(record)
  fields = {field.name: field for field in dataclasses.fields(record)}
  known = [name for name, field in fields.items() if _TAKEN_FROM not in field.metadata]
  prefix = f"{where}." if where else ""
  values = {}
  if not where:
    _check_method(record, section, fields)
  for name, value in section.items():
    if name in fields and name not in known:
      raise InputError(f"{prefix}{name}: unknown, it is the field {fields[name].metadata[_TAKEN_FROM]}")
    if name not in known:
      raise InputError(f"{prefix}{name}: unknown, {_expected(name, known)}")
    values[name] = _convert(hints[name], value, prefix + name, config)
    _check_bound(fields[name], values[name], prefix + name)
  for name, field in fields.items():
    if _TAKEN_FROM in field.metadata:
      source = field.metadata[_TAKEN_FROM]
      values[name] = _convert(hints[name], _field_of(config, source), source, config)
    elif name not in values and field.default is field.default_factory is dataclasses.MISSING:
      raise InputError(f"{prefix}{name}: missing, expected {_name(hints[name])}")
  try:
    return record(**values)
  except InputError as error:  # a record names itself as it is named in most configs
    outer, _, own = where.rpartition(".")
    if outer and re.match(rf"{re.escape(own)}[.:]", str(error)):
      raise InputError(f"{outer}.{error}") from None
    raise


def _check_method(record: type[Record], config: Any, fields: Mapping[str, dataclasses.Field]) -> None:
  """Refuses a whole config that has other groups than the record, as another method's has."""
  needed = {name for name, field in fields.items() if field.default is field.default_factory is dataclasses.MISSING}
  unknown, missing = set(config) - set(fields), needed - set(config)
  if len(unknown) > 1 and len(missing) > 1:
    raise InputError(
      f"{', '.join(sorted(unknown))}: unknown, and {', '.join(sorted(missing))}: missing; the config seems to be of "
      f"another method, expected one of {record.__name__}"
    )


def _convert(expected: Any, value: Any, where: str, config: Any) -> Any:
  if isinstance(expected, types.UnionType):  # X | None
    if value is None:
      return None
    (expected,) = (option for option in typing.get_args(expected) if option is not types.NoneType)
  origin = typing.get_origin(expected)
  if dataclasses.is_dataclass(expected) or origin is Mapping:
    if not isinstance(value, Mapping | ml_collections.ConfigDict):
      raise InputError(f"{where}: {value!r}, expected a group of fields ({_name(expected)})")
    if origin is not Mapping:
      return _build(expected, value, where, config)
    item = typing.get_args(expected)[1]
    return {name: _convert(item, each, f"{where}.{name}", config) for name, each in value.items()}
  if origin is tuple:
    if not isinstance(value, tuple | list):
      raise InputError(f"{where}: {value!r}, expected a sequence")
    item = typing.get_args(expected)[0]
    return tuple(_convert(item, each, where, config) for each in value)
  if isinstance(expected, type) and issubclass(expected, enum.Enum):
    try:
      return expected(value)
    except ValueError:
      raise InputError(f"{where}: {value!r}, expected one of {', '.join(str(e.value) for e in expected)}") from None
  if expected is float and isinstance(value, int) and not isinstance(value, bool):
    return float(value)
  if expected in (int, float, str, bool) and type(value) is not expected:
    raise InputError(f"{where}: {value!r}, expected {expected.__name__}")
  if expected is Any and isinstance(value, ml_collections.ConfigDict):
    return value.to_dict()
  return value


def _check_bound(field: dataclasses.Field, value: Any, where: str) -> None:
  if _LEAST in field.metadata and value < field.metadata[_LEAST]:
    raise InputError(f"{where}: {value}, expected at least {field.metadata[_LEAST]}")


def _field_of(config: Any, name: str) -> Any:
  for part in name.split("."):
    if part not in config:
      raise InputError(f"{name}: missing in the config")
    config = config[part]
  return config


def _expected(name: str, known: list[str]) -> str:
  close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
  if close:
    return f"the closest is {close[0]}"
  return f"expected one of {', '.join(sorted(known))}" if len(known) < 20 else "and none with a name like it"


def _name(hint: Any) -> str:
  return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "").replace("collections.abc.", "")


def _plain(value: Any) -> Any:
  if dataclasses.is_dataclass(value):
    return as_config(value)
  if isinstance(value, enum.Enum):
    return value.value
  if isinstance(value, Mapping):
    return {name: _plain(item) for name, item in value.items()}
  if isinstance(value, tuple | list):
    return tuple(map(_plain, value))
  return value
