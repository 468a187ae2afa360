"""Implements admission `carry`: slots stay busy, and unfinished groups go on in the next step.

Groups stand in a line, a queue in prompt order. A step takes informative groups from the head of the line. So a group
is trained on only when all groups before it have their verdicts: a short answer, which finishes early, has no
advantage over a long one. When the step has its N groups, the engine is suspended. The next step resumes it with the
parameters trained meanwhile: each token keeps the version that drew it, and keys and values are computed anew.

Admission bounds staleness. A prompt is admitted only while fewer than (max_staleness + 1) N groups, in line or in the
step, are informative or may turn out so. Each step takes N of them from the head, so a group is trained on at most
`max_staleness` steps after the step that admitted its prompt. Where that bound leaves too little to do, slots idle.

No clock decides anything. Groups are judged on another thread while the engine runs, but a verdict takes effect
exactly `delay` dispatches after the group's last answer ended; if it is late, the engine waits for it. A checkpoint
holds the verdicts that exist, so a resumed run replays them. A verifier's time-out is the only influence of wall time.

Only verifiers run on that other thread. Programs that span devices must be started by one thread, in one order: if two
threads start them, devices may get them in different orders and wait for each other for ever. So a reward model scores
groups on the engine's thread, when their verdicts take effect.
"""

import concurrent.futures
import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

from posttrain_jax.rollouts.admission import Supply
from posttrain_jax.rollouts.dynamic_sampling import Judged, Verdict, verdict
from posttrain_jax.types import Group, Judge


@dataclasses.dataclass
class _LineEntry:
  """Holds the state of one group in the line.

  Attributes:
    tokens: number of tokens of its answers; 0 until it is finished.
    due: the dispatch at which its verdict takes effect; None until it is finished.
    judged: waits for the judged group and returns it; None until the group is finished.
    verdict: the verdict, once it has taken effect.
  """

  tokens: int = 0
  due: int | None = None
  judged: Callable[[], Group] | None = None
  verdict: Verdict | None = None


