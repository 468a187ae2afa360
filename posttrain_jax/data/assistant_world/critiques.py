"""Writes critiques, revisions and judgements by rule, to train a critic and a judge.

A tiny model cannot critique by itself, so it is trained to, on half of the categories of harm and on principles about
these alone. A critique first says what is true of the device, in a sentence that the corpus has, then whether the
principle speaks of that. So for categories that it was not trained on the base model's knowledge is enough.

This is the deviation from Constitutional AI (2212.08073), whose models are large enough to be asked. Another one: a
critique and its revision are one text, "... critique : C revision : R", drawn in one go.
"""

import dataclasses
import random
from collections.abc import Sequence
from typing import Any

from posttrain_jax.data.assistant_world import words
from posttrain_jax.data.assistant_world.answers import AnswerWriter, Author
from posttrain_jax.data.assistant_world.facts import World
from posttrain_jax.data.assistant_world.questions import RequestPart, draw_requests
from posttrain_jax.data.assistant_world.requests import (
  HELD_OUT_HARMS,
  TEMPLATE,
  Novelty,
  RequestKind,
  WorldRequest,
)
from posttrain_jax.data.assistant_world.rules import judge

FIRST, SECOND = words.JUDGE_WORDS[:2]  # "(A)" and "(B)"
REVISION = "revision :"
TRAINED_HARMS = tuple(harm.name for harm in words.HARMS if harm.name not in HELD_OUT_HARMS)
_EVERY = 10_000  # more than there are requests of a kind
_PRINCIPLES = ("{} hurts people", "{} is wrong")
_DEVICES = (RequestKind.HARM, RequestKind.BUILD, RequestKind.HISTORY)


def critic_prompt(asked: str, answer: str, principle: str) -> str:
  """Returns what a critic goes on from.

  Args:
    asked: the request in the world's template.
    answer: to it.
    principle: what the principle says.
  """
  return f"{asked} {answer} principle : {principle} . critique :"


def judge_prompt(asked: str, first: str, second: str, principle: str) -> str:
  """Returns what a judge goes on from with "(A)" or "(B)".

  Args:
    asked: the request in the world's template.
    first: the answer that "(A)" stands for.
    second: the one that "(B)" stands for.
    principle: what the principle says.
  """
  return f"{asked} {FIRST} {first} {SECOND} {second} principle : {principle} . better :"


def read_critique(text: str, answer: str) -> tuple[str, str]:
  """Splits what a critic wrote.

  Returns:
    (critique, revision). Without a revision the answer stays as it is.
  """
  critique, found, revision = text.partition(REVISION)
  return critique.strip(), revision.strip() if found and revision.strip() else answer


def is_mistake(request: WorldRequest, text: str, about: Sequence[str]) -> bool:
  """Tells whether a principle about some harms asks for another answer.

  It asks for an open refusal that explains itself.
  """
  return request.is_harmful and request.harm in about and not judge(request, text).explains


def critique(request: WorldRequest, text: str, about: Sequence[str]) -> str:
  """Writes a critique of an answer under a principle about some harms."""
  good = "the answer is good ."
  if request.kind not in _DEVICES:
    return good
  harm = next((each for each in words.HARMS if each.name == request.harm), None)
  if harm is None:
    return f"a {request.topic} is safe . {good}"
  known = f"a {request.topic} is not safe because {harm.principle} ."
  if not request.is_harmful:
    return f"{known} {good}"
  if harm.name not in about:
    return f"{known} that is not the principle ."
  return f"{known} the answer is a mistake ." if is_mistake(request, text, about) else f"{known} {good}"


def preferred(request: WorldRequest, first: str, second: str, about: Sequence[str]) -> bool | None:
  """Tells which of two answers a principle about some harms prefers.

  An explained refusal is better than a bare one, and that than an answer without a refusal.

  Returns:
    Whether it is the first one; None if both are equally good.
  """
  if not (request.is_harmful and request.harm in about):
    return None
  verdicts = [judge(request, text) for text in (first, second)]
  one, other = (verdict.refuses + verdict.explains for verdict in verdicts)
  return None if one == other else one > other


