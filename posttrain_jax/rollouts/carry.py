"""Admission `carry`: all slots stay busy, and what a step leaves unfinished goes on in the next.

Groups stand in a line in prompt order. A step takes informative groups from its head, so a group is trained on only
when all before it have their verdicts: what finishes early, being short, has no advantage over what finishes late. When
the step has its N groups, the engine is suspended, and the next step resumes it with the parameters trained meanwhile;
each token keeps the version that drew it, and keys and values are computed anew.

How stale a group can get is decided at the door: a prompt is admitted only while fewer than (max_staleness + 1) N
groups, in line or in the step, are informative or may turn out so. Each step takes N of them from the head, so a group
is trained on at most `max_staleness` steps after the one that admitted its prompt. Where that bound leaves too little
to do, slots idle.

No clock decides anything: groups are judged on a thread beside the engine, but a verdict takes effect `delay`
dispatches after the group's last answer ended, and is waited for if it is late. A checkpoint holds the verdicts that
there are, so a resumed run replays them; a verifier's time-out remains the one thing that wall time has a say in.

Programs that span devices are started by one thread, in one order: where two threads start them, devices may get them
in different orders and wait for each other for ever. So only verifiers judge on the thread beside; a reward model
scores what they judged when their verdicts take effect, on the engine's thread.
"""

import concurrent.futures
import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

from posttrain_jax.rollouts.admission import Judged, Supply
from posttrain_jax.rollouts.group_json import group_from_json, group_to_json
from posttrain_jax.rollouts.verdicts import Verdict, verdict
from posttrain_jax.types import Group, Judge


@dataclasses.dataclass
class _Place:
  """A group's place in the line.

  Attributes:
    tokens: of its answers; 0 until it is finished.
    due: the dispatch at which its verdict takes effect; None until it is finished.
    judged: waits for the judged group; None until it is finished.
    outcome: the verdict, once it has taken effect.
  """

  tokens: int = 0
  due: int | None = None
  judged: Callable[[], Group] | None = None
  outcome: Verdict | None = None


class Line:
  """The groups that are under way, judged, or waiting to be trained on, in prompt order.

  Between steps it holds what a checkpoint must hold of them.
  """

  def __init__(self, judge: Judge, rejudge: Judge | None = None, *, max_staleness: int, delay: int):
    """Starts empty.

    Args:
      judge: of finished groups; called on a thread of its own, one call at a time.
      rejudge: a model's judgement of groups that `judge` has judged; called on the caller's thread.
      max_staleness: steps between a prompt's admission and training on its group, at most.
      delay: dispatches between the end of a group's last answer and the effect of its verdict.
    """
    self._judge, self._rejudge, self._max_staleness, self._delay = judge, rejudge, max_staleness, delay
    self._places: dict[tuple[int, int], _Place] = {}
    self._suspended: list[Group] = []
    self._dispatch = 0
    self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="verdicts")

  def collect(self, supply: Supply, have: int) -> list[Judged]:
    """Runs the engine until the head of the line has N - have informative groups, or the supply ends.

    Returns:
      The groups that left the line, in prompt order, with their verdicts.
    """
    engine, left = supply.engine, []
    engine.resume(self._suspended)
    while True:
      have += self._leave(left, supply.groups - have)
      if have == supply.groups:
        break
      room = (self._max_staleness + 1) * supply.groups - have - sum(map(_may_be_informative, self._places.values()))
      for prompt in supply.draw(min(math.ceil(engine.free_slots / supply.group_size), room)):
        self._places[prompt.index, prompt.attempt] = _Place()
        engine.submit(prompt, supply.group_size)
      if engine.busy:
        self._dispatch += 1
        self._send(engine.step())
      elif waiting := [place.due for place in self._places.values() if place.outcome is None]:
        self._dispatch = min(waiting)  # nothing else is to be done until then
      else:
        break
      self._take_effect()
    self._suspended = engine.suspend()
    return left

  def _leave(self, left: list[Judged], wanted: int) -> int:
    """Moves decided groups from the head of the line to `left` until `wanted` informative ones are among them."""
    found = 0
    while found < wanted and self._places:
      name, place = next(iter(self._places.items()))
      if place.outcome is None:
        break
      del self._places[name]
      left.append((place.judged(), place.outcome))
      found += place.outcome == Verdict.TRAINED
    return found

  def _send(self, groups: Sequence[Group]) -> None:
    """Has finished groups judged."""
    if not groups:
      return
    verdicts = self._thread.submit(self._judge, groups)

    @functools.cache
    def judged() -> list[Group]:
      return verdicts.result() if self._rejudge is None else self._rejudge(verdicts.result())

    for i, group in enumerate(groups):
      place = self._places[group.prompt.index, group.prompt.attempt]
      place.tokens, place.due = int(group.lengths.sum()), self._dispatch + self._delay
      place.judged = functools.partial(lambda i: judged()[i], i)

  def _take_effect(self) -> None:
    for place in self._places.values():
      if place.outcome is None and place.due is not None and place.due <= self._dispatch:
        place.outcome = verdict(place.judged())

  @property
  def informative(self) -> int:
    """Groups in line that are known to be informative."""
    return sum(place.outcome == Verdict.TRAINED for place in self._places.values())

  def describe(self) -> dict[str, int]:
    """What a step leaves behind: counts of groups, and of their tokens.

    Groups under way, and finished ones that wait for one before them in line.
    """
    places = list(self._places.values())
    decided = [place.outcome is not None for place in places]
    head = decided.index(False) if False in decided else len(places)
    return {
      "sampling/in_flight_groups": sum(place.due is None for place in places),
      "sampling/in_flight_tokens": int(sum(group.lengths.sum() for group in self._suspended)),
      "sampling/waiting_groups": sum(place.due is not None for place in places[head + 1 :]),
      "sampling/waiting_tokens": sum(place.tokens for place in places[head + 1 :]),
    }

  def state(self) -> list[dict[str, Any]]:
    """The line as JSON objects: tokens, logprobs as drawn, versions, and the verdicts; waits for those under way."""
    suspended = {(group.prompt.index, group.prompt.attempt): group for group in self._suspended}
    return [
      {"group": group_to_json(suspended[name]), "due": None}
      if place.due is None
      else {"group": group_to_json(place.judged()), "due": max(0, place.due - self._dispatch)}
      for name, place in self._places.items()
    ]

  def restore(self, state: Sequence[dict[str, Any]]) -> None:
    """Goes back to a state."""
    self._places, self._suspended, self._dispatch = {}, [], 0
    for saved in state:
      group = group_from_json(saved["group"])
      place = self._places[group.prompt.index, group.prompt.attempt] = _Place()
      if saved["due"] is None:
        self._suspended.append(group)
      else:
        place.tokens, place.due = int(group.lengths.sum()), saved["due"]
        place.judged = functools.partial(lambda group: group, group)
    self._take_effect()


def _may_be_informative(place: _Place) -> bool:
  return place.outcome is None or place.outcome == Verdict.TRAINED
