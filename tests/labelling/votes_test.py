import pytest

from posttrain_jax.labelling.event_log import EventLog
from posttrain_jax.labelling.session import Session
from posttrain_jax.labelling.study import EVENTS
from posttrain_jax.labelling.votes import read_votes
from tests.labelling.small_studies import make_study, prefer


@pytest.fixture
def study(tmp_path):
  checks = [{"prompt": f"c{i}", "chosen": f"good c{i}", "rejected": f"bad c{i}"} for i in range(3)]
  return make_study(tmp_path, raters=("ann", "bob"), overlap=2, checks=checks, check_every=2)


def test_votes_checks_and_skips_are_kept_apart(study):
  with EventLog(study.path / EVENTS) as log:
    times = iter(range(0, 10_000, 7))
    session = Session(study, log, clock=lambda: next(times))
    n = 0
    for rater, beginning in (("ann", "good"), ("bob", "bad")):
      while (view := session.view(rater))["item"] is not None:
        label = {"skipped": True} if view["prompt"][0]["text"] in ("q0", "c0") else prefer(view, beginning)
        session.label(rater, f"event-{n:04}", view["item"], label)
        n += 1
    last = session.view("ann")["last"]
    view = session.undo("ann", "event-9000", last)
    session.label("ann", "event-9001", last, prefer(view, "bad"))
    found = read_votes(study)  # while the server has the log
  assert {study.items[name].prompt[0][1] for name in found.by_item} == {"q1", "q2", "q3", "q4", "q5"}
  for name, said in found.by_item.items():
    assert [vote.rater for vote in said] == ["ann", "bob"] or name == last
    assert {vote.label["better"] for vote in said} == ({1} if name == last else {0, 1})
    assert all(sorted(vote.order) == [0, 1] for vote in said)
  assert found.skipped == {"ann": 2, "bob": 2} and found.labelled == found.due == {"ann": 9, "bob": 9}
  right = found.checks["ann"]
  assert len(right) == 2 and (all(right) or last in study.checks) and found.checks["bob"] == (False, False)
  assert len(found.seconds["ann"]) == 9 and len(found.seconds["ann"][last]) == 2 and found.seconds["bob"]


def test_a_study_that_has_not_begun(study):
  found = read_votes(study)
  assert found.by_item == {} and found.checks == {"ann": (), "bob": ()} and found.due == {"ann": 9, "bob": 9}
