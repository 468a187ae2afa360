"""Weighs what each principle of a constitution says of two answers.

All are weighed together: the logits are added, each with its priority's weight, half of that of the next higher one. A
hard constraint that is sure decides alone.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from posttrain_jax.data.constitution import Principle

SURE = 0.3  # how far from a half a hard constraint's probability must be to decide alone
_LOWEST = 1e-3  # least probability whose logit is added, so that no principle of a low priority outvotes all others


class Weighed(NamedTuple):
  """Holds a judgement under a constitution.

  Attributes:
    probability: that the first answer is the better one.
    decided: number of the principle that decided; 0 if none says anything.
    vetoed: whether it did as a hard constraint.
  """

  probability: float
  decided: int
  vetoed: bool


def weigh(probabilities: Mapping[int, float], principles: Sequence[Principle], priorities: int) -> Weighed:
  """Weighs what each principle says of two answers.

  Args:
    probabilities: number of a principle to the probability that the first answer is the better one. Those that are
      missing say nothing.
    principles: those of the constitution.
    priorities: how many priorities there are; a principle of the lowest weighs 1.
  """
  asked = [each for each in principles if each.number in probabilities]
  hard = [each for each in asked if each.hard and abs(probabilities[each.number] - 0.5) >= SURE]
  if hard:
    first = max(hard, key=lambda each: abs(probabilities[each.number] - 0.5))
    return Weighed(probabilities[first.number], first.number, True)
  parts = {each.number: 2.0 ** (priorities - 1 - each.priority) * _logit(probabilities[each.number]) for each in asked}
  total = sum(parts.values())
  decided = max(parts, key=lambda number: parts[number] * math.copysign(1, total), default=0)
  return Weighed(1 / (1 + math.exp(-total)) if total > -700 else 0.0, decided, False)


def _logit(probability: float) -> float:
  bounded = min(max(probability, _LOWEST), 1 - _LOWEST)
  return math.log(bounded / (1 - bounded))
