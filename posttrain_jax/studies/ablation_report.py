"""Writes an ablation's report: tables in Markdown, and a self-contained report.html."""

import base64
import dataclasses
import math
import pathlib
from collections.abc import Mapping, Sequence

from posttrain_jax import atomic_files
from posttrain_jax.reports.markdown import markdown_table
from posttrain_jax.reports.page import environment
from posttrain_jax.studies.ablation_checks import Check
from posttrain_jax.studies.ablation_statistics import ALPHA, Interval
from posttrain_jax.studies.ablation_table import Cell, Contrast, Measure


@dataclasses.dataclass(frozen=True)
class Summary:
  """Holds the contents of the tables and the report.

  Attributes:
    tokens: task → budget of generated tokens.
    measures: task → measures, the primary one first.
    cells: task → row → name of a measure → cell.
    contrasts: family → contrasts.
    task_checks: checks that the techniques can matter on the main task; empty without its naive row.
    cpu_seconds: row → CPU seconds of a run, mean over seeds.
    notes: one line for each run that failed, is missing or ends before the budget.
  """

  tokens: Mapping[str, int]
  measures: Mapping[str, Sequence[Measure]]
  cells: Mapping[str, Mapping[str, Mapping[str, Cell]]]
  contrasts: Mapping[str, Sequence[Contrast]]
  task_checks: Sequence[Check]
  cpu_seconds: Mapping[str, float]
  notes: Sequence[str]


def estimate(interval: Interval, *, signed: bool = False) -> str:
  """Formats a mean and its interval for a table."""
  sign = "+" if signed else ""
  return f"{interval.mean:{sign}.3f} [{interval.low:{sign}.3f}, {interval.high:{sign}.3f}]"


def verdict(contrast: Contrast) -> str:
  """Returns a contrast's result in words."""
  if contrast.void:
    return "VOID: " + "; ".join(
      f"{c.what} {number(c.found)}, not {c.expected}" for c in contrast.checks if not c.passed
    )
  if contrast.smallest > ALPHA:
    return f"{len(contrast.seeds)} seeds cannot reach {ALPHA:g} (least p {contrast.smallest:.3g})"
  if contrast.adjusted > ALPHA:
    return "no difference shown"
  return "higher" if contrast.difference.mean > 0 else "lower"


def number(value: float) -> str:
  """Formats a number with three significant digits; NaN becomes a dash."""
  return "–" if math.isnan(value) else f"{value:.3g}"


def seeds_text(seeds: Sequence[int]) -> str:
  """Formats more than two consecutive seeds as "0-9", any others as a list."""
  if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
    return f"{seeds[0]}-{seeds[-1]}"
  return ", ".join(map(str, seeds))


def row_table(summary: Summary, task: str) -> tuple[list[str], list[list[str]]]:
  """Returns (header, body) of the table of a task's rows by all measures."""
  measures = summary.measures[task]
  header = ["row", "seeds", *(measure.name for measure in measures), "CPU s a run"]
  body = []
  for row, cells in summary.cells[task].items():
    seeds = seeds_text(max((cell.seeds for cell in cells.values()), key=len, default=()))
    found = [estimate(cells[measure.name].interval) if measure.name in cells else "–" for measure in measures]
    body.append([row, seeds, *found, f"{summary.cpu_seconds.get(row, math.nan):.0f}"])
  return header, body


def contrast_table(contrasts: Sequence[Contrast]) -> tuple[list[str], list[list[str]]]:
  """Returns (header, body) of the table of a family's contrasts."""
  header = ["row", "against", "technique", "difference", "seeds", "p", "p, Holm", "verdict"]
  body = [
    [
      each.row,
      each.against,
      each.technique,
      estimate(each.difference, signed=True),
      seeds_text(each.seeds),
      number(each.p),
      number(each.adjusted),
      verdict(each),
    ]
    for each in contrasts
  ]
  return header, body


def check_table(checks: Sequence[Check]) -> tuple[list[str], list[list[str]]]:
  """Returns (header, body) of the table of checks."""
  return ["naive row", "found", "expected", "holds"], [
    [each.what, number(each.found), each.expected, "yes" if each.passed else "NO"] for each in checks
  ]


def write_markdown(summary: Summary) -> str:
  """Returns the tables and notes in Markdown."""
  parts = []
  for title, (header, body) in _tables(summary):
    parts.append(f"## {title}\n\n{markdown_table(header, body)}")
  if summary.notes:
    parts.append("\n".join(["## Notes", "", *(f"- {note}" for note in summary.notes)]))
  return "\n\n".join(parts) + "\n"


def write_report(path: pathlib.Path, summary: Summary, pictures: Mapping[str, Sequence[pathlib.Path]]) -> None:
  """Writes report.html.

  Args:
    path: the study's directory.
    summary: contents of the tables.
    pictures: group of rows → PNG files, which become part of the page.
  """
  drawn = {
    _words(group): [(file.stem, base64.b64encode(file.read_bytes()).decode("ascii")) for file in files]
    for group, files in pictures.items()
  }
  page = (
    environment(pathlib.Path(__file__).parent)
    .get_template("ablation_report.html.jinja")
    .render(name=path.name, tables=_tables(summary), pictures=drawn, notes=summary.notes, lede=_lede(summary))
  )
  atomic_files.write_text(path / "report.html", page)


def _tables(summary: Summary) -> list[tuple[str, tuple[list[str], list[list[str]]]]]:
  found = []
  for task in summary.measures:
    if summary.cells[task]:
      title = f"Rows, {task} task, up to {summary.tokens[task]:,} generated tokens"
      found.append((title, row_table(summary, task)))
  for family, contrasts in summary.contrasts.items():
    found.append((f"Contrasts: {_words(family)}", contrast_table(contrasts)))
  if summary.task_checks:
    found.append(("Can the techniques matter here?", check_table(summary.task_checks)))
  return found


def _lede(summary: Summary) -> str:
  measures = summary.measures.get("main")
  if not measures:
    return ""
  void = sum(each.void for family in summary.contrasts.values() for each in family)
  count = sum(map(len, summary.contrasts.values()))
  fit = all(check.passed for check in summary.task_checks)
  failing = "" if fit else " The task itself fails a check, so small differences say little."
  return (
    f"Primary measure: {measures[0].name}, mean of the last {len(measures[0].points)} points up to "
    f"{summary.tokens['main']:,}. {void} of {count} contrasts are void: the technique had nothing to act on."
    f"{failing}"
  )


def _words(name: str) -> str:
  return name.replace("_", " ")
