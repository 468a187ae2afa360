"""Runs a recipe: plans and prices its stages, runs what is not finished, writes the report.

All stages run in this process, so that equal programs are compiled once. A recipe's directory has a folder for each
stage, its record beside it (`recipes.records`), and report.html. After a kill the same command goes on: within a stage
where its pipeline goes on, else with the next stage.
"""

import dataclasses
import pathlib
import shutil
import time
from collections.abc import Callable, Collection
from typing import Any

from posttrain_jax.local_path import local_path
from posttrain_jax.recipes import digests, forecasts, gate, measures, outcome, records, report, tables
from posttrain_jax.recipes.effort import Effort, counted, from_json
from posttrain_jax.recipes.forecast import Forecast
from posttrain_jax.recipes.load import Recipe
from posttrain_jax.recipes.plan import Planned, State, make_room, plan, unknown_stages
from posttrain_jax.recipes.recipe import check_stages
from posttrain_jax.recipes.records import StageRecord
from posttrain_jax.runs.preemption import Preempted, Preemption
from posttrain_jax.runs.workdir import Workdir
from posttrain_jax.types import InputError


def run_recipe(
  recipe: Recipe, workdir: str, *, accepted: Collection[str] = (), say: Callable[[str], None] = print
) -> dict[str, Any]:
  """Runs a recipe, or goes on with it.

  Args:
    recipe: what to run.
    workdir: DIR; gets a folder and a record for each stage, and report.html.
    accepted: names of stages whose losses stop nothing (`recipes.gate`).
    say: takes a line, or a table, for the user.

  Returns:
    A JSON object: "recipe"; "stages", of each its name, seconds and metrics; "report", the path of report.html.

  Raises:
    InputError: if the recipe or its input is not fit for use, before anything runs; or if a stage finds its input so.
    Preempted: after SIGTERM, when the stage has saved a checkpoint.
    GateClosed: if a stage that is not accepted has lost more than its bound.
  """
  check_stages(recipe.stages)
  gate.check_accepted(recipe.stages, accepted)
  contents = digests.contents(recipe.stages)
  path = local_path(workdir, "--workdir").absolute()
  efforts = None if path.exists() else _priced(recipe, path)  # a mistake is found before a directory is made
  with Workdir.open(path, {"recipe": {"name": recipe.name}}), Preemption() as preemption:
    planned = plan(recipe.stages, path, contents)
    finished = {each.stage.name for each in planned if each.state == State.FINISHED}
    efforts = efforts or _priced(recipe, path, finished)  # reads what they wrote, which `plan` has checked
    table = tables.estimated(recipe.stages, efforts, recipe.costs)
    say("\n".join(["plan:", *(f"  {each.line}" for each in planned)]))
    for name in unknown_stages(recipe.stages, path):
      say(f"  {name}: in {path}, but not in the recipe any more; it is left alone")
    say(f"\nestimated:\n{tables.as_text(table)}\n")
    for line in make_room(planned, path):
      say(line)
    for each in planned:
      if each.state != State.FINISHED:
        _run_stage(each, path, efforts[each.stage.name], accepted, preemption, say)
    return _finish(recipe, path, say)


def estimate(recipe: Recipe, directory: pathlib.Path, finished: Collection[str] = ()) -> dict[str, Effort]:
  """Estimates the work of each stage.

  Args:
    recipe: whose stages.
    directory: the recipe's; need not exist.
    finished: names of stages that do not run again. What they wrote is read; of all others it is estimated.

  Raises:
    InputError: if a model or a file from outside the recipe cannot be read.
  """
  unfinished = [directory / stage.name for stage in recipe.stages if stage.name not in finished]
  known, found = Forecast(recipe.costs.fill, unfinished), {}
  for stage in recipe.stages:
    config = stage.resolved(directory)
    for path, count in stage.expected_rows(directory).items():
      known.expect_rows(path, count)
    try:
      found[stage.name] = stage.run.forecast(config, known)
      if stage.run.has_model:
        known.expect_model(directory / stage.name, forecasts.model_of(config, known))
    except InputError as error:
      raise InputError(f"stage {stage.name}: {error}") from None
    for name, count in found[stage.name].rows.items():
      known.expect_rows(directory / stage.name / name, count)
  return found


