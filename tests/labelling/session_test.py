import json
import random

import pytest

from posttrain_jax.labelling.event_log import EventLog
from posttrain_jax.labelling.items import RatingKind
from posttrain_jax.labelling.labels import BadLabel
from posttrain_jax.labelling.session import OutOfTurn, Session, given_labels
from posttrain_jax.labelling.study import EVENTS
from posttrain_jax.runs.disk_failure import DiskFailure
from posttrain_jax.types import InputError
from tests.labelling.small_studies import make_study, place_of, prefer


class Clock:
  """Goes on by ten seconds at each look."""

  def __init__(self):
    self.now = 1000.0

  def __call__(self):
    self.now += 10
    return self.now


@pytest.fixture
def study(tmp_path):
  checks = [{"prompt": "c", "chosen": "good c", "rejected": "bad c"}]
  return make_study(tmp_path, raters=("ann", "bob"), overlap=2, checks=checks, check_every=3)


@pytest.fixture
def log(study):
  with EventLog(study.path / EVENTS) as log:
    yield log


@pytest.fixture
def session(study, log):
  return Session(study, log, clock=Clock())


def events(study):
  return [json.loads(line) for line in (study.path / EVENTS).read_text().splitlines()]


def rate(session, rater, event, beginning="good"):
  view = session.view(rater)
  return session.label(rater, event, view["item"], prefer(view, beginning))


def test_what_a_rater_sees_says_nothing_about_models_checks_or_others(study, session):
  seen = []
  for n in range(7):
    view = session.view("ann")
    assert set(view) == {"done", "total", "last", "item", "prompt", "answers", "before"}
    seen.append((view["item"], json.dumps(view)))
    rate(session, "ann", f"event-{n:04}")
  assert session.view("ann") == {"done": 7, "total": 7, "last": seen[-1][0], "item": None}
  assert len({item for item, _ in seen} & set(study.items)) == 6 and len({item for item, _ in seen}) == 7
  assert not [text for _, text in seen if "big" in text or "small" in text or "chosen" in text or "known" in text]
  assert session.view("bob")["done"] == 0


def test_labels_are_stored_by_answer_and_not_by_place(study, session):
  for n in range(7):
    rate(session, "ann", f"event-{n:04}")
  stored = events(study)
  assert {event["label"]["better"] for event in stored} == {0}  # the row's chosen one, wherever it stood
  assert {tuple(event["order"]) for event in stored} == {(0, 1), (1, 0)}
  assert all(event["seconds"] == 10 for event in stored)


def test_an_undo_brings_the_last_item_back_with_its_label(study, session):
  first = session.view("ann")
  second = rate(session, "ann", "event-0001", "bad")
  view = session.undo("ann", "event-0002", second["last"])
  assert view["item"] == first["item"] and view["answers"] == first["answers"]
  assert view["before"] == prefer(first, "bad") and view["done"] == 0 and view["last"] is None
  assert rate(session, "ann", "event-0003")["before"] is None
  assert [event["type"] for event in events(study)] == ["label", "undo", "label"]
  assert [event["label"]["better"] for event in events(study) if event["type"] == "label"] == [1, 0]
  with pytest.raises(OutOfTurn, match="taken back in another window"):
    session.undo("bob", "event-0004", first["item"])


def test_undo_goes_on_to_the_first_item_and_an_old_one_is_not_twice_undone(session):
  for n in range(3):
    rate(session, "ann", f"event-{n:04}")
  last = session.view("ann")["last"]
  session.undo("ann", "event-0010", last)
  with pytest.raises(OutOfTurn):
    session.undo("ann", "event-0011", last)  # a click on the same button again
  for n in range(2):
    session.undo("ann", f"event-002{n}", session.view("ann")["last"])
  assert session.view("ann")["done"] == 0


def test_an_event_sent_twice_is_stored_once(study, session):
  view = session.view("ann")
  label = prefer(view, "good")
  first = session.label("ann", "event-0001", view["item"], label)
  assert session.label("ann", "event-0001", view["item"], label) == first
  session.undo("ann", "event-0002", view["item"])
  assert session.undo("ann", "event-0002", view["item"])["done"] == 0
  assert session.label("ann", "event-0001", view["item"], label)["done"] == 0  # taken back meanwhile
  assert len(events(study)) == 2
  with pytest.raises(OutOfTurn, match="name was used for another event"):
    session.label("ann", "event-0001", view["item"], prefer(view, "bad"))
  with pytest.raises(OutOfTurn, match="name was used for another event"):
    session.label("bob", "event-0001", view["item"], label)


def test_only_the_item_that_is_shown_can_be_rated(study, session):
  view = session.view("ann")
  done = rate(session, "ann", "event-0001")
  for item in (view["item"], session._queues["ann"][-1], "0" * 16, None, 3):
    with pytest.raises(OutOfTurn, match="rated in another window"):
      session.label("ann", "event-0002", item, prefer(done, "good"))
  assert len(events(study)) == 1


@pytest.mark.parametrize("name", [None, 3, "", "short", "x" * 65, "semi;colon", "line\nbreak-", ["event-0001"]])
def test_an_event_has_a_proper_name(session, name):
  view = session.view("ann")
  with pytest.raises(BadLabel, match="event: expected 8 to 64 letters"):
    session.label("ann", name, view["item"], prefer(view, "good"))


