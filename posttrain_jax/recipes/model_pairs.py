"""Compares pairs of models that have answered the same requests of the assistant world.

What they answered is read from their measurements (`recipes.alignment`), and what is found of each pair becomes a file,
a page with a table and a picture, and numbers for the recipe's report.
"""

import json
import pathlib
from collections.abc import Callable, Mapping
from typing import TypeVar

from posttrain_jax import atomic_files
from posttrain_jax.recipes import report
from posttrain_jax.recipes.measures import Measures
from posttrain_jax.types import InputError

Value = TypeVar("Value")
ByRequest = Mapping[tuple[str, str], Value]  # (part, prompt) → value


def read_pairs(
  paths: Mapping[str, tuple[str, str]], read: Callable[[str], ByRequest[Value]]
) -> dict[str, tuple[ByRequest[Value], ByRequest[Value]]]:
  """Reads what the two models of each pair have answered.

  A file that stands in several pairs is read once.

  Args:
    paths: name of the pair to both models' answers.jsonl.
    read: reads such a file.

  Raises:
    InputError: if a file cannot be read, or if the models of a pair have answered other requests.
  """
  models = {path: read(path) for path in dict.fromkeys(path for pair in paths.values() for path in pair)}
  found = {name: (models[one], models[other]) for name, (one, other) in paths.items()}
  for name, (one, other) in found.items():
    if one.keys() != other.keys():
      raise InputError(f"pairs.{name}: the models have answered other requests, expected the same ones")
  return found


def write_pairs(folder: pathlib.Path, file: str, title: str, found: Measures) -> dict[str, float]:
  """Writes what was found of each pair.

  Args:
    folder: DIR; gets the file, and report.html with a table and a picture.
    file: name of a JSON file.
    title: of the page.
    found: pair to measure to value.

  Returns:
    PAIR/MEASURE to its value; with /low and /high at its end, the interval.
  """
  folder.mkdir(parents=True, exist_ok=True)
  atomic_files.write_text(folder / file, json.dumps(found, indent=2) + "\n")
  report.write_report(folder, title, [], found, {})
  flat = {}
  for pair, measures in found.items():
    for name, (value, low, high) in measures.items():
      flat |= {f"{pair}/{name}": value, f"{pair}/{name}/low": low, f"{pair}/{name}/high": high}
  return flat
