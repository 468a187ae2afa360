import dataclasses
import math
import re

import pytest

from posttrain_jax.studies import ablation_checks, ablation_figures, ablation_table
from posttrain_jax.studies.ablation_report import Summary, seeds_text, verdict, write_markdown, write_report
from posttrain_jax.studies.ablation_runs import read_run
from posttrain_jax.studies.ablation_statistics import Interval
from posttrain_jax.studies.ablation_table import Contrast
from tests.evaluation.made_runs import write_run

TOKENS = 12_000


def contrast(**changes):
  found = dict(
    row="clip_higher",
    against="naive",
    technique="clip_higher",
    difference=Interval(0.02, 0.01, 0.03),
    seeds=tuple(range(10)),
    p=0.01,
    adjusted=0.02,
    smallest=2 / 1024,
    checks=(ablation_checks.Check("tokens over the bound", 0.006, "at least 0.005", True),),
  )
  return Contrast(**(found | changes))


def failing(check):
  return (dataclasses.replace(check, found=0.0012, passed=False),)


@pytest.mark.parametrize(
  "changes, expected",
  [
    ({}, "higher"),
    (dict(difference=Interval(-0.02, -0.03, -0.01)), "lower"),
    (dict(adjusted=0.06), "no difference shown"),
    (dict(seeds=(0, 1, 2, 3, 4), smallest=0.0625), "5 seeds cannot reach 0.05 (least p 0.0625)"),
    (dict(checks=failing(contrast().checks[0])), "VOID: tokens over the bound 0.0012, not at least 0.005"),
  ],
)
def test_verdicts(changes, expected):
  assert verdict(contrast(**changes)) == expected


def test_seeds_in_words():
  assert [seeds_text(seeds) for seeds in ((0, 1, 2), (0, 2, 3), (4, 5), ())] == ["0-2", "0, 2, 3", "4, 5", ""]


@pytest.fixture
def summary(tmp_path):
  runs = {
    row: {s: read_run(write_run(tmp_path / f"{s}" / row, end=end, seed=s), row, s) for s in range(2)}
    for row, end in (("naive", 0.6), ("clip_higher", 0.7))
  }
  every = [run for row in runs.values() for run in row.values()]
  measures = ablation_table.measures(every, name="heldout", others=(), tokens=TOKENS, points=6, last=3)
  cells = {row: {each.name: ablation_table.cell(runs[row], each, resamples=50) for each in measures} for row in runs}
  columns = [run.until(TOKENS) for run in runs["naive"].values()]
  found = Summary(
    tokens={"main": TOKENS},
    measures={"main": measures},
    cells={"main": cells},
    contrasts={
      "main": ablation_table.contrasts(
        runs, [("clip_higher", "naive", "clip_higher")], measures[0], tokens=TOKENS, resamples=50
      )
    },
    task_checks=ablation_checks.task(columns, updates_per_step=4),
    cpu_seconds={"naive": 61.4, "clip_higher": math.nan},
    notes=["seed3/naive: <exit code 1>"],
  )
  return runs, found


def test_markdown(summary):
  text = write_markdown(summary[1])
  assert "| clip_higher | naive | clip_higher | +0.083 [+0.083, +0.083] | 0, 1 | 0.5 | 0.5 | 2 seeds cannot" in text
  assert re.search(r"\| naive \| 0, 1 \| 0\.5\d\d \[0\.\d+, 0\.\d+\].* \| 61 \|", text)
  assert "| truncated share, first third | 0.2 | 0.1 to 0.3 | yes |" in text and "- seed3/naive: <exit code 1>" in text


def test_report_holds_tables_and_pictures(tmp_path, summary):
  runs, found = summary
  lines = {row: list(each.values()) for row, each in runs.items()}
  files = []
  for name, panels in ablation_figures.panels("heldout", "avg@8").items():
    file = tmp_path / f"{name}.png"
    assert ablation_figures.draw(file, panels, lines, tokens=TOKENS, resamples=50)
    assert file.read_bytes().startswith(b"\x89PNG")
    files.append(file)
  write_report(tmp_path, found, {"main": files})
  page = (tmp_path / "report.html").read_text()
  assert page.count("data:image/png;base64,") == len(files) == 7
  assert "&lt;exit code 1&gt;" in page and "heldout avg@8 at equal tokens" in page and 'src="http' not in page
