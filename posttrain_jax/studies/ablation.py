"""Runs an ablation (rows × seeds, a process each) and writes table, curves and report."""

import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import ml_collections

from posttrain_jax import atomic_files
from posttrain_jax.runs.preemption import Preemption
from posttrain_jax.runs.workdir import Workdir
from posttrain_jax.studies import ablation_checks, ablation_figures, ablation_jobs, ablation_settings, ablation_table
from posttrain_jax.studies.ablation_plan import Job, plan, task_config
from posttrain_jax.studies.ablation_report import Summary, write_markdown, write_report
from posttrain_jax.studies.ablation_runs import Run, read_run
from posttrain_jax.types import InputError

MAIN = "main"  # the task, the group of rows and the family of contrasts that were planned
NAIVE = "naive"  # the row of the main task by which the task itself is checked
_TABLE = "table.json"


def study(
  config: ml_collections.ConfigDict,
  workdir: str,
  *,
  rows: Sequence[str],
  seeds: Sequence[int],
  parallel: int = 1,
) -> dict[str, Any]:
  """Makes the runs, or goes on with them, and summarises.

  Args:
    config: see `configs/dapo_ablation.py`.
    workdir: DIR; gets seedN/ROW, the workdir of each run, and what `summarize` writes.
    rows: names of rows.
    seeds: of the runs.
    parallel: processes at a time.

  Returns:
    A JSON object: the primary measure of each row, and what went wrong.

  Raises:
    InputError: if the config is not fit for use, before anything runs.
    Preempted: after SIGTERM, when all running jobs have saved a checkpoint.
  """
  if parallel < 1:
    raise InputError(f"--parallel={parallel}, expected at least 1")
  path = pathlib.Path(workdir).absolute()
  jobs = plan(config, path, rows, seeds)
  every = plan(config, path, list(config.rows), [0])  # a mistake in any row is found before the first one runs
  ablation_settings.check_runs([(job.name, job.program, job.config) for job in every])
  # What all runs share must stay as it is. Rows may be added later: each run's own config.json holds it to its config.
  shared = {"study": {"base": config.base.to_dict(), "tasks": config.tasks.to_dict()}}
  with Workdir.open(path, shared), Preemption() as preemption:
    failed = ablation_jobs.run_jobs(jobs, parallel=parallel, preemption=preemption)
    return summarize(config, str(path), failed=failed)


def summarize(
  config: ml_collections.ConfigDict, workdir: str, *, failed: Mapping[str, str] | None = None
) -> dict[str, Any]:
  """Writes table.json, table.md, pictures and report.html from the finished runs in DIR.

  Args:
    config: see `configs/dapo_ablation.py`.
    workdir: DIR.
    failed: name of a run → what went wrong.

  Raises:
    InputError: if there is no finished run.
  """
  path = pathlib.Path(workdir).absolute()
  order = list(dict.fromkeys([*config.groups.main, *(row for group in config.groups.values() for row in group)]))
  seeds = sorted(int(each.name.removeprefix("seed")) for each in path.glob("seed*") if each.name[4:].isdigit())
  jobs = {(job.path.name, job.path.parent.name): job for job in plan(config, path, order, seeds)}
  runs: dict[str, dict[int, Run]] = {}
  failed = failed or {}
  notes, costs = [f"{name}: {what}" for name, what in failed.items()], {}
  for row in order:
    for seed in seeds:
      job = jobs[row, f"seed{seed}"]
      if ablation_jobs.finished(job):
        runs.setdefault(row, {})[seed] = read_run(job.path, row, seed)
        costs.setdefault(row, []).append(ablation_jobs.result_of(job)["cpu_seconds"])
      elif job.path.exists() and job.name not in failed:
        notes.append(f"{job.name}: {_state(job)}; it is left out")
  if not runs:
    raise InputError(f"{path}: found no finished run of this config, expected some under seedN/")
  summary = _summary(config, runs, notes, costs)
  atomic_files.write_text(path / _TABLE, json.dumps(ablation_table.to_json(summary), indent=2, allow_nan=False) + "\n")
  atomic_files.write_text(path / "table.md", write_markdown(summary))
  pictures = _draw(config, path, runs, summary)
  write_report(path, summary, pictures)
  primary = summary.measures[MAIN][0].name if summary.measures.get(MAIN) else ""
  cells = summary.cells.get(MAIN, {})
  found = {row: cells[row][primary] for row in cells if primary in cells[row]}
  return {
    "measure": primary,
    "rows": {
      row: [round(x, 4) for x in (c.interval.mean, c.interval.low, c.interval.high)] for row, c in found.items()
    },
    "void": [f"{each.row} - {each.against}" for family in summary.contrasts.values() for each in family if each.void],
    "failed": sorted(failed),
    "report": str(path / "report.html"),
  }


