"""Joins the rows of several files, such as the comparisons of all rounds."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from posttrain_jax import atomic_files
from posttrain_jax.data import sources
from posttrain_jax.data.prompts import Row
from posttrain_jax.recipes.checks import check_of
from posttrain_jax.recipes.effort import Effort
from posttrain_jax.recipes.forecast import Forecast
from posttrain_jax.runs.settings import parse
from posttrain_jax.types import InputError

ROWS = "rows.jsonl"
_PROMPT = "{prompt}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class JoinedFile:
  """Describes one of the files.

  Attributes:
    path: FILE.jsonl, FILE.jsonl.gz or tfds:NAME/SPLIT.
    template: text around the file's prompts, which stands for {prompt}.
  """

  path: str
  template: str

  def __post_init__(self):
    """Raises InputError if the template has no place for a prompt."""
    if _PROMPT not in self.template:
      raise InputError(f"template: {self.template!r} has no '{_PROMPT}'")


@dataclasses.dataclass(frozen=True, kw_only=True)
class JoinSettings:
  """Holds the config of a join.

  Attributes:
    files: the files by name, joined in the order of their names.
  """

  files: Mapping[str, JoinedFile]


def files(**templates: str) -> ConfigDict:
  """Returns the config of a join of named files with their templates.

  The paths are inputs, `files.NAME.path`. A collection's rows have their prompts in its template already; theirs is
  "{prompt}".
  """
  return ConfigDict({"files": {name: dict(path="", template=template) for name, template in templates.items()}})


check = check_of(JoinSettings, {"files": "some to join"})


def forecast(config: ConfigDict, known: Forecast) -> Effort:
  """Estimates the number of rows: that of all files together."""
  return Effort(rows={ROWS: sum(known.count(each.path) for each in config.files.values())})


def join(config: ConfigDict, folder: pathlib.Path) -> dict[str, int]:
  """Writes rows.jsonl with the rows of all files, one file after another.

  Args:
    config: a record `JoinSettings`.
    folder: DIR; gets rows.jsonl.

  Returns:
    "rows", and the number of rows of each file.

  Raises:
    InputError: if a file cannot be read, or if a template is for a prompt that is no text.
  """
  rows: list[Mapping[str, Any]] = []
  counts: dict[str, int] = {}
  for name, each in parse(JoinSettings, config).files.items():
    read = _rows(each.path)
    rows += [_asked(row.columns, each.template, row.source) for row in read]
    counts[name] = len(read)
  folder.mkdir(parents=True, exist_ok=True)
  atomic_files.write_rows(folder / ROWS, rows)
  return {"rows": len(rows), **counts}


def _rows(path: str) -> list[Row]:
  """Reads a file's rows.

  An earlier stage may have written none, such as edits where nobody edited.
  """
  file = pathlib.Path(path)
  return [] if file.is_file() and not file.stat().st_size else sources.read_rows(path)[0]


def _asked(columns: Mapping[str, Any], template: str, source: str) -> Mapping[str, Any]:
  if template == _PROMPT:
    return columns
  prompt = columns.get("prompt")
  if not isinstance(prompt, str):
    raise InputError(f"{source}: prompt is {prompt!r:.40}, expected text for the template {template!r}")
  return {**columns, "prompt": template.replace(_PROMPT, prompt)}
