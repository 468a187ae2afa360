"""Collects what raters say about each item from a study's events."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from posttrain_jax.labelling import labels
from posttrain_jax.labelling.event_log import read_events
from posttrain_jax.labelling.session import given_labels
from posttrain_jax.labelling.study import EVENTS, LabelStudy


@dataclasses.dataclass(frozen=True)
class Vote:
  """Holds what a rater says about an item.

  Attributes:
    rater: who says it.
    item: name of the item.
    label: what they say, see `labels`; never a skip.
    order: which answer stood at each place.
    at: when, in seconds since 1970.
  """

  rater: str
  item: str
  label: Mapping[str, Any]
  order: tuple[int, ...]
  at: float


@dataclasses.dataclass(frozen=True)
class Votes:
  """Holds all that the raters of a study say.

  Attributes:
    by_item: the votes on each item that has one, without checks; the earliest first.
    checks: for each rater whether each check was right; a skipped one is not counted.
    skipped: number of items that each rater skipped.
    labelled: number of labels of each rater, skips and checks included.
    due: number of items and checks that each rater was given.
    seconds: for each rater the times that each of their items took; None: not known.
  """

  by_item: Mapping[str, tuple[Vote, ...]]
  checks: Mapping[str, tuple[bool, ...]]
  skipped: Mapping[str, int]
  labelled: Mapping[str, int]
  due: Mapping[str, int]
  seconds: Mapping[str, Mapping[str, tuple[float | None, ...]]]


def read_votes(study: LabelStudy) -> Votes:
  """Reads a study's events, also while raters go on.

  Raises:
    InputError: if the log is broken or of another study.
  """
  events, queues = read_events(study.path / EVENTS), study.queues()
  given = given_labels(study, queues, events)
  by_item: dict[str, list[Vote]] = collections.defaultdict(list)
  checks: dict[str, list[bool]] = {rater: [] for rater in queues}
  skipped = dict.fromkeys(queues, 0)
  for rater, event in ((rater, event) for rater, done in given.items() for event in done):
    item, label = event["item"], event["label"]
    if label == labels.SKIPPED:
      skipped[rater] += 1
    elif item in study.checks:
      checks[rater].append(labels.is_right(label, study.checks[item].known))
    else:
      by_item[item].append(Vote(rater, item, label, tuple(event["order"]), event["at"]))
  return Votes(
    by_item={name: tuple(sorted(by_item[name], key=lambda vote: vote.at)) for name in study.items if name in by_item},
    checks={rater: tuple(found) for rater, found in checks.items()},
    skipped=skipped,
    labelled={rater: len(done) for rater, done in given.items()},
    due={rater: len(queue) for rater, queue in queues.items()},
    seconds={rater: _seconds(events, rater) for rater in queues},
  )


def _seconds(events: Sequence[Mapping[str, Any]], rater: str) -> dict[str, tuple[float | None, ...]]:
  """Returns the times of each item, one for each time that it was labelled."""
  found: dict[str, list[float | None]] = collections.defaultdict(list)
  for event in events:
    if event["rater"] == rater and event["type"] == "label":
      found[event["item"]].append(event["seconds"])
  return {item: tuple(times) for item, times in found.items()}
