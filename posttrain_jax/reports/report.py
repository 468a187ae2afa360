"""Writes a run's report: one HTML file with curves, sampled answers and the config.

The file needs no other file and no network. It can be written at any time of a run: missing parts are left out, and a
notice on the page names what could not be read.
"""

import base64
import json
import math
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import markupsafe
import numpy as np

from posttrain_jax import atomic_files
from posttrain_jax.reports import facts, figures, headline, run_metrics, silence, training_panels
from posttrain_jax.reports.page import environment as page_environment
from posttrain_jax.reports.panel import Kind, Panel, is_zero
from posttrain_jax.reports.samples import marks, sampled_steps
from posttrain_jax.runs import starts
from posttrain_jax.types import InputError

MAX_POINTS = 600  # along a curve; more steps are averaged in bins
MAX_PICTURE_BYTES = 4 * 2**20  # of a picture that becomes part of the page


def write_report(workdir: str | os.PathLike) -> pathlib.Path:
  """Writes a run's report.html into its workdir.

  It reads config.json, starts.jsonl, metrics.jsonl, warmup/metrics.jsonl, rollouts/*.jsonl and *.png there.

  Returns:
    The report's path.

  Raises:
    InputError: if `workdir` is not a directory.
  """
  workdir = pathlib.Path(workdir)
  if not workdir.is_dir():
    raise InputError(f"{workdir}: found no directory, expected the workdir of a run")
  notices: list[str] = []
  config = _read_config(workdir / "config.json", notices)
  columns = run_metrics.columns(run_metrics.read_records(workdir / "metrics.jsonl", notices))
  warm_up = {}
  if (workdir / "warmup" / "metrics.jsonl").exists():
    warm_up = run_metrics.columns(run_metrics.read_records(workdir / "warmup" / "metrics.jsonl", notices))

  samples, pictures = sampled_steps(workdir / "rollouts", notices), _pictures(workdir, notices)
  environment = page_environment(pathlib.Path(__file__).parent)
  environment.filters |= {"number": facts.format_number, "signed": facts.format_signed}
  page = environment.get_template("report.html.jinja").render(
    name=workdir.resolve().name,
    notices=[*silence.warnings(columns), *notices],
    headlines=headline.headlines(columns),
    facts=[*facts.own_sets(config), *facts.facts(columns, warm_up)],
    sections=[(title, *_folded(panels, columns)) for title, panels in training_panels.sections(columns)],
    warm_up=_drawn(training_panels.warm_up(warm_up), warm_up),
    reading=_reading(columns),
    pictures=pictures,
    samples=samples,
    sample_marks=marks(samples),
    config=config,
    starts=starts.read_starts(workdir),
    dashes=figures.DASHES,
    palette_size=figures.PALETTE_SIZE,
    stacked=Kind.STACKED,
  )
  path = workdir / "report.html"
  atomic_files.write_text(
    path, page.encode("utf-8", "replace").decode("utf-8")
  )  # a sampled text may hold half a character
  return path


def _read_config(path: pathlib.Path, notices: list[str]) -> list[tuple[str, str]]:
  """Returns the config as (dotted field, value), in the file's order."""
  try:
    config = json.loads(path.read_text(encoding="utf-8"))
  except FileNotFoundError:
    notices.append("config.json is missing.")
    return []
  except ValueError as error:
    notices.append(f"config.json cannot be read: {error}.")
    return []
  return list(_flat(config)) if isinstance(config, dict) else [("config", json.dumps(config))]


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
  for key, value in config.items():
    if isinstance(value, dict) and value:
      yield from _flat(value, f"{prefix}{key}.")
    else:
      yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _pictures(workdir: pathlib.Path, notices: list[str]) -> list[tuple[str, str]]:
  """Returns (name, data URI) of the PNG files in a workdir, sorted by name."""
  found = []
  for path in sorted(workdir.glob("*.png")):
    content = path.read_bytes()
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
      notices.append(f"{path.name} is no PNG: it is left out.")
    elif len(content) > MAX_PICTURE_BYTES:
      notices.append(f"{path.name} has {len(content)} bytes, more than {MAX_PICTURE_BYTES}: it is left out.")
    else:
      found.append((path.stem.replace("_", " "), f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"))
  return found


def _thinned(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Averages columns longer than MAX_POINTS over bins of equally many steps."""
  width = _bin_width(columns)
  if width == 1:
    return dict(columns)
  starts = np.arange(0, len(columns["step"]), width)
  thinned = {}
  for key, values in columns.items():
    present = np.isfinite(values)
    count = np.add.reduceat(present, starts, dtype=int)
    total = np.add.reduceat(np.where(present, values, 0.0), starts)
    thinned[key] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
  return thinned


def _bin_width(columns: Mapping[str, np.ndarray]) -> int:
  return max(1, math.ceil(len(columns.get("step", ())) / MAX_POINTS))


def _drawn(panels: list[Panel], columns: Mapping[str, np.ndarray]) -> list[tuple[Panel, markupsafe.Markup]]:
  thinned = _thinned(columns)
  return [(panel, markupsafe.Markup(figures.draw(panel, thinned))) for panel in panels]


def _folded(
  panels: list[Panel], columns: Mapping[str, np.ndarray]
) -> tuple[list[tuple[Panel, markupsafe.Markup]], list[tuple[Panel, markupsafe.Markup]]]:
  """Draws panels: (those with something to see, those that are 0 throughout)."""
  drawn: tuple[list, list] = ([], [])
  for panel, svg in _drawn(panels, columns):
    drawn[is_zero(columns, panel)].append((panel, svg))
  return drawn


def _reading(columns: Mapping[str, np.ndarray]) -> str:
  """Explains in words how the curves were averaged and smoothed."""
  width = _bin_width(columns)
  points = math.ceil(len(columns.get("step", ())) / width)
  window = figures.smoothing_window(points)
  each = f"Each point is the mean of {width} steps. " if width > 1 else ""
  return each + (f"Faint: every point; bold: running mean over {window} points." if window > 1 else "")
