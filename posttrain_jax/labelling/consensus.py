"""Decides what several raters say together about one item.

The majority decides: the choice that has more votes than any other. If two have equally many, there is no decision,
and the item is not exported as a preference. Nothing is drawn by chance and nothing is decided by the order of votes.
"""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from posttrain_jax.data.preference_rows import Strength

TIED = "about_the_same"


@dataclasses.dataclass(frozen=True)
class Decision:
  """Holds what the majority of an item's raters say.

  Attributes:
    choice: the better answer's index, TIED, or whether the answer is accepted; None for no majority.
    agree: share of the votes that are for the choice; of the largest share if there is no majority.
    votes: number of votes.
    strength: how much better the better answer is; None if there is none.
    edited: the edited text of the better or accepted answer; None if nobody of the majority edited it.
  """

  choice: int | bool | str | None
  agree: float
  votes: int
  strength: Strength | None
  edited: str | None


def decide(votes: Sequence[Mapping[str, Any]]) -> Decision:
  """Decides between two answers, or whether an answer is accepted.

  The strength is the median of the majority's strengths; of two in the middle, the weaker one. The edit is the first.

  Args:
    votes: labels of pairs or of answers to accept; at least one; the earliest first.
  """
  choices = [_choice(label) for label in votes]
  (choice, most), *others = collections.Counter(choices).most_common()
  agree = most / len(votes)
  if others and others[0][1] == most:
    return Decision(None, agree, len(votes), None, None)
  majority = [label for label, said in zip(votes, choices) if said == choice]
  scale = list(Strength)  # the strongest first
  places = sorted(scale.index(Strength(label["strength"])) for label in majority if label.get("strength"))
  strength = scale[places[len(places) // 2]] if places else None
  edited = next((label["edited"] for label in majority if label["edited"] is not None), None)
  return Decision(choice, agree, len(votes), strength, edited)


def joint_ranks(rankings: Sequence[Sequence[int]]) -> tuple[list[int], float]:
  """Joins several rankings of the same answers.

  Answers are ordered by the mean of their ranks, where tied answers share the mean of their places (Borda's count).
  Equal means are ties.

  Args:
    rankings: at least one, each with the rank of each answer.

  Returns:
    (ranks from 0 without gaps, share of pairs of answers in which a rater says what the joint ranking says; the mean
    over pairs and raters).
  """
  totals = [sum(places) for places in zip(*map(_places, rankings))]
  different = sorted(set(totals))
  ranks = [different.index(total) for total in totals]
  pairs = [(i, j) for j in range(len(ranks)) for i in range(j)]
  same = sum(sign(each[i] - each[j]) == sign(ranks[i] - ranks[j]) for each in rankings for i, j in pairs)
  return ranks, same / (len(pairs) * len(rankings))


def sign(number: float) -> int:
  """Returns -1, 0 or 1."""
  return (number > 0) - (number < 0)


def _choice(label: Mapping[str, Any]) -> int | bool | str:
  if "accepted" in label:
    return label["accepted"]
  return TIED if label["better"] is None else label["better"]


def _places(ranks: Sequence[int]) -> list[int]:
  """Returns twice the mean place of each answer, which is a whole number."""
  return [2 * sum(other < rank for other in ranks) + sum(other == rank for other in ranks) - 1 for rank in ranks]
