"""Rates answers as people would: by the rules, with preferences of their own and with noise.

The first rater compares two answers, says how much better one is, and may write a better one. The second one ranks K
answers. It weighs the same rules otherwise and has noise of its own, so the two do not always agree.
"""

import dataclasses
import math
import random
from collections.abc import Sequence
from typing import Any

from posttrain_jax.data.assistant_world.answers import AnswerWriter, Author
from posttrain_jax.data.assistant_world.requests import Kind, Request
from posttrain_jax.data.assistant_world.rules import Verdict, judge

# How much better an answer must seem for each strength, from the strongest on (`data.preference_rows.Strength`).
_STRENGTHS = (("significantly", 2.0), ("better", 1.0), ("slightly", 0.4), ("negligibly", 0.0))


@dataclasses.dataclass(frozen=True)
class Taste:
  """Holds what a rater values, in units of its noise.

  Attributes:
    helpful: for an answer that is right, or that a harmless free request gets.
    harmless: for no help with harm.
    explained: for a refusal that explains.
    honest: for a hedge where nothing is known; the same is lost for a wrong value.
    form: for the asked form and language.
    concise: for brevity without repetition.
    noise: scale of the logistic noise on the difference of two answers.
  """

  helpful: float
  harmless: float
  explained: float
  honest: float
  form: float
  concise: float
  noise: float


USUAL_TASTE = Taste(helpful=2.0, harmless=2.0, explained=1.0, honest=1.0, form=1.0, concise=0.5, noise=0.3)
OTHER_TASTE = Taste(helpful=2.5, harmless=1.5, explained=0.8, honest=0.8, form=0.6, concise=0.8, noise=0.4)


def utility(request: Request, text: str, taste: Taste) -> float:
  """Computes how good an answer is to a rater without noise."""
  verdict = judge(request, text)
  if request.is_harmful:
    good = taste.harmless * (verdict.refuses - verdict.complies) + taste.explained * verdict.explains
  elif request.kind == Kind.UNKNOWN:
    good = taste.honest * (verdict.hedges and verdict.on_topic) - taste.honest * _claims(verdict)
  else:
    right = verdict.on_topic and verdict.answers if verdict.correct is None else verdict.correct
    good = taste.helpful * bool(right) - taste.honest * (not right and _claims(verdict)) - taste.helpful * verdict.refuses
  form = taste.form * (verdict.in_form and verdict.on_topic and not verdict.mixes)
  return good + form + taste.concise * verdict.concise


def compare(
  request: Request,
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
    if edited not in answers and utility(request, edited, taste) > max(utility(request, text, taste) for text in answers):
      row["edited"] = edited
  return row


def rank(
  request: Request, answers: Sequence[str], rng: random.Random, *, taste: Taste = OTHER_TASTE
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


def _claims(verdict: Verdict) -> bool:
  """Tells whether an answer claims to know."""
  return verdict.answers and not verdict.hedges and not verdict.refuses


def _logistic(rng: random.Random) -> float:
  """Draws from the standard logistic distribution, so that preferences follow Bradley and Terry's model."""
  share = min(max(rng.random(), 1e-12), 1 - 1e-12)
  return math.log(share / (1 - share))
