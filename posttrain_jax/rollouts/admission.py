"""Admits prompts until a step has its groups: one function for each mode but `carry`.

Each function takes a `Supply` and the number of groups that the step has already. It returns the groups that it drew
with their verdicts, in prompt order; `Collector` drops the uninformative ones. `dynamic_sampling` explains the modes,
and `carry` has a module of its own.
"""

import math
from collections.abc import Callable, Sequence

from posttrain_jax.data.stream import PromptStream
from posttrain_jax.rollouts.dynamic_sampling import Judged, Verdict, drop_uninformative_groups
from posttrain_jax.rollouts.multi_process import shared
from posttrain_jax.sampling.engine import Engine
from posttrain_jax.types import Group, Judge, Prompt


class Supply:
  """Draws prompts, answers and verdicts for one step, up to its cap.

  Attributes:
    engine: the engine, with the current parameters loaded.
    groups: N, groups that the step trains on.
    group_size: G, answers a prompt.
    drawn: number of prompts drawn so far.
    verdict: says what a judged group's answers say about it.
  """

  def __init__(
    self,
    engine: Engine,
    stream: PromptStream,
    judge: Judge,
    *,
    groups: int,
    group_size: int,
    cap: int,
    verdict: Callable[[Group], Verdict],
  ):
    """Starts a step that may draw `cap` prompts."""
    self.verdict = verdict
    self.engine, self.groups, self.group_size, self.drawn = engine, groups, group_size, 0
    self._stream, self._judge, self._cap = stream, judge, cap

  def draw(self, count: int) -> list[Prompt]:
    """Draws the next prompts: fewer than `count` at the cap, none if all are retired."""
    prompts = self._stream.next(max(0, min(count, self._cap - self.drawn)))
    self.drawn += len(prompts)
    return prompts

  def judge(self, groups: Sequence[Group]) -> list[Judged]:
    """Judges finished groups."""
    return [(group, self.verdict(group)) for group in self._judge(groups)]

  def sample(self, count: int) -> list[Judged]:
    """Draws prompts, waits for all their answers and judges them."""
    prompts = self.draw(count)
    judged = shared(prompts, lambda own: self._judge(self.engine.generate(own, self.group_size))) if prompts else []
    return [(group, self.verdict(group)) for group in judged]


def drain(supply: Supply, have: int, share: float) -> list[Judged]:
  """Samples waves of (N - have) / share prompts; each wave finishes before the next.

  `share` is the informative share of recent steps.
  """
  fresh: list[Judged] = []
  while have < supply.groups:
    # The limit of 2 N bounds staleness: if the share jumps up, a wave may turn out informative throughout.
    wave = supply.sample(min(math.ceil((supply.groups - have) / share), 2 * supply.groups))
    if not wave:
      break
    have += len(drop_uninformative_groups(wave))
    fresh += wave
  return fresh


def exact(supply: Supply, have: int) -> list[Judged]:
  """Samples one more prompt for each dropped group; at most N are open or accepted."""
  judged_by_name: dict[tuple[int, int], Judged] = {}
  order: list[tuple[int, int]] = []

  def admit(count: int) -> None:
    for prompt in supply.draw(count):
      order.append((prompt.index, prompt.attempt))
      supply.engine.submit(prompt, supply.group_size)

  admit(supply.groups - have)
  while supply.engine.busy:
    for group, found in supply.judge(supply.engine.step()):
      judged_by_name[group.prompt.index, group.prompt.attempt] = group, found
      if found != Verdict.INFORMATIVE:
        admit(1)
  return [judged_by_name[name] for name in order]


def filter_without_refill(supply: Supply, have: int) -> list[Judged]:
  """Samples N - have prompts once; dropped groups are not replaced."""
  return supply.sample(supply.groups - have)


def batch(supply: Supply, have: int, factor: int) -> list[Judged]:
  """Samples batches of `factor` N prompts until there are N informative groups."""
  fresh: list[Judged] = []
  while have < supply.groups:
    more = supply.sample(factor * supply.groups)
    if not more:
      break
    have += len(drop_uninformative_groups(more))
    fresh += more
  return fresh
