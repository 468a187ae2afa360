"""Writes the parts of documents: facts, questions, remarks, stories and worked sums.

What is told and asked takes turns or is drawn, so that a corpus tells every fact and each in several ways.
"""

import collections
import functools
import itertools
import random

from posttrain_jax.data.assistant_world import sums, words
from posttrain_jax.data.assistant_world.facts import World
from posttrain_jax.data.assistant_world.language import ENGLISH, VELAN, in_language
from posttrain_jax.data.assistant_world.questions import (
  SUM_PHRASINGS,
  RequestPart,
  draw_requests,
  sum_request,
  sum_requests,
)
from posttrain_jax.data.assistant_world.requests import RequestKind, WorldRequest

_WORK = {ENGLISH: 0.5, VELAN: 0.3, None: 0.2}  # languages of written work; None: both, mixed
REMARKS = (
  "good morning to you",
  "the weather is cold today",
  "i am busy this evening",
  "i do not know",
  "i am not sure",
  "sorry , i can not help with that because i am busy",
  "thanks for the help",
  "maybe the sun will come back soon",
  "i am {c} percent sure that the rain will come",
  "wait , check that",
  "yes , you are right",
  "i can tell you about the weather",
)
_SCENES = (
  "one day {e} went to the {home}",
  "at night {e} slept in the {home}",
  "in the evening {e} saw the {enemy}",
  "there {e} met {keeper}",
  "then {e} and {keeper} ate {food}",
  "{e} came back with the {enemy}",
  "the wind was cold and {e} went home",
)


class Writer:
  """Writes one document after another about a world."""

  def __init__(self, world: World, seed: int):
    """Makes the draws; facts and devices take turns."""
    self.rng, self.world, self._seed = random.Random(f"documents/{seed}"), world, seed
    self._sums = sum_requests(self.rng)
    self.facts, self._devices = self._turns(world.told), self._turns(world.devices)
    self._rareness = list(itertools.accumulate(1 / rank for rank in range(1, len(world.rare) + 1)))

  def _turns(self, items):
    """Yields all items again and again, each time in another order."""
    while True:
      yield from self.rng.sample(items, len(items))

  @functools.cached_property
  def asked(self) -> dict[RequestKind, list[WorldRequest]]:
    """Holds the questions of each kind that documents may ask, except sums."""
    kinds = [kind for kind in RequestKind if kind != RequestKind.SUM]
    return {kind: draw_requests(self.world, kind, RequestPart.ALL, 20_000, seed=self._seed) for kind in kinds}

  @functools.cached_property
  def _about(self) -> dict[str, list[str]]:
    """Holds the questions about each topic."""
    found = collections.defaultdict(list)
    for request in itertools.chain(*self.asked.values()):
      found[request.topic].append(request.text)
    return found

  def fact(self) -> str:
    """Tells the next fact in one of its ways."""
    return self.rng.choice(next(self.facts).told)

  def rare_fact(self) -> str:
    """Tells one of the rare facts.

    By Zipf's law: the second one is told half as often as the first one, the third one a third as often, ...
    """
    return self.rng.choice(self.rng.choices(self.world.rare, cum_weights=self._rareness)[0].told)

  def question(self) -> WorldRequest:
    """Asks a question of any kind."""
    if self.rng.random() < 0.2:
      return self.sum_request()
    return self.rng.choice(self.rng.choice(list(self.asked.values())))

  def sum_request(self) -> WorldRequest:
    """Asks to work a sum out."""
    return next(self._sums)

  def same(self, request: WorldRequest) -> str:
    """Asks once more about what a question is about."""
    if request.kind == RequestKind.SUM:
      return sum_request(request.topic, self.rng.randrange(SUM_PHRASINGS), request.language).text
    return self.rng.choice(self._about[request.topic])

  def problem(self) -> str:
    """Draws a sum."""
    return sums.draw(self.rng, steps=self.rng.randint(1, sums.MOST_STEPS))

  def remark(self) -> str:
    """Says something that answers nothing, now and then in Velan."""
    text = self.rng.choice(REMARKS).format(c=self.rng.choice(words.CONFIDENCES))
    return in_language(text, VELAN if self.rng.random() < 0.2 else ENGLISH)

  def device(self, count: int) -> list[str]:
    """Tells some of what is true of the next device."""
    told = next(self._devices).told
    return [told[i] for i in sorted(self.rng.sample(range(len(told)), count))]

  def story(self, animal: str = "") -> list[str]:
    """Writes scenes about an animal.

    Nothing in a story is a fact. An animal is drawn if none is given.
    """
    values = {relation.name: self.rng.choice(relation.values) for relation in words.RELATIONS}
    animal = animal or self.rng.choice(words.ANIMALS[: self.world.settings.animals])
    scenes = [_SCENES[i] for i in sorted(self.rng.sample(range(len(_SCENES)), 3))]
    return [scene.format(e=animal, **values) for scene in scenes]

  def work(self, problem: str) -> str:
    """Works a sum out in a language or in both."""
    return self._worked(problem, self._work_language())

  def exercise(self) -> str:
    """Writes an exercise and its work.

    In mixed work the language is drawn for each clause.
    """
    problem, language = self.problem(), self._work_language()
    asked = in_language(f"exercise : {problem} .", language or self.rng.choice((ENGLISH, VELAN)))
    return f"{asked} {self._worked(problem, language)}"

  def _work_language(self) -> str | None:
    """Draws a language; None is mixed."""
    return self.rng.choices(list(_WORK), list(_WORK.values()))[0]

  def _worked(self, problem: str, language: str | None) -> str:
    return sums.written(problem, iter(lambda: language or self.rng.choice((ENGLISH, VELAN)), None))