def _state(job: Job) -> str:
  result = ablation_jobs.result_of(job)
  return "not finished" if result is None else f"exit code {result['exit_code']}"


def _summary(
  config: ml_collections.ConfigDict,
  runs: Mapping[str, Mapping[int, Run]],
  notes: list[str],
  costs: Mapping[str, Sequence[float]],
) -> Summary:
  settings = config.measure
  measures, cells = {}, {}
  for task in _main_first(config.tasks):
    rows = [row for row in runs if config.rows[row].task == task]
    every = [run for row in rows for run in runs[row].values()]
    measures[task] = ablation_table.measures(
      every,
      name=settings.set,
      others=settings.other_sets,
      tokens=settings.tokens[task],
      points=settings.points,
      last=settings.last,
    )
    cells[task] = {}
    for row in rows:
      found = {each.name: ablation_table.cell(runs[row], each, resamples=settings.resamples) for each in measures[task]}
      cells[task][row] = {name: cell for name, cell in found.items() if cell is not None}
      if measures[task]:
        short = [seed for seed, run in runs[row].items() if measures[task][0].of(run) is None]
        notes += [
          f"{row}, seed {seed}: ends short of {settings.tokens[task]:,} generated tokens" for seed in sorted(short)
        ]
  contrasts = {}
  for family in _main_first(config.contrasts):
    pairs = config.contrasts[family]
    task = config.rows[pairs[0][0]].task
    if measures[task]:
      contrasts[family] = ablation_table.contrasts(
        runs, pairs, measures[task][0], tokens=settings.tokens[task], resamples=settings.resamples
      )
  naive = [run.until(settings.tokens.main) for run in runs.get(NAIVE, {}).values()]
  updates = task_config(config, "main").learner.updates_per_step
  return Summary(
    tokens=settings.tokens.to_dict(),
    measures=measures,
    cells=cells,
    contrasts={family: found for family, found in contrasts.items() if found},
    task_checks=ablation_checks.task(naive, updates_per_step=updates) if naive else [],
    cpu_seconds={row: sum(each) / len(each) for row, each in costs.items()},
    notes=notes,
  )


def _draw(
  config: ml_collections.ConfigDict, path: pathlib.Path, runs: Mapping[str, Mapping[int, Run]], summary: Summary
) -> dict[str, list[pathlib.Path]]:
  """Draws the pictures of each group of rows.

  The naive row is in each group of its task.
  """
  drawn: dict[str, list[pathlib.Path]] = {}
  for group in _main_first(config.groups):
    rows = config.groups[group]
    task = config.rows[rows[0]].task
    shown = [row for row in rows if row in runs]
    if not summary.measures[task] or not shown:
      continue
    if task == MAIN and NAIVE in runs and NAIVE not in shown:
      shown = [NAIVE, *shown]
    average = summary.measures[task][0].score
    for name, panels in ablation_figures.panels(config.measure.set, average).items():
      file = path / (f"{name}.png" if group == MAIN else f"{name}_{group}.png")
      lines = {row: [run for _, run in sorted(runs[row].items())] for row in shown}
      tokens, resamples = config.measure.tokens[task], min(500, config.measure.resamples)
      if ablation_figures.draw(file, panels, lines, tokens=tokens, resamples=resamples):
        drawn.setdefault(group, []).append(file)
  return drawn


def _main_first(names: Iterable[str]) -> list[str]:
  """Orders names: `MAIN` first, the others as a config keeps them, in alphabetical order."""
  return sorted(names, key=lambda name: name != MAIN)
