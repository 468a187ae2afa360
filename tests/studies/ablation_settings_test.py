"""Mistakes in the config of an ablation, and in those of its runs, each in one line."""

import pathlib

import pytest

from configs import dapo_ablation
from posttrain_jax.studies.ablation_plan import plan
from posttrain_jax.studies.ablation_settings import check, check_runs
from posttrain_jax.types import InputError


@pytest.fixture(scope="module")
def study():
  return dapo_ablation.get_config().unlock()


def runs(study, rows):
  return [(job.name, job.program, job.config) for job in plan(study, pathlib.Path("study"), rows, [0])]


def test_the_study_and_the_runs_of_all_its_rows_are_accepted(study):
  check(study)
  found = runs(study, list(study.rows))
  assert {program for _, program, _ in found} == {"dapo", "sft", "collect"}
  check_runs(found)


@pytest.mark.parametrize(
  ("place", "value", "message"),
  [
    ("rowz", {}, "rowz: unknown, the closest is rows"),
    ("rows.naive.task", "mian", "rows.naive.task: 'mian', expected one of control, main"),
    ("rows.naive.method", "rl", "rows.naive.method: 'rl', expected one of dapo, sft, best_of_n"),
    ("rows.naive.collect", {}, "rows.naive.collect: expected with method 'best_of_n', and with no other"),
    ("tasks.third", {}, "measure.tokens.third: missing, expected the budget of the task"),
    ("contrasts.main", (("naive", "naiv", "all"),), "contrasts.main: 'naiv', expected one of "),
    ("contrasts.main", (("naive", "kl"),), r"contrasts.main: \('naive', 'kl'\), expected \(row, row, technique\)"),
    ("groups.main", ("naive", "x"), "groups.main: 'x', expected one of "),
    ("measure.points", 0, "measure.points: 0, expected at least 1"),
    ("base.stepz", 1, "base.stepz: unknown, the closest is steps"),
    ("base.optimizer.b3", 1.0, "base.optimizer.b3: unknown, "),
  ],
)
def test_a_mistake_in_the_study_is_named(study, place, value, message):
  *path, name = place.split(".")
  group = study
  for each in path:
    group = group[each]
  before = group.get(name)
  with group.ignore_type():
    group[name] = value
    with pytest.raises(InputError, match=f"^{message}"):
      check(study)
    if before is None:
      del group[name]
    else:
      group[name] = before
  check(study)


def test_a_mistake_in_a_run_names_the_run(study):
  found = runs(study, ["best_of_8_sft"])
  for name, program, config in found:
    config["stepz"] = 5
    with pytest.raises(InputError, match=f"^{name}: stepz: unknown"):
      check_runs([(name, program, config)])