def _priced(recipe: Recipe, directory: pathlib.Path, finished: Collection[str] = ()) -> dict[str, Effort]:
  """Returns the estimates, and raises InputError if one has no price."""
  found = estimate(recipe, directory, finished)
  tables.estimated(recipe.stages, found, recipe.costs)
  return found


def estimated(recipe: Recipe) -> tables.Table:
  """Returns the table of estimated work and cost of a recipe that is not run.

  Raises:
    InputError: as `check_stages` and `estimate`.
  """
  check_stages(recipe.stages)
  return tables.estimated(recipe.stages, estimate(recipe, pathlib.Path("DIR")), recipe.costs)


def _run_stage(
  planned: Planned,
  directory: pathlib.Path,
  effort: Effort,
  accepted: Collection[str],
  preemption: Preemption,
  say: Callable[[str], None],
) -> None:
  stage = planned.stage
  if preemption.requested:
    raise Preempted(f"stopped before stage {stage.name}")
  folder, config = directory / stage.name, stage.resolved(directory)
  record = planned.record or StageRecord(planned.content, estimate=effort.to_json())
  records.write(directory, stage.name, record)
  if not stage.run.resumes:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
  say(f"stage {stage.name}: {'goes on' if planned.state == State.GOES_ON else 'starts'}")
  start = time.perf_counter()
  try:
    returned = stage.run.run(config, folder)
  except (InputError, Preempted) as error:
    seconds = record.seconds + time.perf_counter() - start
    records.write(directory, stage.name, dataclasses.replace(record, seconds=round(seconds, 2)))
    kind = Preempted if isinstance(error, Preempted) else InputError
    raise kind(f"stage {stage.name}: {error}") from error
  except gate.GateClosed as closed:
    if closed.stage not in accepted:
      raise
    say(f"accepted: {closed}")
    returned = {**closed.metrics, "accepted": 1}
  metrics = outcome.metrics_of(folder, returned)
  ended = dataclasses.replace(
    record,
    finished=True,
    outputs=records.outputs(directory, stage),
    metrics=metrics,
    effort=counted(folder, from_json(record.estimate), metrics).to_json(),
    seconds=round(record.seconds + time.perf_counter() - start, 2),
  )
  records.write(directory, stage.name, ended)
  say(f"stage {stage.name}: finished in {ended.seconds:.1f} s")


def _finish(recipe: Recipe, directory: pathlib.Path, say: Callable[[str], None]) -> dict[str, Any]:
  """Writes the report of all stages, says their actual work, and returns what `run_recipe` returns."""
  kept = {stage.name: records.read(directory, stage.name) for stage in recipe.stages}
  estimates, found = (
    {name: from_json(getattr(record, kind)) for name, record in kept.items()} for kind in ("estimate", "effort")
  )
  seconds = {name: record.seconds for name, record in kept.items()}
  planned = tables.estimated(recipe.stages, estimates, recipe.costs)
  work = tables.actual(recipe.stages, estimates, found, seconds, recipe.costs)
  measured = measures.measures(recipe.stages, {name: record.metrics for name, record in kept.items()})
  say(f"\nestimated and actual:\n{tables.as_text(work)}\n")
  if measured:
    say(f"measures, with 95 % intervals:\n{tables.as_text(measures.measure_table(measured))}\n")
  page = report.write_report(
    directory, recipe.name, recipe.stages, measured, {"Estimated work and cost": planned, "Actual work": work}
  )
  stages = [{"name": name, "seconds": record.seconds, "metrics": record.metrics} for name, record in kept.items()]
  return {"recipe": recipe.name, "stages": stages, "report": str(page)}
