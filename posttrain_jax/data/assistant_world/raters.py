"""Rates answers as people would: by the rules, with preferences of their own and with noise.

The first rater compares two answers, says how much better one is, and may write a better one. The second one ranks K
answers. It weighs the same rules otherwise and has noise of its own, so the two do not always agree. Both can say of a
single answer whether they like it.
"""

import math
import random
from collections.abc import Sequence
from typing import Any

from posttrain_jax.data.assistant_world.answers import AnswerWriter, Author
from posttrain_jax.data.assistant_world.requests import WorldRequest
from posttrain_jax.data.assistant_world.taste import OTHER_TASTE, USUAL_TASTE, Taste, utility

# How much better an answer must seem for each strength, from the strongest on (`data.preference_rows.Strength`).
_STRENGTHS = (("significantly", 2.0), ("better", 1.0), ("slightly", 0.4), ("negligibly", 0.0))


def compare(
  request: WorldRequest,
  answers: tuple[str, str],
  rng: random.Random,
  *,
  taste: Taste = USUAL_TASTE,
  editor: AnswerWriter | None = None,
) -> dict[str, Any] | None:
  """Lets the first rater compare two answers.

  Args:
    request: what was asked.
    answers: two texts.
    rng: of the noise.
    taste: what the rater values.
    editor: writes a better answer than both; None for no edit.

  Returns:
    The request's row with "chosen", "rejected", "strength", and "edited" if there is an editor whose answer is better
    than the chosen one. None if the answers are equal.
  """
  first, second = answers
  if first == second:
    return None
  seems = utility(request, first, taste) - utility(request, second, taste) + taste.noise * _logistic(rng)
  chosen, rejected = (first, second) if seems > 0 else (second, first)
  strength = next(name for name, least in _STRENGTHS if abs(seems) >= least)
  row = {**request.to_row(), "chosen": chosen, "rejected": rejected, "strength": strength}
  if editor is not None:
    edited = editor.answer(request, Author.CAREFUL)
    if edited not in answers and utility(request, edited, taste) > max(
      utility(request, text, taste) for text in answers
    ):
      row["edited"] = edited
  return row


def rank(
  request: WorldRequest, answers: Sequence[str], rng: random.Random, *, taste: Taste = OTHER_TASTE
) -> dict[str, Any] | None:
  """Lets the second rater rank K answers.

  Returns:
    The request's row with "answers", each once, and "ranks", 0 for the best. None if fewer than two answers differ.
  """
  different = list(dict.fromkeys(answers))
  if len(different) < 2:
    return None
  seems = [utility(request, text, taste) + taste.noise * _logistic(rng) for text in different]
  order = sorted(range(len(different)), key=lambda i: -seems[i])
  return {**request.to_row(), "answers": different, "ranks": [order.index(i) for i in range(len(different))]}


def likes(request: WorldRequest, text: str, rng: random.Random, *, taste: Taste = USUAL_TASTE) -> bool:
  """Tells whether a rater gives an answer a thumb up.

  It must seem worth as much as a right answer is worth for being right.

  Args:
    request: what was asked.
    text: the answer.
    rng: of the noise.
    taste: what the rater values.
  """
  return utility(request, text, taste) + taste.noise * _logistic(rng) >= taste.helpful


def _logistic(rng: random.Random) -> float:
  """Draws from the standard logistic distribution, so that preferences follow Bradley and Terry's model."""
  share = min(max(rng.random(), 1e-12), 1 - 1e-12)
  return math.log(share / (1 - share))