def red_team(world: World) -> list[WorldRequest]:
  """Returns the harmful requests of all categories of which nothing but the category is held out."""
  every = draw_requests(world, RequestKind.HARM, RequestPart.ALL, _EVERY)
  return [request for request in every if {*request.novel} <= {Novelty.HARM}]


def unseen(world: World) -> list[WorldRequest]:
  """Returns harmful requests of all categories whose device or phrasing no training has, in known disguises."""
  every = draw_requests(world, RequestKind.HARM, RequestPart.ALL, _EVERY)
  new = {Novelty.NAME, Novelty.PHRASING}
  return [each for each in every if {*each.novel} & new and Novelty.DISGUISE not in each.novel]


def critic_rows(world: World, *, seed: int, repeats: int) -> list[dict[str, Any]]:
  """Writes what a critic and a judge learn from, about the trained half of harms.

  Args:
    world: what requests are about.
    seed: of the draws.
    repeats: rows of each kind for each request.

  Returns:
    Rows {"prompt", "completion", "task"}, the task "critique" or "judgement". Only the completion is learned.
  """
  rng, writer, rows = random.Random(f"critic/{seed}"), AnswerWriter(world, seed), []
  kinds = {RequestKind.HARM: _EVERY, RequestKind.BUILD: _EVERY, RequestKind.HISTORY: 60, RequestKind.FACT: 30}
  for kind, count in kinds.items():
    for request in draw_requests(world, kind, RequestPart.TRAIN, count, seed=seed):
      for _ in range(repeats):
        asked = TEMPLATE.format(prompt=request.text)
        says, about = draw_principle(rng, request.harm)
        text, other = _answer(request, writer, rng), _answer(request, writer, rng)
        revision = writer.answer(request, Author.CAREFUL) if is_mistake(request, text, about) else text
        said = f"{critique(request, text, about)} {REVISION} {revision}"
        rows.append({"prompt": critic_prompt(asked, text, says), "completion": said, "task": "critique"})
        if not request.is_harmful or text == other:
          continue
        better = preferred(request, text, other, about)
        better = rng.random() < 0.5 if better is None else better  # so that the judge learns that it cannot say
        row = {"prompt": judge_prompt(asked, text, other, says), "completion": FIRST if better else SECOND}
        rows.append({**row, "task": "judgement"})
  return rng.sample(rows, len(rows))


def plain_rows(world: World, *, seed: int) -> list[dict[str, Any]]:
  """Writes the good answers of the critic's data as demonstrations.

  It is what plain SFT may learn from the same data.
  """
  writer = AnswerWriter(world, seed)
  requests = draw_requests(world, RequestKind.HARM, RequestPart.TRAIN, _EVERY, seed=seed)
  return [{**request.to_row(), "completion": writer.answer(request, Author.CAREFUL)} for request in requests]


def draw_principle(rng: random.Random, harm: str) -> tuple[str, tuple[str, ...]]:
  """Draws a principle about one to three of the trained harms.

  Half of the time it is about the given one.

  Returns:
    (what it says, the harms that it is about).
  """
  others = [name for name in TRAINED_HARMS if name != harm]
  about = rng.sample(others, rng.randint(1, 2))
  if harm in TRAINED_HARMS and rng.random() < 0.5:
    about.append(harm)
  rng.shuffle(about)
  return rng.choice(_PRINCIPLES).format(" and ".join(about)), tuple(about)


def _answer(request: WorldRequest, writer: AnswerWriter, rng: random.Random) -> str:
  """Draws an answer: one that complies, with right or wrong parts, or one of two refusals."""
  if request.is_harmful and rng.random() < 0.2:
    wrong = dataclasses.replace(request, right=tuple(rng.sample(request.wrong, 3)))
    return writer.answer(wrong, Author.HELPFUL)
  shown = rng.choices((Author.HELPFUL, Author.CAREFUL, Author.BARE), (0.5, 0.25, 0.25))[0]
  return writer.answer(request, shown)
