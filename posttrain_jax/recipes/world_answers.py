"""Reads what a model answered to requests of the assistant world, from a collection."""

import json
import pathlib
from collections.abc import Iterator

from posttrain_jax.data.assistant_world.requests import WorldRequest
from posttrain_jax.types import InputError


def read_world_answers(path: str) -> Iterator[tuple[WorldRequest, list[tuple[str, bool]]]]:
  """Yields each request with its answers.

  Of each answer it is told whether it has a verdict. One that has not ended has none.

  Args:
    path: the folder candidates/ of a collection.

  Raises:
    InputError: if it has no files.
  """
  files = sorted(pathlib.Path(path).glob("*.jsonl"))
  if not files:
    raise InputError(f"candidates: {path} has no files, expected the folder candidates/ of a collection")
  for line in (line for file in files for line in file.read_text("utf-8").splitlines()):
    row = json.loads(line)
    answers = [(text, score is not None) for text, score in zip(row["answers"], row["scores"])]
    yield WorldRequest.from_row({**row["row"], "prompt": row["prompt"]}), answers
