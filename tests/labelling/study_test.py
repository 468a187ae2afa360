import re

import pytest

from posttrain_jax.labelling import study
from posttrain_jax.labelling.items import RatingKind
from posttrain_jax.types import InputError
from tests.labelling.small_studies import PAIRS, PROMPTS, RANKED, make_study, settings, write_rows

CHECKS = [{"prompt": "c", "chosen": "right", "rejected": "wrong"}]


def test_a_study_goes_on_without_the_files_that_it_was_made_from(tmp_path):
  made = make_study(
    tmp_path, checks=CHECKS, check_every=2, instructions="# Be *fair*", raters=("ann", "bob"), overlap=2
  )
  for name in ("rows.jsonl", "checks.jsonl", "instructions.md"):
    (tmp_path / name).unlink()
  found = study.load(str(tmp_path / "study"))
  assert found == made and found.instructions == "# Be *fair*"
  assert found.queues() == made.queues() and len(found.items) == 6 and len(found.checks) == 1
  assert found.item(next(iter(found.checks))).known == {"better": 0}


def test_all_raters_have_their_items_and_checks(tmp_path):
  found = make_study(tmp_path, checks=CHECKS, check_every=3, raters=("ann", "bob", "eve"), overlap=2)
  queues = found.queues()
  for queue in queues.values():
    assert len(queue) == 5 and len([name for name in queue if name in found.checks]) == 1
  assert sorted(name for queue in queues.values() for name in queue if name in found.items) == sorted(
    [*found.items] * 2
  )


def test_the_same_files_and_settings_go_on_and_others_do_not(tmp_path):
  make_study(tmp_path, raters=("ann", "bob"))
  make_study(tmp_path, raters=("ann", "bob"))
  with pytest.raises(
    InputError, match=r"study.json: raters was \['ann', 'bob'\] when the study started, found \['ann'\]"
  ):
    make_study(tmp_path)
  with pytest.raises(InputError, match="overlap was 1 when the study started, found 2 now"):
    make_study(tmp_path, raters=("ann", "bob"), overlap=2)
  with pytest.raises(InputError, match="the file of --input is another one than when the study started"):
    make_study(tmp_path, rows=PAIRS[1:], raters=("ann", "bob"))
  with pytest.raises(InputError, match="the file of --instructions is another one"):
    make_study(tmp_path, instructions="new", raters=("ann", "bob"))


def test_rows_with_equal_answers_are_counted_and_left_out(tmp_path):
  path = write_rows(tmp_path / "rows.jsonl", [{"prompt": "q", "chosen": "a", "rejected": "a"}, *PAIRS])
  for _ in range(2):
    found, left_out = study.start(str(tmp_path / "study"), settings(), path=path)
    assert (len(found.items), left_out) == (6, 1)


def test_a_directory_of_something_else_is_refused(tmp_path):
  (tmp_path / "study").mkdir()
  (tmp_path / "study" / "config.json").write_text("{}")
  with pytest.raises(
    InputError, match=r"found 'config.json' and no study.json, expected an empty directory or a study"
  ):
    make_study(tmp_path)
  (tmp_path / "file").write_text("")
  with pytest.raises(InputError, match="found a file, expected a directory"):
    study.start(str(tmp_path / "file"), settings(), path=str(tmp_path / "rows.jsonl"))
  with pytest.raises(InputError, match=r"found no study.json, expected a study; --input starts one"):
    study.load(str(tmp_path / "absent"))


def test_a_start_that_was_killed_before_its_end_starts_again(tmp_path):
  make_study(tmp_path)
  (tmp_path / "study" / "study.json").unlink()
  (tmp_path / "study" / "items.jsonl").write_text("half")
  (tmp_path / "study" / "study.json.tmp").write_text("{")
  assert len(make_study(tmp_path).items) == 6


@pytest.mark.parametrize("content", ["[]", "{", "{}", '{"kind": "pears"}'])
def test_a_broken_study_is_one_line(tmp_path, content):
  made = make_study(tmp_path)
  (made.path / "study.json").write_text(content)
  with pytest.raises(InputError, match=r"study.json: "):
    study.load(str(made.path))


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (dict(raters=("ann", "b b")), "--raters: 'b b', expected names of 1 to 40 letters, digits and any of _.-"),
    (dict(raters=("<b>",)), "--raters: '<b>', expected names"),
    (dict(raters=("../x",)), "--raters: '../x', expected names"),
    (dict(raters=("ann", "ann")), "--raters=ann,ann: expected one or more different names"),
    (dict(raters=()), "--raters=: expected one or more different names"),
    (dict(overlap=2), "--overlap=2: 1 raters, expected from 1 to 1 raters of each item"),
    (dict(most_characters=0), "--check_every=0, --most_characters=0: too small"),
  ],
)
def test_settings_are_checked(changes, message):
  with pytest.raises(InputError, match=re.escape(message)):
    settings(**changes)


def test_checks_need_a_file_and_a_number(tmp_path):
  with pytest.raises(InputError, match="--checks=, --check_every=3: expected both, a file and a number above 0"):
    make_study(tmp_path, check_every=3)
  with pytest.raises(InputError, match="expected both, a file and a number above 0, or neither"):
    make_study(tmp_path, checks=CHECKS)
  with pytest.raises(InputError, match=r"rows.jsonl:1: found the columns prompt, answers, expected 'prompt' and"):
    make_study(tmp_path, RatingKind.ACCEPT, rows=RANKED)
  with pytest.raises(InputError, match="no answer to check is known for --kind=demonstrations"):
    make_study(tmp_path, RatingKind.DEMONSTRATIONS, checks=PROMPTS, check_every=2)
  assert not (tmp_path / "study").exists()