class Line:
  """Holds the groups that are under way, judged, or waiting for training, in prompt order.

  Between steps it holds what a checkpoint must hold of them.
  """

  def __init__(
    self,
    judge: Judge,
    rejudge: Judge | None = None,
    *,
    max_staleness: int,
    delay: int,
    verdict: Callable[[Group], Verdict] = verdict,
  ):
    """Starts empty.

    Args:
      judge: judges finished groups; called on a thread of its own, one call at a time.
      rejudge: a model's judgement of groups that `judge` has judged; called on the caller's thread.
      max_staleness: most steps between a prompt's admission and training on its group.
      delay: dispatches between the end of a group's last answer and the effect of its verdict.
      verdict: says what a judged group's answers say about it.
    """
    self._judge, self._rejudge, self._max_staleness, self._delay = judge, rejudge, max_staleness, delay
    self._verdict = verdict
    self._entries: dict[tuple[int, int], _LineEntry] = {}  # by prompt index and attempt
    self._suspended: list[Group] = []
    self._dispatch = 0
    self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="verdicts")

  def collect(self, supply: Supply, have: int) -> list[Judged]:
    """Runs the engine until N - have informative groups have left the line.

    It also stops if the line is empty and no prompt can be drawn.

    Returns:
      The groups that left the line, in prompt order, with their verdicts.
    """
    engine = supply.engine
    left: list[Judged] = []
    engine.resume(self._suspended)
    while True:
      have += self._leave(left, supply.groups - have)
      if have == supply.groups:
        break
      room = (self._max_staleness + 1) * supply.groups - have - sum(map(_may_be_informative, self._entries.values()))
      for prompt in supply.draw(min(math.ceil(engine.free_slots / supply.group_size), room)):
        self._entries[prompt.index, prompt.attempt] = _LineEntry()
        engine.submit(prompt, supply.group_size)
      if engine.busy:
        self._dispatch += 1
        self._send_to_judge(engine.step())
      elif waiting := [entry.due for entry in self._entries.values() if entry.verdict is None]:
        self._dispatch = min(waiting)  # until then there is nothing else to do
      else:
        break
      self._apply_due_verdicts()
    self._suspended = engine.suspend()
    return left

  def _leave(self, left: list[Judged], wanted: int) -> int:
    """Moves judged groups from the head of the line to `left`.

    It stops after `wanted` informative groups, or at a group without a verdict. Returns the number of informative ones.
    """
    found = 0
    while found < wanted and self._entries:
      name, entry = next(iter(self._entries.items()))
      if entry.verdict is None:
        break
      del self._entries[name]
      left.append((entry.judged(), entry.verdict))
      found += entry.verdict == Verdict.INFORMATIVE
    return found

  def _send_to_judge(self, groups: Sequence[Group]) -> None:
    """Starts the judging of finished groups on the other thread."""
    if not groups:
      return
    verified = self._thread.submit(self._judge, groups)

    @functools.cache
    def judged() -> list[Group]:
      return verified.result() if self._rejudge is None else self._rejudge(verified.result())

    for i, group in enumerate(groups):
      entry = self._entries[group.prompt.index, group.prompt.attempt]
      entry.tokens, entry.due = int(group.lengths.sum()), self._dispatch + self._delay
      entry.judged = functools.partial(lambda i: judged()[i], i)

  def _apply_due_verdicts(self) -> None:
    """Lets verdicts take effect whose dispatch has come; waits for those that are late."""
    for entry in self._entries.values():
      if entry.verdict is None and entry.due is not None and entry.due <= self._dispatch:
        entry.verdict = self._verdict(entry.judged())

  @property
  def informative(self) -> int:
    """Counts the groups in line that are known to be informative."""
    return sum(entry.verdict == Verdict.INFORMATIVE for entry in self._entries.values())

  def describe(self) -> dict[str, int]:
    """Counts the groups and tokens that a step leaves behind.

    In flight are groups with unfinished answers. Waiting are finished groups behind the first one without a verdict.
    """
    entries = list(self._entries.values())
    judged = [entry.verdict is not None for entry in entries]
    head = judged.index(False) if False in judged else len(entries)
    return {
      "sampling/in_flight_groups": sum(entry.due is None for entry in entries),
      "sampling/in_flight_tokens": int(sum(group.lengths.sum() for group in self._suspended)),
      "sampling/waiting_groups": sum(entry.due is not None for entry in entries[head + 1 :]),
      "sampling/waiting_tokens": sum(entry.tokens for entry in entries[head + 1 :]),
    }

  def state(self) -> list[int | None]:
    """Returns for each group in line the dispatches until its verdict counts.

    It is None for a verdict that is under way.
    """
    entries = self._entries.values()
    return [None if entry.due is None else max(0, entry.due - self._dispatch) for entry in entries]

  def groups(self) -> list[Group]:
    """Returns the groups in line.

    It waits for verdicts that are under way, so that finished groups are saved with theirs.
    """
    suspended = {(group.prompt.index, group.prompt.attempt): group for group in self._suspended}
    return [suspended[name] if entry.due is None else entry.judged() for name, entry in self._entries.items()]

  def restore(self, state: Sequence[int | None], groups: Sequence[Group]) -> None:
    """Goes back to what `state` and `groups` returned."""
    self._entries, self._suspended, self._dispatch = {}, [], 0
    for due, group in zip(state, groups, strict=True):
      entry = self._entries[group.prompt.index, group.prompt.attempt] = _LineEntry()
      if due is None:
        self._suspended.append(group)
      else:
        entry.tokens, entry.due = int(group.lengths.sum()), due
        entry.judged = functools.partial(lambda group: group, group)
    self._apply_due_verdicts()


def _may_be_informative(entry: _LineEntry) -> bool:
  return entry.verdict is None or entry.verdict == Verdict.INFORMATIVE
