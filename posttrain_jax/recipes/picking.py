"""Picks rows of a file, and writes columns that later stages read.

So public data become part of a recipe: for example, some tasks of Self-Instruct as prompts with completions.
"""

import dataclasses
import pathlib
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from posttrain_jax import atomic_files
from posttrain_jax.data import sources
from posttrain_jax.data.prompts import Row
from posttrain_jax.recipes.checks import check_of
from posttrain_jax.recipes.effort import Effort
from posttrain_jax.recipes.forecast import Forecast
from posttrain_jax.runs.settings import at_least, parse
from posttrain_jax.types import InputError

ROWS = "rows.jsonl"
_COLUMN = re.compile(r"\{(\w+)\}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PickSettings:
  """Holds the config of a pick.

  Attributes:
    seed: of the draw.
    path: FILE.jsonl, FILE.jsonl.gz or tfds:NAME/SPLIT.
    only: column to the value that a row must have there to be picked.
    limit: at most this many rows, drawn at random; 0 for all, in the file's order.
    columns: column to its new text, in which {NAME} stands for the row's column NAME; other columns stay.
  """

  seed: int
  path: str
  only: Mapping[str, str]
  limit: int = at_least(0)
  columns: Mapping[str, str]


def rewritten(seed: int, **columns: str) -> ConfigDict:
  """Returns the config of a pick of all rows, whose path is an input.

  Args:
    seed: of the recipe.
    **columns: as in `PickSettings`.
  """
  return ConfigDict(dict(path="", seed=seed, limit=0, only=dict(), columns=columns))


check = check_of(PickSettings, {"path": "FILE.jsonl, FILE.jsonl.gz or tfds:NAME/SPLIT"})


def forecast(config: ConfigDict, known: Forecast) -> Effort:
  """Counts the rows that are picked.

  Those of a file that exists are read, so that a bad row is found before anything runs.

  Raises:
    InputError: as `pick`.
  """
  settings = parse(PickSettings, config)
  read = known.read(settings.path)
  if read is not None:
    return Effort(rows={ROWS: len(_picked(settings, read))})
  expected = known.count(settings.path)
  return Effort(rows={ROWS: min(expected, settings.limit or expected)})


def pick(config: ConfigDict, folder: pathlib.Path) -> dict[str, int]:
  """Writes rows.jsonl with the rows that are picked.

  Args:
    config: a record `PickSettings`.
    folder: DIR; gets rows.jsonl.

  Returns:
    "rows", and "of", the number of the file's rows.

  Raises:
    InputError: if the file cannot be read, if no row is picked, or if a row lacks a column that a text names.
  """
  settings = parse(PickSettings, config)
  read, _ = sources.read_rows(settings.path)
  rows = _picked(settings, read)
  folder.mkdir(parents=True, exist_ok=True)
  atomic_files.write_rows(folder / ROWS, rows)
  return {"rows": len(rows), "of": len(read)}


def _picked(settings: PickSettings, rows: Sequence[Row]) -> list[Mapping[str, Any]]:
  found = [row for row in rows if all(str(row.columns.get(name)) == value for name, value in settings.only.items())]
  if not found:
    wanted = ", ".join(f"{name}={value}" for name, value in settings.only.items())
    raise InputError(f"{settings.path}: found no row of {len(rows)} with {wanted}, expected some")
  if 0 < settings.limit < len(found):
    found = random.Random(f"pick/{settings.seed}").sample(found, settings.limit)
  return [{**row.columns, **{name: _written(text, row) for name, text in settings.columns.items()}} for row in found]


def _written(text: str, row: Row) -> str:
  """Returns a text with a row's columns in it, without white space around it."""

  def column(match: re.Match[str]) -> str:
    value = row.columns.get(match[1])
    if not isinstance(value, str | int | float):
      raise InputError(
        f"{row.source}: column {match[1]!r} is {value!r:.40}, expected text; found columns {', '.join(row.columns)}"
      )
    return str(value)

  return _COLUMN.sub(column, text).strip()
