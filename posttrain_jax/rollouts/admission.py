"""How prompts are admitted until a step has its groups: one function a mode. `carry` has a module of its own.

Each takes a `Supply` and how many informative groups the step has already, and returns the groups that it drew with
their verdicts, in prompt order. What the modes are for is told in `dynamic_sampling`.
"""

import enum
import math
from collections.abc import Sequence

from posttrain_jax.data.stream import PromptStream
from posttrain_jax.rollouts.multi_process import shared
from posttrain_jax.rollouts.verdicts import Verdict, verdict
from posttrain_jax.sampling.engine import Engine
from posttrain_jax.types import Group, Judge, Prompt

Judged = tuple[Group, Verdict]


class Admission(enum.StrEnum):
  """How prompts are admitted until a step has its groups."""

  DRAIN = "drain"
  EXACT = "exact"
  CARRY = "carry"
  FILTER = "filter"
  BATCH = "batch"


class Supply:
  """What one step may draw from.

  Attributes:
    engine: with the current parameters loaded.
    groups: N, groups that the step trains on.
    group_size: G, answers a prompt.
    drawn: prompts drawn so far.
  """

  def __init__(self, engine: Engine, stream: PromptStream, judge: Judge, *, groups: int, group_size: int, cap: int):
    """Starts a step that may draw `cap` prompts."""
    self.engine, self.groups, self.group_size, self.drawn = engine, groups, group_size, 0
    self._stream, self._judge, self._cap = stream, judge, cap

  def draw(self, count: int) -> list[Prompt]:
    """The next prompts; fewer than asked for where the cap or the end of what may be drawn is reached."""
    prompts = self._stream.next(max(0, min(count, self._cap - self.drawn)))
    self.drawn += len(prompts)
    return prompts

  def judge(self, groups: Sequence[Group]) -> list[Judged]:
    """Groups with their verdicts."""
    return [(group, verdict(group)) for group in self._judge(groups)]

  def sample(self, count: int) -> list[Judged]:
    """Draws prompts, waits for all their answers and judges them."""
    prompts = self.draw(count)
    judged = shared(prompts, lambda own: self._judge(self.engine.generate(own, self.group_size))) if prompts else []
    return [(group, verdict(group)) for group in judged]


def drain(supply: Supply, have: int, share: float) -> list[Judged]:
  """Waves of (N - have) / share prompts, `share` the informative one of late, each of which is finished."""
  fresh: list[Judged] = []
  while have < supply.groups:
    # Staleness is bounded by admitting less: when the share jumps up, a wave may turn out informative throughout.
    wave = supply.sample(min(math.ceil((supply.groups - have) / share), 2 * supply.groups))
    if not wave:
      break
    have += informative(wave)
    fresh += wave
  return fresh


def exact(supply: Supply, have: int) -> list[Judged]:
  """One prompt in place of each dropped group; never more than N groups are open or accepted."""
  outcomes, order = {}, []

  def admit(count):
    for prompt in supply.draw(count):
      order.append((prompt.index, prompt.attempt))
      supply.engine.submit(prompt, supply.group_size)

  admit(supply.groups - have)
  while supply.engine.busy:
    for judged in supply.judge(supply.engine.step()):
      outcomes[judged[0].prompt.index, judged[0].prompt.attempt] = judged
      if judged[1] != Verdict.TRAINED:
        admit(1)
  return [outcomes[name] for name in order]


def keep_what_is_informative(supply: Supply, have: int) -> list[Judged]:
  """N prompts, without replacement of those that are dropped."""
  return supply.sample(supply.groups - have)


def batch(supply: Supply, have: int, factor: int) -> list[Judged]:
  """Batches of `factor` N prompts, each finished, until there are enough; what is too much is surplus."""
  fresh: list[Judged] = []
  while have + informative(fresh) < supply.groups:
    more = supply.sample(factor * supply.groups)
    if not more:
      break
    fresh += more
  room, judged = supply.groups - have, []
  for group, outcome in fresh:
    if outcome == Verdict.TRAINED:
      room -= 1
      outcome = outcome if room >= 0 else Verdict.SURPLUS
    judged.append((group, outcome))
  return judged


def informative(judged: Sequence[Judged]) -> int:
  """How many of them are informative and go on."""
  return sum(outcome == Verdict.TRAINED for _, outcome in judged)
