"""What becomes of a group of answers: dynamic sampling's verdicts."""

import enum

from posttrain_jax import losses
from posttrain_jax.types import Group


class Verdict(enum.StrEnum):
  """What became of a group."""

  TRAINED = "trained"
  CARRIED = "carried"  # informative, kept for the next step
  SURPLUS = "surplus"  # informative, more than the step takes, thrown away
  ALL_RIGHT = "all_right"
  ALL_WRONG = "all_wrong"
  INVALID = "invalid"  # fewer than two answers have a reward


def verdict(group: Group) -> Verdict:
  """Judges a group by raw accuracy alone (DAPO, equation 11); shaped rewards play no part."""
  if group.valid.sum() < 2:
    return Verdict.INVALID
  if losses.advantages.informative_groups(group.accuracy[None], valid=group.valid[None])[0]:
    return Verdict.TRAINED
  return Verdict.ALL_RIGHT if (group.accuracy > 0.5)[group.valid].all() else Verdict.ALL_WRONG
