"""Ends a run for people: writes the report and says what to do next."""

import pathlib
import shlex
from collections.abc import Mapping
from typing import Any

import rich.console

from posttrain_jax.parallel.processes import is_main
from posttrain_jax.reports.report import write_report
from posttrain_jax.runs.workdir import read_json


def end_run(workdir: pathlib.Path, *, report: bool, scores: bool = False) -> None:
  """Writes the report, if it is wanted, and prints the last lines on stderr.

  Only process 0 does it.

  Args:
    workdir: the run's directory.
    report: whether report.html is written.
    scores: whether the run trained a reward model, which is evaluated by its scores.
  """
  if not is_main():
    return
  page = write_report(workdir) if report else None
  console = rich.console.Console(stderr=True)
  for line in end_lines(workdir, read_json(workdir), page, scores=scores):
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def end_lines(
  workdir: pathlib.Path, config: Mapping[str, Any], page: pathlib.Path | None, *, scores: bool
) -> list[str]:
  """Returns the last lines of a run.

  Args:
    workdir: the run's directory.
    config: the run's, as in config.json.
    page: the report; None without one.
    scores: as for `end_run`.
  """
  path = shlex.quote(_short(workdir))
  if scores:
    evaluate = f"python -m experiments.score --model={path} --input=ROWS.jsonl --output=SCORES.jsonl"
  else:
    evaluate = f"python -m experiments.evaluate --model={path} {_problems(config)}"
  lines = [f"done: {path}", *([f"  report:    {_short(page)}"] if page else []), f"  evaluate:  {evaluate}"]
  if not scores:
    lines.append(f"  ask:       python -m experiments.generate --model={path} --prompt=TEXT")
  return [*lines, f"  export:    python -m experiments.convert --model={path} --output=DIR"]


def _problems(config: Mapping[str, Any]) -> str:
  """Returns the flags that name the problems of a config's first evaluation set."""
  for each in (config.get("eval", {}).get("sets") or {}).values():
    prompts = each["prompts"]
    return f"--task=jsonl --path={shlex.quote(prompts['path'])}" if prompts["path"] else f"--task={prompts['task']}"
  return "--task=jsonl --path=PROBLEMS.jsonl"


def _short(path: pathlib.Path) -> str:
  """Returns a path below the current directory without that directory."""
  path = path.absolute()
  return str(path.relative_to(pathlib.Path.cwd())) if path.is_relative_to(pathlib.Path.cwd()) else str(path)
