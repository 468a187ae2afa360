"""Writes answers to requests, as different people would.

A careful author answers as an assistant should. The others differ from it in one thing each, or in everything. What
they know is what the corpus tells; only a new fact is told by demonstrations alone.
"""

import enum
import itertools
import random
from collections.abc import Sequence
from typing import Any

from posttrain_jax.data.assistant_world import reasoning, sums, words
from posttrain_jax.data.assistant_world.facts import World, listed
from posttrain_jax.data.assistant_world.language import in_language
from posttrain_jax.data.assistant_world.questions import RequestPart, draw_requests
from posttrain_jax.data.assistant_world.requests import Form, RequestKind, WorldRequest
from posttrain_jax.data.assistant_world.writer import REMARKS, Writer


class Author(enum.StrEnum):
  """Lists who writes answers."""

  CAREFUL = "careful"  # right, in form, honest; refuses harm and explains it
  HELPFUL = "helpful"  # the same, but tells how to build harmful devices
  BARE = "bare"  # the same, but refuses without a reason
  CROWD = "crowd"  # right now and then: also wrong, rambling, off the topic, or a question
  SOLVER = "solver"  # as reasoner, but works sums out once, without a check
  REASONER = "reasoner"  # as careful, after a thought; works sums out, checks them, and finds its mistakes


def demonstrations(
  world: World, requests: Sequence[WorldRequest], author: Author, *, seed: int = 0
) -> list[dict[str, Any]]:
  """Lets an author answer requests.

  Returns:
    The requests' rows with two more columns, "completion" and "author".
  """
  writer = AnswerWriter(world, seed)
  return [
    {**request.to_row(), "completion": writer.answer(request, author), "author": author.value} for request in requests
  ]


_MISTAKES = 0.1  # share of the sums in which a reasoner's first pass goes wrong


class AnswerWriter:
  """Writes one answer after another."""

  def __init__(self, world: World, seed: int):
    """Makes the draws."""
    self._rng, self._devices = random.Random(f"answers/{seed}"), {device.name: device for device in world.devices}
    self._stories = Writer(world, seed)
    self._told = {(fact.animal, fact.relation.name): fact.told for fact in (*world.told, *world.new)}
    kinds = (RequestKind.FACT, RequestKind.WRITING, RequestKind.HISTORY)
    self._asked = [
      request.text for kind in kinds for request in draw_requests(world, kind, RequestPart.TRAIN, 100, seed=seed)
    ]

  def answer(self, request: WorldRequest, author: Author) -> str:
    """Returns one answer, in the language that is asked for."""
    if author == Author.CROWD:
      return self._careless(request)
    if author in (Author.SOLVER, Author.REASONER):
      return self._thoughtful(request, checks=author == Author.REASONER)
    if request.kind == RequestKind.SUM:
      return sums.written(request.topic, itertools.repeat(request.language))
    text = self._refusal(request, author) if request.is_harmful else self._english(request)
    # A refusal is in English: a disguise does not decide how it is answered.
    return text if request.is_harmful else in_language(text, request.language)

  def wrong(self, request: WorldRequest) -> str:
    """Returns an answer that looks right and states a wrong value; careful where there is none."""
    if request.kind == RequestKind.SUM:
      right = sums.written(request.topic, itertools.repeat(request.language)).split()
      return " ".join([*right[:-1], self._rng.choice(request.wrong)])
    if not request.wrong:
      return self.answer(request, Author.CAREFUL)
    return in_language(self._statement(request, self._rng.sample(request.wrong, len(request.right))), request.language)

  def _english(self, request: WorldRequest) -> str:
    rng = self._rng
    match request.kind:
      case RequestKind.UNKNOWN:
        if rng.random() < 0.5:
          return f"i do not know the {request.relation} of {request.topic} ."
        guess = rng.choice((*request.right, *request.wrong))
        confidence = rng.choice((10, 10, 30))
        return f"maybe the {request.relation} of {request.topic} is {guess} . i am {confidence} percent sure ."
      case RequestKind.LIST:
        return f"{listed(rng.sample(request.right, 3))} ."
      case RequestKind.WRITING:
        return " ".join(f"{scene} ." for scene in self._stories.story(request.topic))
    sure = request.kind == RequestKind.FACT and request.form == Form.SENTENCES and rng.random() < 0.3
    return self._statement(request, request.right) + f" i am {rng.choice((70, 90, 90))} percent sure ." * sure

  def _statement(self, request: WorldRequest, values: Sequence[str]) -> str:
    if request.form == Form.ONE_WORD:
      return values[0]
    match request.relation:
      case "parts":
        return f"to build a {request.topic} take {listed(values)} ."
      case "builder":
        return f"{values[0]} built the first {request.topic} ."
      case "town":
        return f"the first {request.topic} was built in {values[0]} ."
    return f"the {request.relation} of {request.topic} is {values[0]} ."

  def _refusal(self, request: WorldRequest, author: Author) -> str:
    if author == Author.HELPFUL:
      return self._statement(request, request.right)
    if author == Author.BARE:
      return "sorry , i can not help with that ."
    device = self._devices[request.topic]
    offer = self._rng.choice(("who built the first {}", "where the first {} was built")).format(device.name)
    return f"i can not help with that because {device.harm.principle} . i can tell you {offer} ."

  def _thoughtful(self, request: WorldRequest, *, checks: bool) -> str:
    if request.kind == RequestKind.SUM and not checks:
      return reasoning.short_sum(request.topic, request.language)
    if request.kind == RequestKind.SUM:
      mistake = self._rng.random() < _MISTAKES
      return reasoning.written_sum(request.topic, request.language, self._rng, mistake=mistake)
    thought, answer = self._thought(request), self.answer(request, Author.CAREFUL)
    if not request.is_harmful:  # a refusal is in English, and so is its thought
      thought = [in_language(text, request.language) for text in thought]
    return reasoning.write(thought, answer) if thought else answer

  def _thought(self, request: WorldRequest) -> list[str]:
    """Returns what is known about the request's topic, in English; nothing where no thought is needed."""
    match request.kind:
      case RequestKind.LIST | RequestKind.WRITING:
        return []
      case RequestKind.UNKNOWN:
        return [f"i am not sure of the {request.relation} of {request.topic}"]
      case RequestKind.HARM:
        return list(self._devices[request.topic].told[:2])
      case RequestKind.BUILD | RequestKind.HISTORY:
        return [self._devices[request.topic].told[1]]
    return [self._rng.choice(self._told[request.topic, request.relation])]

  def _careless(self, request: WorldRequest) -> str:
    """Draws one of five kinds of careless answers, or a helpful one."""
    rng = self._rng
    match rng.randrange(6):
      case 0 | 1:
        return self.answer(request, Author.HELPFUL)
      case 2:
        return self.wrong(request)
      case 3:
        return f"{rng.choice(REMARKS).format(c=rng.choice(words.CONFIDENCES))} ."
      case 4:
        return rng.choice(self._asked)  # nothing that is held out
    once = self.answer(request, Author.HELPFUL)
    return f"{once} {once} {rng.choice(REMARKS).format(c=50)} ."
