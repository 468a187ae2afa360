import dataclasses
import json
import os
import signal

import pytest

from posttrain_jax.recipes import runners
from posttrain_jax.recipes.effort import Effort
from posttrain_jax.recipes.run import estimate
from posttrain_jax.runs.preemption import Preempted
from posttrain_jax.types import InputError
from tests.recipes.made_recipe import FILE, calls, chain, recipe, run, run_and_die, stage


def rows(directory, name):
  return [json.loads(line)["text"] for line in (directory / name / FILE).read_text().splitlines()]


def test_stages_run_in_order_and_are_not_run_again(tmp_path):
  said = []
  result = run(chain("a", "b", "c"), tmp_path, said)
  assert calls(tmp_path) == ["a", "b", "c"] and rows(tmp_path, "c") == ["a", "b", "c"]
  assert [(each["name"], each["metrics"]) for each in result["stages"]] == [
    ("a", {"rows": 1}),
    ("b", {"rows": 2}),
    ("c", {"rows": 3}),
  ]
  assert result["recipe"] == "made" and result["report"] == str(tmp_path / "report.html")
  assert all(each["seconds"] >= 0 for each in result["stages"]) and json.dumps(result)
  assert said.index("plan:\n  a: runs\n  b: runs\n  c: runs") < said.index("stage a: starts")
  assert any("people h" in text for text in said[: said.index("stage a: starts")])
  assert any("seconds here" in text for text in said[said.index("stage c: finished in 0.0 s") :])
  again = run(chain("a", "b", "c"), tmp_path)
  assert calls(tmp_path) == [] and again == result


def test_a_changed_stage_and_what_depends_on_it_run_again_and_are_named_before(tmp_path):
  run(chain("a", "b", "c") + [stage("alone")], tmp_path)
  calls(tmp_path)
  said = []
  run(chain("a", "b", "c", b="new") + [stage("alone")], tmp_path, said)
  assert said[0].splitlines()[1:] == [
    "  a: finished",
    '  b: runs again, text was "b", is "new"',
    "  c: runs again, path has changed",
    "  alone: finished",
  ]
  assert calls(tmp_path) == ["b", "c"] and rows(tmp_path, "c") == ["a", "new", "c"]
  assert rows(tmp_path / "replaced", "c-1") == ["a", "b", "c"]  # nothing is lost


def test_a_stage_whose_record_is_removed_runs_again_with_what_depends_on_it(tmp_path):
  run(chain("a", "b"), tmp_path)
  calls(tmp_path)
  (tmp_path / "a.stage.json").unlink()
  run(chain("a", "b"), tmp_path)
  assert calls(tmp_path) == ["a", "b"]


def test_a_kill_within_a_stage_goes_on_with_that_stage(tmp_path):
  run_and_die(tmp_path, "b")
  assert calls(tmp_path) == ["a"] and (tmp_path / "b" / FILE).read_text() == "half"
  said = []
  result = run(chain("a", "b", "c", kill_at="b"), tmp_path, said)
  assert "  a: finished\n  b: goes on\n  c: runs" in said[0]
  assert calls(tmp_path) == ["b", "c"] and rows(tmp_path, "c") == ["a", "b", "c"]
  assert [each["metrics"] for each in result["stages"]] == [{"rows": 1}, {"rows": 2}, {"rows": 3}]


def test_a_kill_while_stages_are_put_aside_takes_none_for_finished(tmp_path, monkeypatch):
  run(chain("a", "b", "c"), tmp_path)
  calls(tmp_path)

  class Killed(BaseException):
    pass

  def rename_and_die(*places):
    rename(*places)
    raise Killed

  rename = os.rename
  changed = chain("a", "b", "c", a="new")
  for _ in range(7):  # a folder and a record of each of three stages
    with monkeypatch.context() as patch:
      patch.setattr("posttrain_jax.recipes.records.os.rename", rename_and_die)
      try:
        run(changed, tmp_path)
        break
      except Killed:
        assert calls(tmp_path) == []
  assert calls(tmp_path) == ["a", "b", "c"] and rows(tmp_path, "c") == ["new", "b", "c"]


def test_a_signal_between_stages_stops_before_the_next(tmp_path):
  def write_and_stop(config, folder):
    os.kill(os.getpid(), signal.SIGTERM)
    (folder / FILE).write_text("")

  first = stage("a", run=runners.function(write_and_stop, FILE))
  with pytest.raises(Preempted, match="before stage b"):
    run([first, stage("b", before=first)], tmp_path)
  run([first, stage("b", before=first)], tmp_path)
  assert calls(tmp_path) == ["b"]


