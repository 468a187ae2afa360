"""Writes a recipe's report.html: all stages in one page, with measures, work, and answers of each.

The page needs no other file, except that it links to the reports of the stages beside it.
"""

import base64
import collections
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from posttrain_jax import atomic_files
from posttrain_jax.recipes import measures, outcome
from posttrain_jax.recipes.measures import Measures
from posttrain_jax.recipes.recipe import Output, Stage
from posttrain_jax.recipes.tables import Table
from posttrain_jax.reports.page import environment

_PICTURE = "measures.png"
_OF_STAGE = ("reliability.png", "curves.png", "tradeoff.png", "distances.png")  # what some stages draw
_SHOWN = 3  # prompts of a stage whose answers are shown, or one of each set
_ANSWERS = 2  # answers to each


def write_report(
  directory: pathlib.Path, name: str, stages: Sequence[Stage], found: Measures, tables: Mapping[str, Table]
) -> pathlib.Path:
  """Writes the report of stages that have ended.

  Args:
    directory: the recipe's.
    name: of the recipe.
    stages: of the recipe.
    found: the measures of their models.
    tables: more tables by title.

  Returns:
    The path of report.html.
  """
  picture = _embedded(directory / _PICTURE) if measures.draw(directory / _PICTURE, found) else ""
  page = (
    environment(pathlib.Path(__file__).parent)
    .get_template("recipe_report.html.jinja")
    .render(
      name=name,
      stages=[_described(stage, directory) for stage in stages],
      tables={"Measures": measures.measure_table(found), **tables},
      picture=picture,
    )
  )
  path = directory / "report.html"
  atomic_files.write_text(path, page.encode("utf-8", "replace").decode("utf-8"))  # a text may hold half a character
  return path


def _some(groups: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
  """Chooses groups of answers: the first ones of all sets in turn."""
  before: collections.Counter[str] = collections.Counter()
  turns = []
  for group in groups:
    turns.append(before[group["set"]])
    before[group["set"]] += 1
  order = sorted(range(len(groups)), key=turns.__getitem__)
  return [groups[index] for index in order[: max(_SHOWN, len(before))]]


def _embedded(path: pathlib.Path) -> str:
  """Returns a PNG as text for a page; empty if there is none."""
  return base64.b64encode(path.read_bytes()).decode("ascii") if path.exists() else ""


def _described(stage: Stage, directory: pathlib.Path) -> dict:
  inputs = []
  for field, given in stage.inputs.items():
    source = given
    if isinstance(given, Output):
      source = f"{given.file} of {given.stage}" if given.file else f"the model of {given.stage}"
    inputs.append((field, source))
  asked = []
  for group in _some(outcome.samples(directory / stage.name)):
    asked.append((group["prompt"], [(each["text"], each["right"]) for each in group["samples"][:_ANSWERS]]))
  own = f"{stage.name}/report.html"
  return {
    "name": stage.name,
    "kind": stage.run.name.replace("_", " "),
    "inputs": inputs,
    "samples": asked,
    "picture": next(filter(None, (_embedded(directory / stage.name / name) for name in _OF_STAGE)), ""),
    "report": own if (directory / own).exists() else "",
  }
