import pathlib

import pytest

from posttrain_jax.recipes import records, seeds
from posttrain_jax.recipes.records import StageRecord
from posttrain_jax.reports.markdown import markdown_table
from posttrain_jax.types import InputError


def run(folder: pathlib.Path, value: float, gain: float, **stages: dict) -> str:
  """Writes the records of a run with two measured models and their comparison."""
  folder.mkdir()
  of_model = {"seen/facts": value, "seen/facts_low": value - 0.1, "seen/facts_high": value + 0.1, "steps": 3}
  of_pair = {"sft/seen/facts": gain, "sft/seen/facts/low": gain - 0.1, "sft/seen/facts/high": gain + 0.1}
  found = {"train": {"loss": 1.0}, "base_measures": of_model, "gains": of_pair, **stages}
  for stage, metrics in found.items():
    records.write(folder, stage, StageRecord({"kind": stage}, finished=True, metrics=metrics))
  return str(folder)


def test_the_mean_stands_with_the_outermost_bounds(tmp_path):
  runs = [run(tmp_path / "a", 0.4, 0.3), run(tmp_path / "b", 0.6, 0.5)]
  tables = seeds.seed_tables(runs)
  assert tables[""] == (["measure", "base"], [["`seen/facts`", "0.50 [0.30, 0.70]"]])
  assert tables["gains"] == (["measure", "sft"], [["`seen/facts`", "**+0.40 [+0.20, +0.60]**"]])


def test_a_difference_that_one_run_does_not_show_is_not_bold(tmp_path):
  runs = [run(tmp_path / "a", 0.4, 0.3), run(tmp_path / "b", 0.6, 0.05)]
  assert "**" not in markdown_table(*seeds.seed_tables(runs)["gains"])


def test_a_measure_that_one_run_lacks_has_a_dash(tmp_path):
  stated = {"x": 1.0, "x_low": 0.0, "x_high": 2.0}
  runs = [
    run(tmp_path / "a", 0.4, 0.3, more=stated),
    run(tmp_path / "b", 0.6, 0.5, more=stated | {"y": 1.0, "y_low": 0.0, "y_high": 2.0}),
  ]
  for order in (runs, runs[::-1]):
    _, body = seeds.seed_tables(order)[""]
    assert ["`y`", "–", "–"] in body and ["`x`", "–", "1.00 [0.00, 2.00]"] in body


def test_what_is_no_difference_is_never_bold(tmp_path):
  pair = {"sft/all/win_rate": 0.7, "sft/all/win_rate/low": 0.6, "sft/all/win_rate/high": 0.8}
  (table,) = seeds.seed_tables([run(tmp_path / "a", 0.4, 0.3, comparison=pair)], ["all/*"]).values()
  assert markdown_table(*table).splitlines()[2] == "| `all/win_rate` | 0.70 [0.60, 0.80] |"


def test_a_stage_that_has_not_ended_is_left_out(tmp_path):
  path = run(tmp_path / "a", 0.4, 0.3)
  records.write(
    tmp_path / "a", "gains", StageRecord({"kind": "gains"}, metrics={"x": 1.0, "x_low": 0.0, "x_high": 2.0})
  )
  assert {*seeds.seed_tables([path])} == {""}


def test_runs_that_do_not_fit_are_named(tmp_path):
  runs = [run(tmp_path / "a", 0.4, 0.3), run(tmp_path / "b", 0.6, 0.5, more={"x": 1.0, "x_low": 0.0, "x_high": 2.0})]
  for order in (runs, runs[::-1]):
    with pytest.raises(InputError, match=r"a: has no measures of stage more, which .*b has; expected the same stages"):
      seeds.seed_tables(order)
  with pytest.raises(InputError, match=r"measures: sums match nothing, expected names such as seen/answers"):
    seeds.seed_tables(runs[:1], ["sums"])
  with pytest.raises(InputError, match=r"nowhere: found no measures of finished stages"):
    seeds.seed_tables([str(tmp_path / "nowhere")])
