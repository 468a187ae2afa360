"""Defines DAPO's dynamic sampling: a step trains on informative groups only.

A group is informative if it has both right and wrong answers. In any other group all advantages are 0, so it has no
gradient. Dynamic sampling drops such groups and draws other prompts in their place, until the step has N informative
groups (2503.14476, section 3.2). It is streaming: a group is judged when all its answers have ended, and the step
trains on the first N informative groups in prompt order. Where accuracies are graded (.6, .9, .8, .7), a group that is
all right may have a gradient, too: `informative="spread"` keeps every group whose accuracies differ.

Replacing groups can favour short answers. At any moment the answers that have finished are shorter than those that are
still running. A step that keeps finished groups and throws away running ones therefore trains on short answers: they
are about a tenth shorter in the mean, and hardly any reaches the cap. This happens even if correctness does not depend
on length. So the rule is: every group that is started is finished and judged. Its verdict and its place in the order
of prompts decide whether it is trained on, never the time at which it finished. No clock decides anything: slow
verifiers change no result.

Ways to admit prompts (`Admission`; N groups a step, p the informative share):

  drain   Admits waves of (N - have) / p groups, p measured over recent steps, but at most 2 N a wave. All groups of a
          wave finish before the next wave starts. Informative groups beyond the first N, fewer than 2 N, are carried
          into the next step, and are trained on within two steps. Nearly on-policy.
  exact   Admits one prompt for each dropped group, so that at most N groups are open or accepted. Nothing is carried.
          On-policy; slots idle while the last groups finish.
  carry   Keeps all slots busy. Finished and unfinished groups go on into the next step, under its parameters. A group
          is trained on at most `max_staleness` steps after its prompt was admitted; this bound is kept by admitting
          fewer prompts, not by throwing groups away (`rollouts.carry`). Least idle, least waste, most stale.
  filter  Admits N groups, drops the uninformative ones and does not replace them: a smaller, noisier step. This is
          the technique without its refilling, for ablations.
  batch   Follows DAPO's published script: draws `batch_factor` N prompts (3 N), waits for all, drops uninformative
          groups, and repeats until there are N; takes the first N and throws the surplus away. On-policy, and
          unbiased because all groups have finished; wasteful.

Deviations from the paper: it does not say what happens to surplus groups. Its script throws them away; here only
`batch` does so. Its script ends the run after 10 batches without enough groups; here `max_prompts` is the cap, and
`at_cap` says what happens there.

It can happen that all prompts are retired (`retire_after`). Then no prompt can be drawn, which is treated like the
cap. Under `train_partial` the run ends with an error once there is no group left to train on.
"""

import dataclasses
import enum
from collections.abc import Iterable

import jax
import numpy as np

from posttrain_jax import losses
from posttrain_jax.types import Group, InputError

_SAME = 1e-6  # accuracies that differ by less are the same


class Admission(enum.StrEnum):
  """Names the ways to admit prompts until a step has its groups."""

  DRAIN = "drain"
  EXACT = "exact"
  CARRY = "carry"
  FILTER = "filter"
  BATCH = "batch"


class Informative(enum.StrEnum):
  """Names what makes a group informative."""

  MIXED = "mixed"  # it has both right and wrong answers (DAPO, equation 11)
  SPREAD = "spread"  # its accuracies differ


class AtCap(enum.StrEnum):
  """Names the reactions to a step that reached its cap on prompts without N groups."""

  ERROR = "error"  # SamplingCapReached ends the run with exit code 1; the last checkpoint stays
  TRAIN_PARTIAL = "train_partial"  # train on the groups that there are
  STOP = "stop"  # end the run regularly, with a checkpoint


class Verdict(enum.StrEnum):
  """Names what a group's answers say about it."""

  INFORMATIVE = "informative"
  ALL_RIGHT = "all_right"
  ALL_WRONG = "all_wrong"
  INVALID = "invalid"  # fewer than two answers have a reward


