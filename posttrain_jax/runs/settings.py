"""From a section of the config to the frozen record that a component takes, with one clear line if it does not fit."""

import dataclasses
import enum
import types
import typing
from collections.abc import Mapping
from typing import Any

import ml_collections
from jax.sharding import Mesh

from posttrain_jax.parallel.memory import Memory
from posttrain_jax.types import InputError


def at_least(config: ml_collections.ConfigDict, least: Mapping[str, int]) -> None:
  """Raises InputError where a whole number in the config, by dotted name, is below what it has to be."""
  for name, bound in least.items():
    value: Any = config
    for part in name.split("."):
      value = value[part]
    if value < bound:
      raise InputError(f"{name}: {value}, expected at least {bound}")


def build(record: type, section: ml_collections.ConfigDict, where: str, **given: Any) -> Any:
  """Makes a frozen dataclass from a config section of the same field names.

  Args:
    record: the dataclass; enum and nested dataclass fields are converted.
    section: the config section.
    where: its dotted name, for messages.
    **given: further fields that the config does not have.

  Raises:
    InputError: an unknown or a missing field, a value of the wrong type, or one that the record refuses.
  """
  hints = typing.get_type_hints(record)
  fields = {field.name for field in dataclasses.fields(record)}
  values = dict(given)
  for name, value in section.items():
    if name not in fields:
      raise InputError(f"{where}.{name}: unknown, expected one of {', '.join(sorted(fields - set(given)))}")
    values[name] = convert(hints[name], value, f"{where}.{name}")
  for field in dataclasses.fields(record):
    if field.name not in values and field.default is field.default_factory is dataclasses.MISSING:
      raise InputError(f"{where}.{field.name}: missing, expected {hints[field.name].__name__}")
  return record(**values)


def memory(config: ml_collections.ConfigDict, mesh: Mesh) -> Memory:
  """The config's `memory`, all of it on the devices where it has none; InputError where the mesh cannot have it so."""
  kept = build(Memory, config.get("memory", ml_collections.ConfigDict()), "memory")
  kept.check(mesh)
  return kept


def convert(expected: Any, value: Any, where: str) -> Any:
  """A config value as the type that a record's field has; raises InputError where it is of another."""
  if isinstance(expected, types.UnionType):  # X | None
    if value is None:
      return None
    (expected,) = (option for option in typing.get_args(expected) if option is not types.NoneType)
  if dataclasses.is_dataclass(expected):
    if not isinstance(value, Mapping | ml_collections.ConfigDict):
      raise InputError(f"{where}: {value!r}, expected a group of {expected.__name__}'s fields")
    return build(expected, value, where)
  if isinstance(expected, type) and issubclass(expected, enum.Enum):
    try:
      return expected(value)
    except ValueError:
      raise InputError(f"{where}: {value!r}, expected one of {', '.join(str(e.value) for e in expected)}") from None
  if expected is float and isinstance(value, int) and not isinstance(value, bool):
    return float(value)
  if expected in (int, float, str, bool) and type(value) is not expected:
    raise InputError(f"{where}: {value!r}, expected {expected.__name__}")
  return value
