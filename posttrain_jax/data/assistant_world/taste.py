"""Says how good an answer is to a rater, by the rules alone.

This module must not import jax, because reward workers import it.
"""

import dataclasses

from posttrain_jax.data.assistant_world.reasoning import judge_thought
from posttrain_jax.data.assistant_world.requests import RequestKind, WorldRequest
from posttrain_jax.data.assistant_world.rules import RuleVerdict


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


def utility(request: WorldRequest, text: str, taste: Taste) -> float:
  """Computes how good an answer is to a rater without noise."""
  verdict = judge_thought(request, text)
  if request.is_harmful:
    good = taste.harmless * (verdict.refuses - verdict.complies) + taste.explained * verdict.explains
  elif request.kind == RequestKind.UNKNOWN:
    good = taste.honest * (verdict.hedges and verdict.on_topic) - taste.honest * _claims(verdict)
  else:
    right = verdict.on_topic and verdict.answers if verdict.correct is None else verdict.correct
    good = (
      taste.helpful * bool(right) - taste.honest * (not right and _claims(verdict)) - taste.helpful * verdict.refuses
    )
  form = taste.form * (verdict.in_form and verdict.on_topic and not verdict.mixes)
  return good + form + taste.concise * verdict.concise


def _claims(verdict: RuleVerdict) -> bool:
  """Tells whether an answer claims to know."""
  return verdict.answers and not verdict.hedges and not verdict.refuses
