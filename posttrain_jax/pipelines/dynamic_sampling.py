"""DAPO's dynamic sampling, streaming: fill a step with groups that have both right and wrong answers.

A group is judged when it is complete. One whose answers are all right or all wrong has no gradient and is replaced by
another prompt's; a step trains on the first N informative groups in prompt order. Replacing is where a bias towards
short answers creeps in: whoever keeps what finished first and throws away what is still running drops long answers.
So nothing finished is carried over while something unfinished is thrown away; here nothing is ever thrown away
unfinished, and no clock decides anything.

Two ways to admit prompts (`Admission`):

  drain   waves of (N - have) / p groups, p the informative share of late, but of at most 2 N; all finish before the
          next wave; the informative ones too many, fewer than 2 N, are carried: they are trained on within two steps
  exact   one replacement for each dropped group, never more than N groups open or accepted; nothing is carried

Deviation from the paper (2503.14476, section 3.2), whose script draws batches of three times N prompts and cuts the
surplus off: here surplus is carried or not made.
"""

import collections
import dataclasses
import enum
import math
from collections.abc import Callable, Sequence
from typing import Any

from posttrain_jax import losses
from posttrain_jax.data.stream import PromptStream
from posttrain_jax.pipelines import rollout_metrics
from posttrain_jax.pipelines.group_json import group_from_json, group_to_json
from posttrain_jax.sampling.engine import Engine
from posttrain_jax.types import Group, InputError

Judge = Callable[[Sequence[Group]], list[Group]]


class Admission(enum.StrEnum):
  """How prompts are admitted until a step has its groups."""

  DRAIN = "drain"
  EXACT = "exact"


class AtCap(enum.StrEnum):
  """What happens when a step has drawn as many prompts as it may and still lacks informative groups."""

  ERROR = "error"  # SamplingCapReached ends the run with exit code 1; the last checkpoint stays
  TRAIN_PARTIAL = "train_partial"  # train on the groups that there are
  STOP = "stop"  # end the run regularly, with a checkpoint


class Verdict(enum.StrEnum):
  """What became of a group."""

  TRAINED = "trained"
  CARRIED = "carried"  # informative, kept for the next step
  ALL_RIGHT = "all_right"
  ALL_WRONG = "all_wrong"
  INVALID = "invalid"  # fewer than two answers have a reward


class SamplingCapReached(RuntimeError):
  """A step drew as many prompts as it may without finding enough informative groups."""


@dataclasses.dataclass(frozen=True)
class DynamicSampling:
  """Settings.

  Attributes:
    enabled: replace uninformative groups; if False a step trains on whatever it drew.
    admission: how prompts are admitted.
    max_prompts: cap on the prompts drawn for one step.
    at_cap: what to do there.
  """

  enabled: bool = True
  admission: Admission = Admission.DRAIN
  max_prompts: int = 0
  at_cap: AtCap = AtCap.ERROR


@dataclasses.dataclass(frozen=True)
class Collected:
  """What one step collected.

  Attributes:
    trained: the groups to train on, in prompt order; N of them, fewer only at the cap.
    judged: every group judged in this step with its verdict, in prompt order; carried ones come again when trained.
    at_cap: True if the cap on prompts ended the collection.
    metrics: `sampling/...`, lengths and truncation, as logged.
  """

  trained: list[Group]
  judged: list[tuple[Group, Verdict]]
  at_cap: bool
  metrics: dict[str, float]


def verdict(group: Group) -> Verdict:
  """Judges a group by raw accuracy alone (DAPO, equation 11); shaped rewards play no part."""
  if group.valid.sum() < 2:
    return Verdict.INVALID
  if losses.advantages.informative_groups(group.accuracy[None], valid=group.valid[None])[0]:
    return Verdict.TRAINED
  return Verdict.ALL_RIGHT if (group.accuracy > 0.5)[group.valid].all() else Verdict.ALL_WRONG


