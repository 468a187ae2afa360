import dataclasses

import pytest

from posttrain_jax.recipes import digests, records
from posttrain_jax.recipes.plan import State, make_room, plan, unknown_stages
from tests.recipes.made_recipe import FILE, chain, stage


def planned(stages, directory):
  return plan(stages, directory, digests.contents(stages))


@pytest.fixture
def made(tmp_path):
  """Makes a directory in which stages a, b and c are finished."""
  stages = chain("a", "b", "c")
  for each, content in zip(stages, digests.contents(stages).values()):
    (tmp_path / each.name).mkdir()
    (tmp_path / each.name / FILE).write_text(each.name)
    outputs = records.outputs(tmp_path, each)
    records.write(tmp_path, each.name, records.StageRecord(content, finished=True, outputs=outputs))
  return tmp_path


def states(stages, directory):
  return [(str(each.state), each.why) for each in planned(stages, directory)]


def unfinished(directory, name):
  records.write(directory, name, dataclasses.replace(records.read(directory, name), finished=False))


def test_new_stages_run(tmp_path):
  assert states(chain("a", "b"), tmp_path) == [("runs", "")] * 2


def test_finished_stages_are_left_alone(made):
  assert states(chain("a", "b", "c"), made) == [("finished", "")] * 3
  assert make_room(planned(chain("a", "b", "c"), made), made) == []


def test_a_stage_goes_on_and_what_depends_on_it_runs_again(made):
  unfinished(made, "b")
  assert states(chain("a", "b", "c"), made) == [
    ("finished", ""),
    ("goes on", ""),
    ("runs again", "it depends on b"),
  ]


def test_a_folder_without_a_record_is_put_aside(made):
  (made / "c.stage.json").unlink()
  found = planned(chain("a", "b", "c"), made)
  assert found[2].line == "c: runs again, its record is gone"
  assert make_room(found, made) == [f"c: what it made before is now {made / 'replaced' / 'c-1'}"]
  assert not (made / "c").exists() and (made / "a").exists()


def test_an_unfinished_stage_that_changed_starts_again(made):
  unfinished(made, "c")
  assert states(chain("a", "b", "c", c="new"), made)[2] == ("runs again", 'text was "c", is "new"')


def test_stages_that_left_the_recipe(made):
  assert unknown_stages([stage("a"), stage("c")], made) == ["b"]


def test_a_finished_stage_keeps_its_record(made):
  first, second = planned(chain("a", "b", b="new"), made)
  assert first.state == State.FINISHED and first.record.finished
  assert second.state == State.RUNS_AGAIN and second.record is None
