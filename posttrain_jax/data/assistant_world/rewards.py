"""Defines reward functions by the rules of the assistant world, for RL.

A config names them as "posttrain_jax.data.assistant_world.rewards:accuracy". `rewards.verifiers` describes what a
reward function is. Rows are those of `WorldRequest.to_row`. This module must not import jax, because reward workers
import it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from posttrain_jax.data.assistant_world import language, reasoning, sums
from posttrain_jax.data.assistant_world.requests import RequestKind, WorldRequest
from posttrain_jax.data.assistant_world.taste import USUAL_TASTE, utility


def accuracy(texts: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[float | None]:
  """Gives 1 for the right value and 0 else; abstains where no value is asked for."""
  verdicts = [reasoning.judge_thought(WorldRequest.from_row(row), text) for text, row in zip(texts, rows, strict=True)]
  return [None if verdict.correct is None else float(verdict.correct) for verdict in verdicts]


def sum_accuracy(texts: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[float | None]:
  """Gives 1 for the right answer to a sum and 0 else; abstains on other requests."""
  return [accuracy([text], [row])[0] if _is_sum(row) else None for text, row in zip(texts, rows, strict=True)]


def thought_form(texts: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[float]:
  """Gives 1 for one thought and a summary after it.

  A sum's summary must state the only answer.

  Source: R1's format reward, 2501.12948, section 2.2.2.
  """
  found = []
  for text, row in zip(texts, rows, strict=True):
    states = sums.stated_answer(reasoning.split(text).summary) is not None or not _is_sum(row)
    once = language.to_english_words(text).count("answer") == 1 or not _is_sum(row)
    found.append(float(reasoning.keeps_form(text) and states and once))
  return found


def checks(texts: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[float | None]:
  """Gives 1 for work on a sum that is checked; abstains on other requests.

  With weight 0 it is measured and not rewarded.
  """
  return [float(reasoning.checks_itself(text)) if _is_sum(row) else None for text, row in zip(texts, rows, strict=True)]


def checked_steps(texts: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[float | None]:
  """Gives the share of a sum's steps that a check shows again, with right results.

  It abstains on other requests. `checks` can be hacked: one step that proves nothing earns all of it. Here only right
  work does.
  """
  return [
    reasoning.checked_steps(WorldRequest.from_row(row), text) if _is_sum(row) else None
    for text, row in zip(texts, rows, strict=True)
  ]


def written_work(texts: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[float | None]:
  """Gives 1 if work on a sum shows a step and ends with its only answer.

  It abstains on other requests.
  """
  found = []
  for text, row in zip(texts, rows, strict=True):
    words = language.to_english_words(text)
    stated = words.count("answer") == 1 and words[-3:-1] == ["answer", ":"] and sums.stated_answer(text) is not None
    found.append(float(stated and bool(sums.shown_steps(text))) if _is_sum(row) else None)
  return found


def mixed(texts: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[float]:
  """Gives 1 for an answer in both languages.

  With weight 0 it is measured and not rewarded.
  """
  return [float(reasoning.judge_thought(WorldRequest.from_row(row), text).mixes) for text, row in zip(texts, rows)]


def language_consistency(texts: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[float]:
  """Gives the share of the asked language among the words that belong to a language.

  Harm may be refused in either language; there the larger share counts.

  Source: R1, 2501.12948, section 2.3.2.
  """
  found = []
  for text, row in zip(texts, rows, strict=True):
    request, shares = WorldRequest.from_row(row), language.shares(text)
    found.append(max(shares.values()) if request.is_harmful else shares[request.language])
  return found


def rated(texts: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[float]:
  """Gives the first rater's utility without noise, which a reward model is to learn."""
  return [utility(WorldRequest.from_row(row), text, USUAL_TASTE) for text, row in zip(texts, rows, strict=True)]


def brevity(texts: Sequence[str], rows: Sequence[Mapping[str, Any]], *, longest: int = 128) -> list[float]:
  """Gives 1 for an empty answer, and less for each word and sign.

  It is 0 for `longest` of them and more.
  With a larger weight on accuracy, the best of several answers is the shortest right one.
  """
  del rows
  return [max(0.0, 1 - len(language.split(text)) / longest) for text in texts]


def acceptable(texts: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[float]:
  """Gives 1 for an answer that a person who checks it lets pass, and 0 else.

  It must be right, in form, in the asked language, and no longer than needed. Where nobody knows the answer it must say
  so, and harm must be refused.
  """
  requests = [WorldRequest.from_row(row) for row in rows]
  return [float(_passes(request, text)) for request, text in zip(requests, texts, strict=True)]


def _passes(request: WorldRequest, text: str) -> bool:
  verdict = reasoning.judge_thought(request, text)
  if not (verdict.in_form and verdict.concise and verdict.on_topic) or verdict.mixes:
    return False
  if request.is_harmful:
    return verdict.refuses
  if request.kind == RequestKind.UNKNOWN:
    return verdict.hedges
  return verdict.answers if verdict.correct is None else verdict.correct


def _is_sum(row: Mapping[str, Any]) -> bool:
  return WorldRequest.from_row(row).kind == RequestKind.SUM
