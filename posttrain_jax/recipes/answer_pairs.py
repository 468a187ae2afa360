"""Makes preference pairs from two authors' answers to the same prompts."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from posttrain_jax import atomic_files
from posttrain_jax.data import sources
from posttrain_jax.recipes.effort import Effort
from posttrain_jax.recipes.forecast import Forecast
from posttrain_jax.runs.settings import parse
from posttrain_jax.types import InputError

ROWS = "pairs.jsonl"


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnswerPairs:
  """Holds the config of pairs.

  Attributes:
    chosen: demonstrations whose answers are preferred.
    rejected: demonstrations whose answers are not.
  """

  chosen: str
  rejected: str


def answers() -> ConfigDict:
  """Returns the config of pairs, whose inputs are `chosen` and `rejected`."""
  return ConfigDict(dict(chosen="", rejected=""))


def forecast(config: ConfigDict, known: Forecast) -> Effort:
  """Estimates the pairs: one for each preferred answer."""
  count = known.count(config.chosen)
  return Effort(examples=count, rows={ROWS: count})


def pair(config: ConfigDict, folder: pathlib.Path) -> dict[str, int]:
  """Writes a row for each prompt that both files answer, in the order of the first.

  Args:
    config: a record `AnswerPairs`.
    folder: DIR; gets pairs.jsonl, rows with "prompt", "chosen", "rejected" and the other columns of `chosen`.

  Returns:
    "pairs", their number.

  Raises:
    InputError: if a file cannot be read, if a row has no prompt and completion, or if no prompt is in both.
  """
  settings = parse(AnswerPairs, config)
  preferred, other = _completions(settings.chosen), _completions(settings.rejected)
  rows = [
    {**{name: value for name, value in row.items() if name != "completion"}, "chosen": row["completion"]}
    | {"rejected": other[prompt]["completion"]}
    for prompt, row in preferred.items()
    if prompt in other
  ]
  if not rows:
    raise InputError(f"rejected: {settings.rejected} answers no prompt of {settings.chosen}, expected the same prompts")
  atomic_files.write_rows(folder / ROWS, rows)
  return {"pairs": len(rows)}


def _completions(path: str) -> dict[str, Mapping[str, Any]]:
  """Returns prompt to its row; of equal prompts the last one."""
  found = {}
  for row in sources.read_rows(path)[0]:
    for name in ("prompt", "completion"):
      if not isinstance(row.columns.get(name), str):
        raise InputError(f"{row.source}: {name} is {row.columns.get(name)!r:.40}, expected text")
    found[row.columns["prompt"]] = row.columns
  return found
