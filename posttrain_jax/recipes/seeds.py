"""Puts the measures of several runs of one recipe side by side.

The runs differ in their seed, mostly. Each measure has a value with a 95 % interval in every run. What is shown is the
mean of the values, the lowest of the lower bounds and the highest of the upper bounds. So a difference whose bounds
exclude 0 is beyond its interval in each of the runs. A measure that one of the runs lacks, such as the error of stated
confidence where nothing was stated, has a dash.
"""

import fnmatch
import pathlib
from collections.abc import Mapping, Sequence

from posttrain_jax.recipes import records
from posttrain_jax.recipes.measures import Measured, with_interval
from posttrain_jax.recipes.runners import GAINS
from posttrain_jax.recipes.tables import Table
from posttrain_jax.types import InputError

_MEASURES = "_measures"  # end of the name of a stage that measures a model
_OF_MODELS = ""  # title of the table of all models


def seed_tables(directories: Sequence[str], patterns: Sequence[str] = ()) -> dict[str, Table]:
  """Makes the tables of several runs of a recipe.

  Args:
    directories: of the runs; each has the same stages, all finished.
    patterns: which measures are shown, as in a shell ("held_out/*"); all if there are none.

  Returns:
    Stage to its table, for stages that compare models: a row for each measure, a column for each pair. Under "" the
    table of all other stages, a column for each.

  Raises:
    InputError: if a directory has no finished stage, if the runs have other stages, or if nothing is left.
  """
  found = [_measured(pathlib.Path(directory)) for directory in directories]
  runs = [{stage: measured for stage, (_, measured) in each.items()} for each in found]
  first = runs[0]
  differences = {stage for stage, (kind, _) in found[0].items() if kind == GAINS.name}
  for directory, run in zip(directories, runs):
    for stage in dict.fromkeys((*first, *run)):
      if stage not in run or stage not in first:
        has, lacks = (directory, directories[0]) if stage in run else (directories[0], directory)
        raise InputError(f"{lacks}: has no measures of stage {stage}, which {has} has; expected the same stages")
  columns: dict[str, dict[str, dict[str, Measured | None]]] = {}
  for stage in first:
    for name in dict.fromkeys(name for run in runs for name in run[stage]):
      title, column, measure = _place(stage, name)
      if not patterns or any(fnmatch.fnmatch(measure, pattern) for pattern in patterns):
        values = [run[stage].get(name) for run in runs]
        joined = None if None in values else _joined(values)
        columns.setdefault(title, {}).setdefault(column, {})[measure] = joined
  if not columns:
    raise InputError(f"measures: {', '.join(patterns) or 'none'} match nothing, expected names such as seen/answers")
  return {title: _table(found, difference=title in differences) for title, found in columns.items()}


def _measured(directory: pathlib.Path) -> dict[str, tuple[str, dict[str, Measured]]]:
  """Reads what the stages of a run have measured, in the order in which they ended.

  Returns:
    Stage to its kind and its measures.
  """
  found = {}
  for stage in records.stages(directory):
    record = records.read(directory, stage)
    if record is not None and record.finished:
      measured = with_interval(record.metrics) | with_interval(record.metrics, "/")
      found |= {stage: (record.content["kind"], measured)} if measured else {}
  if not found:
    raise InputError(f"{directory}: found no measures of finished stages, expected the workdir of a recipe")
  return found


def _place(stage: str, name: str) -> tuple[str, str, str]:
  """Returns the title of the table, the column and the row of a stage's measure.

  Measures of pairs of models are named PAIR/PART/MEASURE.
  """
  if name.count("/") < 2:
    return _OF_MODELS, stage.removesuffix(_MEASURES), name
  pair, _, measure = name.partition("/")
  return stage, pair, measure


def _joined(values: Sequence[Measured]) -> Measured:
  mean = sum(each.value for each in values) / len(values)
  return Measured(mean, min(each.low for each in values), max(each.high for each in values))


def _table(found: Mapping[str, Mapping[str, Measured | None]], *, difference: bool) -> Table:
  rows = dict.fromkeys(measure for each in found.values() for measure in each)
  body = [[f"`{row}`", *(_cell(each.get(row), difference) for each in found.values())] for row in rows]
  return ["measure", *(name.replace("_", " ") for name in found)], body


def _cell(each: Measured | None, difference: bool) -> str:
  if each is None:
    return "–"
  sign = "+" if difference else ""
  text = f"{each.value:{sign}.2f} [{each.low:{sign}.2f}, {each.high:{sign}.2f}]"
  return f"**{text}**" if difference and (each.low > 0 or each.high < 0) else text