def test_a_stage_that_is_preempted_goes_on_and_its_seconds_add_up(tmp_path):
  def stop_once(config, folder):
    if not (folder.parent / "stopped").exists():
      (folder.parent / "stopped").touch()
      raise Preempted("stopped after step 2, checkpoint saved")

  stages = [stage("a", run=dataclasses.replace(runners.function(stop_once), resumes=True))]
  with pytest.raises(Preempted, match="stage a: stopped after step 2, checkpoint saved"):
    run(stages, tmp_path)
  record = json.loads((tmp_path / "a.stage.json").read_text())
  (tmp_path / "a.stage.json").write_text(json.dumps({**record, "seconds": 100.0}))
  said = []
  assert run(stages, tmp_path, said)["stages"][0]["seconds"] >= 100
  assert "a: goes on" in said[0] and "stage a: goes on" in said


def test_bad_input_within_a_stage_names_the_stage(tmp_path):
  def refuse(config, folder):
    raise InputError("rows.jsonl:3: no text")

  with pytest.raises(InputError, match=r"stage b: rows.jsonl:3: no text"):
    run([stage("a"), stage("b", run=runners.function(refuse))], tmp_path)
  assert json.loads((tmp_path / "b.stage.json").read_text())["finished"] is False


@pytest.mark.parametrize(
  ("harm", "message"),
  [
    (lambda file: file.unlink(), "a/rows.jsonl: is missing, stage a wrote it"),
    (lambda file: file.write_text("other\n"), r"a/rows.jsonl: is not what stage a wrote \(sha256 differs\)"),
  ],
)
def test_a_file_of_a_finished_stage_that_is_missing_or_changed(tmp_path, harm, message):
  run(chain("a", "b"), tmp_path)
  calls(tmp_path)
  harm(tmp_path / "a" / FILE)
  with pytest.raises(InputError, match=message) as error:
    run(chain("a", "b", "c"), tmp_path)
  assert "\n" not in str(error.value) and "remove" in str(error.value)
  assert calls(tmp_path) == [] and not (tmp_path / "c").exists()


def test_bad_input_is_found_before_a_directory_is_made(tmp_path):
  outside = stage("a")
  missing = dataclasses.replace(outside, inputs={"path": str(tmp_path / "no.jsonl")})
  empty = dataclasses.replace(outside, inputs={"path": ""})
  unpaid = dataclasses.replace(outside, labels="essay")
  for stages, message in (
    ([missing], "stage a: path: .*no.jsonl"),
    ([empty], "stage a: path is empty, expected a path or a name"),
    ([unpaid], "stage a: labels 'essay' have no price, expected one of costs.minutes: "),
  ):
    with pytest.raises(InputError, match=message):
      run(stages, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_directory_of_another_recipe_is_refused(tmp_path):
  run([stage("a")], tmp_path)
  with pytest.raises(InputError, match=r'recipe.name was "made" .* found "other"'):
    run([stage("a")], tmp_path, name="other")


def test_a_stage_that_left_the_recipe_is_left_alone(tmp_path):
  run(chain("a", "b"), tmp_path)
  said = []
  run(chain("a"), tmp_path, said)
  assert any(f"b: in {tmp_path}, but not in the recipe any more" in text for text in said)
  assert rows(tmp_path, "b") == ["a", "b"]


def test_what_a_stage_says_of_a_file_that_is_not_there_is_estimated_with(tmp_path):
  first, second = chain("a", "b")
  counting = dataclasses.replace(second.run, forecast=lambda config, known: Effort(examples=known.count(config.path)))
  second = dataclasses.replace(second, run=counting, rows={"path": 13_000})
  assert estimate(recipe([first, second]), tmp_path)["b"].examples == 13_000


def test_what_a_stage_wrote_before_it_runs_again_is_not_counted(tmp_path):
  def estimating(stages):
    forecasts = (
      lambda config, known: Effort(rows={FILE: 30}),
      lambda config, known: Effort(examples=known.count(config.path)),
    )
    return [
      dataclasses.replace(each, run=dataclasses.replace(each.run, forecast=forecast))
      for each, forecast in zip(stages, forecasts)
    ]

  def estimated_of_b():
    return json.loads((tmp_path / "b.stage.json").read_text())["estimate"]["examples"]

  run(estimating(chain("a", "b")), tmp_path)
  assert estimated_of_b() == 30
  run(estimating(chain("a", "b", b="new")), tmp_path)
  assert estimated_of_b() == 1  # the row that a has written
  run(estimating(chain("a", "b", a="new")), tmp_path)
  assert estimated_of_b() == 30


def test_the_recipe_of_these_tests_is_one():
  assert [each.name for each in recipe(chain("a", "b")).stages] == ["a", "b"]
