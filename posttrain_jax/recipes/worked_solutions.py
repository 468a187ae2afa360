"""Turns worked solutions, such as GSM8K's, into demonstrations of thinking first."""

import dataclasses
import pathlib
import random
import re
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from posttrain_jax import atomic_files
from posttrain_jax.data import sources
from posttrain_jax.data.prompts import Row
from posttrain_jax.recipes.checks import check_of
from posttrain_jax.recipes.effort import Effort
from posttrain_jax.recipes.forecast import Forecast
from posttrain_jax.rewards import extract
from posttrain_jax.runs.settings import at_least, parse
from posttrain_jax.types import InputError

DEMONSTRATIONS = "demonstrations.jsonl"
_END = re.compile(r"\n#### .*\s*$")
_CALCULATOR = re.compile(r"<<.*?>>")  # GSM8K's notes for a calculator: "48/2 = <<48/2=24>>24"


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkedSolutionSettings:
  """Holds the config of worked solutions.

  Attributes:
    seed: of the draw.
    path: FILE.jsonl, FILE.jsonl.gz or tfds:NAME/SPLIT of rows with "question" and "answer", whose last line is
      "#### ANSWER".
    limit: at most this many rows, drawn at random; 0 for all.
  """

  seed: int
  path: str
  limit: int = at_least(0)


check = check_of(WorkedSolutionSettings, {"path": "FILE.jsonl, FILE.jsonl.gz or tfds:NAME/SPLIT of worked solutions"})


def forecast(config: ConfigDict, known: Forecast) -> Effort:
  """Counts the rows that are written."""
  settings = parse(WorkedSolutionSettings, config)
  expected = known.count(settings.path)
  return Effort(rows={DEMONSTRATIONS: min(expected, settings.limit or expected)})


def write(config: ConfigDict, folder: pathlib.Path) -> dict[str, int]:
  """Writes demonstrations.jsonl: "<think>WORK</think>" and "<answer>ANSWER</answer>".

  Args:
    config: a record `WorkedSolutionSettings`.
    folder: DIR; gets demonstrations.jsonl with "prompt", "completion" and "answer".

  Returns:
    "examples", and "of", the number of the file's rows.

  Raises:
    InputError: if the file cannot be read, or if a row has no worked solution.
  """
  settings = parse(WorkedSolutionSettings, config)
  rows, _ = sources.read_rows(settings.path)
  drawn = rows
  if 0 < settings.limit < len(rows):
    drawn = random.Random(f"worked/{settings.seed}").sample(rows, settings.limit)
  atomic_files.write_rows(folder / DEMONSTRATIONS, [thought(row) for row in drawn])
  return {"examples": len(drawn), "of": len(rows)}


def thought(row: Row) -> dict[str, Any]:
  """Returns a row's demonstration.

  Raises:
    InputError: if the row has no question, or no work before "#### ANSWER".
  """
  columns: Mapping[str, Any] = row.columns
  question, solution = (columns.get(name) for name in ("question", "answer"))
  if not isinstance(question, str) or not isinstance(solution, str) or not _END.search(solution):
    raise InputError(f"{row.source}: expected 'question', and 'answer' with work before a last line '#### ANSWER'")
  answer = extract.reference_answer(solution)
  work = _CALCULATOR.sub("", _END.sub("", solution)).strip()
  return {
    "prompt": question,
    "completion": f"<think>{work}</think>\n<answer>{answer}</answer>",
    "answer": answer,
  }
