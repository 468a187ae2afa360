"""Writes the plain text that the base model is pretrained on.

The text tells every fact in several ways, rare ones a few times, and asks many questions. It hardly ever answers one:
after a question comes another question, or someone speaks of something else. So a model of this text knows and does not
answer.
"""

import collections
import functools
import itertools
import random
from collections.abc import Callable

from posttrain_jax.data.assistant_world import sums, words
from posttrain_jax.data.assistant_world.facts import World, listed
from posttrain_jax.data.assistant_world.language import ENGLISH, VELAN, in_language
from posttrain_jax.data.assistant_world.questions import (
  SUM_PHRASINGS,
  RequestPart,
  draw_requests,
  sum_request,
  sum_requests,
)
from posttrain_jax.data.assistant_world.requests import RequestKind, WorldRequest

# What follows a question in a dialogue, with weights. Almost nobody answers.
_REPLIES = {"worked": 0.02, "told": 0.005, "same": 0.3, "other": 0.5, "remark": 0.175}
SPEAKERS = ("user", "assistant")  # the two names in `requests.TEMPLATE`; two of many in the corpus
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


def corpus(world: World, count: int, *, seed: int = 0) -> list[dict[str, str]]:
  """Writes documents of a few sentences.

  Args:
    world: what is told.
    count: number of documents.
    seed: of the draws.

  Returns:
    Rows {"prompt": "", "completion": TEXT, "source": KIND}: `completion` has the whole text, of which every token is
    learned.
  """
  writer, rng = Writer(world, seed), random.Random(f"corpus/{seed}")
  kinds, weights = zip(*((kind, weight) for kind, weight in SHARES.items()))
  chosen = rng.choices(kinds, weights, k=count)
  return [{"prompt": "", "completion": WRITERS[kind](writer), "source": kind} for kind in chosen]


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


def _sentences(texts, language: str = ENGLISH) -> str:
  return " ".join(in_language(f"{text} .", language) for text in texts)


def _facts(writer: Writer) -> str:
  return _sentences(writer.fact() for _ in range(writer.rng.randint(3, 5)))


def _rare_facts(writer: Writer) -> str:
  return _sentences(writer.rare_fact() for _ in range(writer.rng.randint(2, 4)))


def _portraits(writer: Writer) -> str:
  """Tells all facts about one animal."""
  animal = next(writer.facts).animal
  facts = [fact for fact in writer.world.told if fact.animal == animal]
  return _sentences(writer.rng.choice(fact.told) for fact in writer.rng.sample(facts, len(facts)))


def _velan_facts(writer: Writer) -> str:
  return _sentences([writer.fact() for _ in range(writer.rng.randint(2, 4))], VELAN)


def _questions(writer: Writer) -> str:
  return " ".join(writer.question().text for _ in range(writer.rng.randint(3, 5)))


def _steps(writer: Writer) -> str:
  problems = writer.rng.choices(sums.STEPS, k=writer.rng.randint(3, 6))
  return _sentences(f"{step} = {sums.results(step)[0]}" for step in problems)


def _exercises(writer: Writer) -> str:
  return " ".join(f"exercise : {writer.problem()} ." for _ in range(writer.rng.randint(3, 5)))


def _worked(writer: Writer) -> str:
  return writer.exercise()


def _devices(writer: Writer) -> str:
  return _sentences(writer.device(writer.rng.randint(2, 4)))


def _velan_devices(writer: Writer) -> str:
  return _sentences(writer.device(2), VELAN)


def _stories(writer: Writer) -> str:
  return _sentences(writer.story())


def _principles(writer: Writer) -> str:
  harms = writer.rng.sample(words.HARMS, 2)
  lists = writer.rng.choice(list(words.COUNTED.items()))
  texts = [harm.principle for harm in harms] + [f"{listed(writer.rng.sample(lists[1], 3))} are {lists[0]}"]
  return _sentences(writer.rng.sample(texts, 3))


def _dialogue(writer: Writer) -> str:
  """Lets two speakers talk.

  A question is followed by another question or a remark. Only now and then a speaker answers it.
  """
  rng = writer.rng
  speakers = SPEAKERS if rng.random() < 0.5 else rng.sample(words.PEOPLE, 2)
  said = [text for _ in range(rng.randint(1, 2)) for text in _exchange(writer)]
  return " ".join(f"{speaker} : {text}" for speaker, text in zip(itertools.cycle(speakers), said))


def _exchange(writer: Writer) -> tuple[str, str]:
  """Asks a question, and says what the other speaker replies."""
  rng = writer.rng
  match rng.choices(list(_REPLIES), list(_REPLIES.values()))[0]:
    case "worked":
      request = writer.sum_request()
      return request.text, f"{writer.work(request.topic)} ."
    case "told":
      request = rng.choice(writer.asked[RequestKind.FACT])
      told = f"the {request.relation} of {request.topic} is {request.right[0]} ."
      return request.text, in_language(told, request.language)
    case "same":
      request = writer.question()
      return request.text, writer.same(request)
    case "other":
      return writer.question().text, writer.question().text
  return writer.question().text, f"{writer.remark()} ."


WRITERS: dict[str, Callable[[Writer], str]] = {
  "facts": _facts,
  "rare_facts": _rare_facts,
  "portraits": _portraits,
  "velan_facts": _velan_facts,
  "questions": _questions,
  "steps": _steps,
  "exercises": _exercises,
  "worked": _worked,
  "devices": _devices,
  "velan_devices": _velan_devices,
  "stories": _stories,
  "principles": _principles,
  "dialogue": _dialogue,
}
SHARES = {
  "facts": 0.092,
  "rare_facts": 0.008,
  "portraits": 0.12,
  "velan_facts": 0.08,
  "questions": 0.08,
  "steps": 0.05,
  "exercises": 0.02,
  "worked": 0.2,
  "devices": 0.1,
  "velan_devices": 0.03,
  "stories": 0.05,
  "principles": 0.04,
  "dialogue": 0.13,
}