class Collector:
  """Collects groups for one step after another.

  Between steps it holds what a checkpoint must hold: the stream's position, the carried groups, and the informative
  share of late.
  """

  def __init__(
    self,
    engine: Engine,
    stream: PromptStream,
    judge: Judge,
    *,
    groups: int,
    group_size: int,
    settings: DynamicSampling,
  ):
    """Wires engine, prompts and judge.

    Args:
      engine: with the current parameters loaded whenever `collect` is called.
      stream: where prompts come from.
      judge: fills in accuracy, rewards and validity.
      groups: N, groups a step trains on.
      group_size: G, answers a prompt.
      settings: whether and how to replace uninformative groups.

    Raises:
      InputError: a cap below N, or group sizes that cannot be informative.
    """
    if settings.enabled and group_size < 2:
      raise InputError(f"rollout.group_size: {group_size}, expected at least 2 for dynamic sampling")
    if settings.enabled and settings.max_prompts < groups:
      raise InputError(
        f"dynamic_sampling.max_prompts: {settings.max_prompts}, expected at least {groups} (groups a step)"
      )
    self.engine, self.stream, self.judge, self.settings = engine, stream, judge, settings
    self.groups, self.group_size = groups, group_size
    self.carried: list[Group] = []
    self.informative_of_late, self.judged_of_late = 0.0, 0.0

  @property
  def informative_share(self) -> float:
    """Informative share of the groups judged of late (each step halves the weight of those before); 1 at the start."""
    if not self.judged_of_late:
      return 1.0
    return max(self.informative_of_late / self.judged_of_late, 1e-3)

  def collect(self) -> Collected:
    """Draws prompts, samples and judges until N informative groups are there or the cap is reached.

    Raises:
      SamplingCapReached: the cap was reached and the setting is `error`.
    """
    self.engine.take_stats()
    settings = self.settings
    accepted, self.carried = [(group, Verdict.TRAINED) for group in self.carried], []
    fresh: list[tuple[Group, Verdict]] = []
    if not settings.enabled:
      fresh = [(group, Verdict.TRAINED) for group in self._sample(self.groups)]
      # Without replacement a group is trained on whatever its answers are; its verdict is only counted.
      counted = [verdict(group) for group, _ in fresh]
    else:
      fresh = (self._drain if settings.admission == Admission.DRAIN else self._exact)(len(accepted))
      counted = [outcome for _, outcome in fresh]
    usable = accepted + [item for item in fresh if item[1] == Verdict.TRAINED]
    trained, surplus = usable[: self.groups], usable[self.groups :]
    self.carried = [group for group, _ in surplus]
    at_cap = len(trained) < self.groups
    if at_cap and settings.at_cap == AtCap.STOP:
      self.carried = [group for group, _ in trained]  # the run ends here; nothing found is thrown away
    if at_cap and settings.at_cap == AtCap.ERROR:
      raise SamplingCapReached(
        f"{len(fresh)} prompts gave {len(trained)} informative groups of {self.groups}; dynamic_sampling.max_prompts "
        f"is {settings.max_prompts}, dynamic_sampling.at_cap may be train_partial or stop"
      )
    self.informative_of_late = self.informative_of_late / 2 + counted.count(Verdict.TRAINED)
    self.judged_of_late = self.judged_of_late / 2 + len(counted)
    kept = {id(group) for group in self.carried}
    judged = [(group, Verdict.CARRIED if id(group) in kept else outcome) for group, outcome in fresh]
    trained = [group for group, _ in trained]
    metrics = rollout_metrics.describe(
      trained, judged, collections.Counter(counted), self.engine.take_stats(), version=self.engine.version
    )
    return Collected(trained=trained, judged=judged, at_cap=at_cap, metrics=metrics)

  def _sample(self, count: int) -> list[Group]:
    return self.judge(self.engine.generate(self.stream.next(count), self.group_size))

  def _drain(self, have: int) -> list[tuple[Group, Verdict]]:
    fresh, share = [], self.informative_share
    while have < self.groups and len(fresh) < self.settings.max_prompts:
      # Staleness is bounded by admitting less: when the share jumps up, a wave may turn out informative throughout.
      wave = min(math.ceil((self.groups - have) / share), 2 * self.groups, self.settings.max_prompts - len(fresh))
      wave = [(group, verdict(group)) for group in self._sample(wave)]
      have += sum(outcome == Verdict.TRAINED for _, outcome in wave)
      fresh += wave
    return fresh

  def _exact(self, have: int) -> list[tuple[Group, Verdict]]:
    outcomes, order = {}, []

    def admit(count):
      for prompt in self.stream.next(min(count, self.settings.max_prompts - len(order))):
        order.append((prompt.index, prompt.attempt))
        self.engine.submit(prompt, self.group_size)

    admit(self.groups - have)
    while self.engine.busy:
      for group in self.judge(self.engine.step()):
        outcome = outcomes[group.prompt.index, group.prompt.attempt] = (group, verdict(group))
        if outcome[1] != Verdict.TRAINED:
          admit(1)
    return [outcomes[name] for name in order]

  def state(self) -> dict[str, Any]:
    """What a checkpoint must hold, as a JSON object."""
    return {
      "stream": self.stream.position,
      "carried": [group_to_json(group) for group in self.carried],
      "informative_of_late": self.informative_of_late,
      "judged_of_late": self.judged_of_late,
    }

  def restore(self, state: dict[str, Any]) -> None:
    """Goes back to a state."""
    self.stream.position = state["stream"]
    self.carried = [group_from_json(group) for group in state["carried"]]
    self.informative_of_late, self.judged_of_late = state["informative_of_late"], state["judged_of_late"]