@dataclasses.dataclass(frozen=True)
class DynamicSamplingSettings:
  """Holds the config's `dynamic_sampling`.

  Attributes:
    enabled: drop and replace uninformative groups; if False, a step trains on all groups that it drew.
    admission: the way to admit prompts.
    max_prompts: the cap on prompts drawn for one step.
    at_cap: the reaction at that cap.
    max_staleness: for `carry`: most steps from a prompt's admission to training on its group; 0 is on-policy.
    verdict_delay: for `carry`: dispatches from the end of a group to the effect of its verdict. This is the time that
      verifiers have before the engine waits for them.
    batch_factor: for `batch`: prompts of a batch, in multiples of N.
    retire_after: all-right groups in a row after which a prompt is not drawn any more; 0 for never. It applies with
      `enabled` and without.
    informative: what makes a group informative.
    right_above: an answer with an accuracy above it is right.
  """

  enabled: bool
  admission: Admission
  max_prompts: int
  at_cap: AtCap
  max_staleness: int
  verdict_delay: int
  batch_factor: int
  retire_after: int
  informative: Informative
  right_above: float

  def __post_init__(self):
    """Checks the ranges.

    Raises:
      InputError: if a number is below its least value.
    """
    for name, least in (("max_staleness", 0), ("verdict_delay", 0), ("batch_factor", 1), ("retire_after", 0)):
      if getattr(self, name) < least:
        raise InputError(f"dynamic_sampling.{name}: {getattr(self, name)}, expected at least {least}")
    if not 0 <= self.right_above < 1:
      raise InputError(f"dynamic_sampling.right_above: {self.right_above}, expected at least 0 and less than 1")

  def verdict(self, group: Group) -> Verdict:
    """Judges a group by its raw accuracy; shaped rewards play no part."""
    return verdict(group, informative=self.informative, right_above=self.right_above)


class Outcome(enum.StrEnum):
  """Names what a step did with a group; of a dropped group, the reason."""

  TRAINED = "trained"
  CARRIED = "carried"  # kept for the next step
  SURPLUS = "surplus"  # informative, but more than the step takes: thrown away
  ALL_RIGHT = "all_right"
  ALL_WRONG = "all_wrong"
  INVALID = "invalid"


Judged = tuple[Group, Verdict]

_informative_groups = jax.jit(losses.advantages.informative_groups)  # one program, as each group is judged by itself


def verdict(group: Group, *, informative: Informative = Informative.MIXED, right_above: float = 0.5) -> Verdict:
  """Judges a group by its raw accuracy; shaped rewards play no part.

  Args:
    group: a judged group.
    informative: what makes a group informative.
    right_above: an answer with an accuracy above it is right.

  Returns:
    The verdict. A group that is not informative is all right if it has only right answers, and else all wrong.
  """
  judged = group.valid & np.isfinite(group.accuracy)
  if judged.sum() < 2:
    return Verdict.INVALID
  if informative == Informative.SPREAD:
    if has_spread(group):
      return Verdict.INFORMATIVE
  elif _informative_groups(group.accuracy[None], valid=judged[None], right_above=right_above)[0]:
    return Verdict.INFORMATIVE
  return Verdict.ALL_RIGHT if (group.accuracy > right_above)[judged].all() else Verdict.ALL_WRONG


def has_spread(group: Group) -> bool:
  """Tells whether a group's accuracies differ, by more than the rounding of float32."""
  accuracies = group.accuracy[group.valid & np.isfinite(group.accuracy)]
  return bool(accuracies.size and accuracies.max() - accuracies.min() > _SAME)


def drop_uninformative_groups(judged: Iterable[Judged]) -> list[Group]:
  """Drops groups whose answers are all right or all wrong, or lack rewards.

  Args:
    judged: groups with their verdicts.

  Returns:
    The informative groups, in the order in which they were given.
  """
  return [group for group, found in judged if found == Verdict.INFORMATIVE]
