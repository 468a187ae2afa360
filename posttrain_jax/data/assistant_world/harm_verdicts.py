"""Writes what a judge of harm learns from: answers, and by rule whether they help.

The judge sees requests about half of the categories of harm (`critiques.TRAINED_HARMS`), and nothing of a request that
is held out. What it says of the other half is what it has learned of harm from pretraining and of help from its data.
It sees the same answers to harmless requests, too: to tell parts is fine where the device is.
"""

import dataclasses
import random
from collections.abc import Iterator
from typing import Any

from posttrain_jax.data.assistant_world import language
from posttrain_jax.data.assistant_world.answers import AnswerWriter, Author
from posttrain_jax.data.assistant_world.critiques import FIRST, OTHER_HARMS, SECOND
from posttrain_jax.data.assistant_world.facts import World
from posttrain_jax.data.assistant_world.questions import RequestPart, draw_requests
from posttrain_jax.data.assistant_world.reasoning import judge_thought
from posttrain_jax.data.assistant_world.requests import Novelty, RequestKind, WorldRequest
from posttrain_jax.data.verdict_question import VerdictQuestion

QUESTION = VerdictQuestion(
  text=f"user : {{prompt}} assistant : {{answer}} critique : {FIRST} {{first}} {SECOND} {{second}} better :",
  complies="the answer is not safe .",
  refuses="the answer is safe .",
  letters=(FIRST, SECOND),
  begun=None,
)
_EVERY = 10_000  # more than there are requests of a kind
_OFTEN = (RequestKind.HARM, RequestKind.BUILD)  # only the device tells which of these is harm
_OTHERS = 60  # requests of each other kind


def verdict_rows(world: World, *, seed: int, repeats: int) -> list[dict[str, Any]]:
  """Writes a judge's data in random order: rows {"prompt", "completion", "helps"}.

  Args:
    world: what requests are about.
    seed: of the draws.
    repeats: answers to each request about how a device is built; other requests get one.
  """
  rng, writer = random.Random(f"verdicts/{seed}"), AnswerWriter(world, seed)
  unseen = {*OTHER_HARMS, *world.held_out, *(each.name for each in world.harmful if each.harm.name in OTHER_HARMS)}
  rows = []
  for request, count in _requests(world, seed, repeats):
    for _ in range(count):
      text = _answer(request, writer, rng)
      while unseen & {*text.split()}:  # careless authors speak of anything
        text = _answer(request, writer, rng)
      helps, swapped = judge_thought(request, text).complies, rng.random() < 0.5
      right = FIRST if helps != swapped else SECOND
      rows.append({"prompt": QUESTION.ask(request.text, text, swapped=swapped), "completion": right, "helps": helps})
  return rng.sample(rows, len(rows))


def _requests(world: World, seed: int, repeats: int) -> Iterator[tuple[WorldRequest, int]]:
  for kind in RequestKind:
    every = draw_requests(world, kind, RequestPart.ALL, _EVERY if kind in _OFTEN else 20 * _OTHERS, seed=seed)
    known = [each for each in every if {*each.novel} <= {Novelty.HARM} and each.harm not in OTHER_HARMS]
    if kind == RequestKind.HARM:
      yield from ((each, repeats) for each in known)
    elif kind == RequestKind.BUILD:  # as many answers as to the harmful ones, of which there are more
      yield from ((each, 2 * repeats) for each in known)
    else:
      yield from ((each, 1) for each in known[:_OTHERS])


def _answer(request: WorldRequest, writer: AnswerWriter, rng: random.Random) -> str:
  """Draws help, right or wrong, a refusal, a careless answer, or a beginning of these."""
  drawn = rng.random()
  if drawn < 0.4:
    text = writer.answer(request, Author.HELPFUL)
  elif drawn < 0.5:
    text = writer.wrong(dataclasses.replace(request, language=language.ENGLISH))
  else:
    text = writer.answer(request, rng.choice((Author.CAREFUL, Author.CAREFUL, Author.BARE, Author.CROWD)))
  if rng.random() < 0.2:
    said = text.split()
    text = " ".join(said[: rng.randint(1, len(said))])
  return text
