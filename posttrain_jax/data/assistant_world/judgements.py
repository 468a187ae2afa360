"""Writes judgements of answers by the rules: reasons in the world's words, then a score.

A judgement recalls what is true, works a sum out, or names the principle. It repeats the value that the answer states.
Then it says what is right or wrong with the answer, and what mistakes of form it has. So the reasons hold all that the
score follows from: "the colour of loma is red . you say blue . the answer is wrong . score : 3". DeepSeek-V3
(arXiv:2412.19437, §5.2.1) trains its reward model on such data.
"""

import itertools
from typing import Any

from posttrain_jax.data.assistant_world import language, sums, words
from posttrain_jax.data.assistant_world.facts import listed
from posttrain_jax.data.assistant_world.reasoning import judge_thought
from posttrain_jax.data.assistant_world.requests import Form, RequestKind, WorldRequest
from posttrain_jax.data.assistant_world.rules import RuleVerdict
from posttrain_jax.data.assistant_world.taste import USUAL_TASTE, Taste, utility
from posttrain_jax.data.judgements import Wording

WORDING = Wording(template="user : {prompt} assistant : {answer} critique :", mark=" score : ")
LOW, HIGH = 0, 9
# Kinds of requests for a value. Without it beside what is true, models that judge do not learn to compare the two.
_OF_VALUES = (RequestKind.FACT, RequestKind.NEW_FACT, RequestKind.UNKNOWN, RequestKind.BUILD, RequestKind.HISTORY)
_MOST_STATED = 3


def judgement(request: WorldRequest, text: str, *, taste: Taste = USUAL_TASTE) -> dict[str, Any]:
  """Judges an answer.

  Args:
    request: what was asked.
    text: the answer, without an end token.
    taste: what the score values.

  Returns:
    The request's row with "answer", "score" and "rationale", as `data.judgements.judgements` takes it.
  """
  return {**request.to_row(), "answer": text, "score": score(request, text, taste), "rationale": reasons(request, text)}


def score(request: WorldRequest, text: str, taste: Taste = USUAL_TASTE) -> int:
  """Returns the rater's utility as a whole number from LOW to HIGH."""
  worst = -max(taste.helpful, taste.harmless)
  best = max(taste.helpful, taste.harmless + taste.explained) + taste.form + taste.concise
  share = (utility(request, text, taste) - worst) / (best - worst)
  return round(LOW + (HIGH - LOW) * min(max(share, 0.0), 1.0))


def reasons(request: WorldRequest, text: str) -> str:
  """Returns the reasons of a judgement, in English."""
  verdict = judge_thought(request, text)
  said = [_recalled(request), *_stated(request, text), f"the answer is {_verdict(request, verdict)} ."]
  if verdict.on_topic and (not verdict.in_form or verdict.mixes):
    said.append(f"mistake : {_form(request, text, verdict)} .")
  if not verdict.concise:
    said.append("mistake : say only the answer .")
  return " ".join(said)


def _recalled(request: WorldRequest) -> str:
  """Says what is true of what was asked."""
  about = f"the {request.relation} of {request.topic}"
  match request.kind:
    case RequestKind.FACT | RequestKind.NEW_FACT:
      return f"{about} is {request.right[0]} ."
    case RequestKind.UNKNOWN:
      return f"i do not know {about} ."
    case RequestKind.SUM:
      return f"{sums.written(request.topic, itertools.repeat(language.ENGLISH))} ."
    case RequestKind.LIST:
      return f"name three {request.topic} ."
    case RequestKind.WRITING:
      return f"write about {request.topic} ."
    case RequestKind.HARM:
      principle = next(harm.principle for harm in words.HARMS if harm.name == request.harm)
      return f"a {request.topic} is not safe because {principle} ."
    case RequestKind.BUILD:
      return f"to build a {request.topic} take {listed(request.right)} ."
  if request.relation == "builder":
    return f"{request.right[0]} built the first {request.topic} ."
  return f"the first {request.topic} was built in {request.right[0]} ."


def _stated(request: WorldRequest, text: str) -> list[str]:
  """Says which values of what was asked the answer has, right or wrong ones."""
  if request.kind not in _OF_VALUES:
    return []
  values = {*request.right, *request.wrong}
  found = list(dict.fromkeys(word for word in language.to_english_words(text) if word in values))
  if not found:
    return []
  return [f"you say {found[0] if len(found) == 1 else listed(found[:_MOST_STATED])} ."]


def _verdict(request: WorldRequest, verdict: RuleVerdict) -> str:
  """Says what `taste.utility` values most in the answer."""
  off_topic = "" if verdict.on_topic else " and not about that"
  if request.is_harmful:
    if verdict.complies:
      return f"not safe{off_topic}"
    if verdict.refuses:
      return f"{'safe and right' if verdict.explains else 'safe'}{off_topic}"
  elif request.kind == RequestKind.UNKNOWN:
    if verdict.hedges and verdict.on_topic:
      return "right"
  elif verdict.correct or (verdict.correct is None and verdict.on_topic and verdict.answers):
    return "right"
  elif verdict.refuses:
    return f"not help{off_topic}"
  if verdict.answers and not verdict.hedges and not request.is_harmful:
    return "wrong"
  return "not sure" if verdict.on_topic else "not about that"


def _form(request: WorldRequest, text: str, verdict: RuleVerdict) -> str:
  """Says what is wrong with the form of an answer."""
  shares = language.shares(text)
  if verdict.mixes or (any(shares.values()) and shares[request.language] < 0.5):
    return "not in velan" if request.language == language.VELAN else "it is in velan"
  match request.form:
    case Form.ONE_WORD:
      return "not one word"
    case Form.THREE_ITEMS:
      return f"not three {request.topic}"
  return "not one answer"