def test_a_bad_label_changes_nothing(study, session):
  view = session.view("ann")
  with pytest.raises(BadLabel):
    session.label("ann", "event-0001", view["item"], {"better": 5})
  assert session.view("ann") == view and events(study) == []
  assert session.label("ann", "event-0001", view["item"], prefer(view, "good"))["done"] == 1


def test_a_study_goes_on_where_it_was(study, tmp_path):
  with EventLog(study.path / EVENTS) as log:
    session = Session(study, log, clock=Clock())
    for n in range(3):
      rate(session, "ann", f"event-{n:04}")
    session.undo("ann", "event-0010", session.view("ann")["last"])
    session.label("bob", "event-0020", session.view("bob")["item"], {"skipped": True})
    before = [session.view(rater) for rater in ("ann", "bob")]
  with EventLog(study.path / EVENTS) as log:
    session = Session(study, log, clock=Clock())
    after = [session.view(rater) for rater in ("ann", "bob")]
    assert [view | {"before": None} for view in before] == after  # only what was taken back is not filled in again
    view = after[0]
    session.label("ann", "event-0010x", view["item"], prefer(view, "good"))
    with pytest.raises(OutOfTurn):  # the names of earlier events are known
      session.label("bob", "event-0000", after[1]["item"], prefer(after[1], "good"))


def test_a_time_is_not_known_if_another_process_showed_the_item(study):
  view = None
  with EventLog(study.path / EVENTS) as log:
    view = Session(study, log).view("ann")
  with EventLog(study.path / EVENTS) as log:
    Session(study, log).label("ann", "event-0001", view["item"], prefer(view, "good"))
  assert events(study)[0]["seconds"] is None


def test_what_cannot_be_stored_has_not_happened(study, session, monkeypatch):
  view = session.view("ann")

  def fail(event):
    raise DiskFailure("full")

  monkeypatch.setattr(session._log, "append", fail)
  with pytest.raises(DiskFailure):
    session.label("ann", "event-0001", view["item"], prefer(view, "good"))
  monkeypatch.undo()
  assert session.view("ann") == view
  assert session.label("ann", "event-0001", view["item"], prefer(view, "good"))["done"] == 1


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (dict(rater="eve"), "found 'label' of 'eve', expected a label or an undo of a rater of the study"),
    (dict(type="vote"), "found 'vote' of 'ann'"),
    (dict(item="0" * 16), "events.jsonl:2: found item '0000000000000000', expected .*: the log is of another study"),
    (dict(type="undo", item="0" * 16), "events.jsonl:2: found item '0000000000000000'"),
  ],
)
def test_the_log_of_another_study_is_refused(study, change, message):
  with EventLog(study.path / EVENTS) as log:
    session = Session(study, log)
    for n in range(2):
      rate(session, "ann", f"event-{n:04}")
  lines = events(study)
  lines[1] |= change
  (study.path / EVENTS).write_text("".join(json.dumps(line) + "\n" for line in lines))
  with EventLog(study.path / EVENTS) as log, pytest.raises(InputError, match=message):
    Session(study, log)


def test_rankings_are_shown_and_stored_in_two_orders(tmp_path):
  study = make_study(tmp_path, RatingKind.RANKING)
  with EventLog(study.path / EVENTS) as log:
    session = Session(study, log)
    view = session.view("ann")
    ranks = [0] * 3
    for rank, beginning in enumerate(("good", "fair", "bad")):
      ranks[place_of(view, beginning)] = rank
    session.label("ann", "event-0001", view["item"], {"ranks": ranks})
    assert session.undo("ann", "event-0002", view["item"])["before"] == {"ranks": ranks}
  assert events(study)[0]["label"] == {"ranks": [0, 1, 2]}


def test_any_order_of_labels_undos_repeats_and_restarts_is_kept(study):
  rng = random.Random(0)
  expected = {"ann": [], "bob": []}
  sent = []
  for n in range(400):
    if n % 40 == 0:
      log = EventLog(study.path / EVENTS)
      session = Session(study, log)
    rater = rng.choice(["ann", "bob"])
    view, done = session.view(rater), expected[rater]
    assert view["done"] == len(done) and view["last"] == (done[-1][0] if done else None)
    choice = rng.random()
    if choice < 0.15 and sent:  # a page sends an old event again
      name, who, *rest = rng.choice(sent)
      (session.label if len(rest) == 2 else session.undo)(who, name, *rest)
    elif choice < 0.5 and done:
      sent.append((f"event-{n:04}", rater, view["last"]))
      session.undo(rater, f"event-{n:04}", done.pop()[0])
    elif view["item"] is not None:
      label = prefer(view, rng.choice(["good", "bad"]), rng.choice(["better", "slightly"]))
      sent.append((f"event-{n:04}", rater, view["item"], label))
      session.label(rater, f"event-{n:04}", view["item"], label)
      done.append((view["item"], view["answers"][label["better"]][:4], label["strength"]))
    if n % 40 == 39:
      log.close()
  assert len(events(study)) == len(sent) > 250
  given = given_labels(study, study.queues(), events(study))
  for rater, done in expected.items():
    said = [(event["item"], event["label"]) for event in given[rater]]
    assert [(item, ["good", "bad "][label["better"]], label["strength"]) for item, label in said] == done
