"""Follows each rater through their items: what is shown, what was said, what was taken back.

A rater's items have a fixed order, and the labels given are always those of its beginning. An undo takes the last one
back. The log has all events; the state is made of them again at each start.
"""

import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from posttrain_jax.labelling import labels
from posttrain_jax.labelling.event_log import EventLog
from posttrain_jax.labelling.labels import BadLabel
from posttrain_jax.labelling.study import EVENTS, LabelStudy
from posttrain_jax.types import InputError

_EVENT_NAME = re.compile(r"[A-Za-z0-9-]{8,64}")


class OutOfTurn(Exception):
  """Says that an event is not about what the rater has before them now."""


def given_labels(
  study: LabelStudy, queues: Mapping[str, Sequence[str]], events: Sequence[Mapping[str, Any]]
) -> dict[str, list[Mapping[str, Any]]]:
  """Returns each rater's labels that were not taken back, in the order of their items.

  Raises:
    InputError: if an event does not follow from those before it, as in the log of another study.
  """
  given: dict[str, list[Mapping[str, Any]]] = {name: [] for name in queues}
  for number, event in enumerate(events, 1):
    where = f"{study.path / EVENTS}:{number}"
    rater, kind = event.get("rater"), event.get("type")
    if rater not in given or kind not in ("label", "undo"):
      raise InputError(f"{where}: found {kind!r} of {rater!r}, expected a label or an undo of a rater of the study")
    done, queue = given[rater], queues[rater]
    expected = queue[len(done)] if kind == "label" and len(done) < len(queue) else done[-1]["item"] if done else None
    if (kind == "label" and len(done) == len(queue)) or event.get("item") != expected:
      raise InputError(f"{where}: found item {event.get('item')!r}, expected {expected!r}: the log is of another study")
    if kind == "label":
      done.append(event)
    else:
      done.pop()
  return given


class Session:
  """Takes what raters do, stores it, and says what comes next."""

  def __init__(self, study: LabelStudy, log: EventLog, *, clock: Callable[[], float] = time.time):
    """Goes on where the log ends.

    Args:
      study: what is rated.
      log: of the study; the session appends to it.
      clock: seconds since 1970.

    Raises:
      InputError: if the log is of another study.
    """
    self._study, self._log, self._clock = study, log, clock
    self._queues = study.queues()
    self._given = given_labels(study, self._queues, log.events)
    self._digests = {event["event"]: event["digest"] for event in log.events}
    self._shown: dict[str, tuple[str, float]] = {}  # a rater's item, and since when
    self._undone: dict[str, Mapping[str, Any]] = {}  # the label that a rater took back last

  def view(self, rater: str) -> dict[str, Any]:
    """Returns what a rater sees now.

    Nothing in it says which model wrote an answer, whether this is a check, or what other raters say.
    """
    queue, done = self._queues[rater], self._given[rater]
    last = done[-1]["item"] if done else None
    seen = {"done": len(done), "total": len(queue), "last": last, "item": None}
    if len(done) == len(queue):
      return seen
    name = queue[len(done)]
    if self._shown.get(rater, ("",))[0] != name:
      self._shown[rater] = name, self._clock()
    item, order = self._study.item(name), self._study.order(rater, name)
    undone = self._undone.get(rater)
    return seen | {
      "item": name,
      "prompt": [{"role": role, "text": text} for role, text in item.prompt],
      "answers": [item.answers[answer] for answer in order],
      "before": labels.as_shown(undone["label"], order) if undone and undone["item"] == name else None,
    }

  def label(self, rater: str, event: Any, item: Any, label: Any) -> dict[str, Any]:
    """Stores a label and returns what the rater sees next.

    Args:
      rater: who says it.
      event: a name that the page made for this event. The same event sent twice is stored once.
      item: which item the rater saw.
      label: what they say, see `labels.checked`.

    Raises:
      BadLabel: if the label is malformed.
      OutOfTurn: if the rater has another item before them, or the name was used for another event.
      DiskFailure: if it cannot be stored.
    """
    digest = _digest(rater, event, "label", item, label)
    if self._repeated(event, digest):
      return self.view(rater)
    queue, done = self._queues[rater], self._given[rater]
    if len(done) == len(queue) or queue[len(done)] != item:
      raise OutOfTurn("this item was rated in another window")
    order = self._study.order(rater, item)
    said = labels.checked(label, self._study.item(item), order, self._study.settings.rules)
    now = self._clock()
    shown, since = self._shown.get(rater, (None, now))
    # Not known if this process has not shown the item: the page was open during a restart.
    seconds = round(max(0.0, now - since), 3) if shown == item else None
    stored = {"order": order, "label": said, "seconds": seconds}
    self._store({"event": event, "type": "label", "rater": rater, "item": item, **stored, "at": now, "digest": digest})
    return self.view(rater)

  def undo(self, rater: str, event: Any, item: Any) -> dict[str, Any]:
    """Takes a rater's last label back and returns its item with that label.

    Args:
      rater: who takes it back.
      event: a name that the page made for this event.
      item: whose label it is.

    Raises:
      BadLabel: if the event has no proper name.
      OutOfTurn: if the rater's last label is of another item, or the name was used for another event.
      DiskFailure: if it cannot be stored.
    """
    digest = _digest(rater, event, "undo", item)
    if self._repeated(event, digest):
      return self.view(rater)
    if not self._given[rater] or self._given[rater][-1]["item"] != item:
      raise OutOfTurn("this was taken back in another window")
    self._store({"event": event, "type": "undo", "rater": rater, "item": item, "at": self._clock(), "digest": digest})
    return self.view(rater)

  def _repeated(self, event: Any, digest: str) -> bool:
    if not isinstance(event, str) or not _EVENT_NAME.fullmatch(event):
      raise BadLabel("event: expected 8 to 64 letters, digits and dashes")
    if self._digests.get(event, digest) != digest:
      raise OutOfTurn("the event's name was used for another event")
    return event in self._digests

  def _store(self, event: dict[str, Any]) -> None:
    rater = event["rater"]
    self._log.append(event)  # if it fails, nothing has changed
    self._digests[event["event"]] = event["digest"]
    self._shown.pop(rater, None)
    if event["type"] == "label":
      self._given[rater].append(event)
      self._undone.pop(rater, None)
    else:
      self._undone[rater] = self._given[rater].pop()


def _digest(*parts: Any) -> str:
  return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
