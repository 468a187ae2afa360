"""Writes the plain text that the base model is pretrained on.

The text tells every fact in several ways, rare ones a few times, and asks many questions. It hardly ever answers one:
after a question comes another question, or someone speaks of something else. So a model of this text knows and does not
answer.
"""

import itertools
import random
from collections.abc import Callable

from posttrain_jax.data.assistant_world import sums, words
from posttrain_jax.data.assistant_world.facts import World, listed
from posttrain_jax.data.assistant_world.language import ENGLISH, VELAN, in_language, prose, shares
from posttrain_jax.data.assistant_world.requests import RequestKind
from posttrain_jax.data.assistant_world.writer import Writer

# What follows a question in a dialogue, with weights. Almost nobody answers.
_REPLIES = {"worked": 0.02, "told": 0.005, "same": 0.3, "other": 0.5, "remark": 0.175}
SPEAKERS = ("user", "assistant")  # the two names in `requests.TEMPLATE`; two of many in the corpus


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


def plain_texts(world: World, count: int, *, seed: int, in_prose: bool) -> list[str]:
  """Writes documents as a model reads them.

  Args:
    world: what is told.
    count: number of documents.
    seed: of the draws.
    in_prose: whether they are written as people write them. Those that have words of Velan are left out then.
  """
  texts = [row["completion"] for row in corpus(world, count, seed=seed)]
  return [prose(text) for text in texts if not shares(text)[VELAN]] if in_prose else texts


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
