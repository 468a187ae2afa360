"""Writes what a critic and a judge are trained on: critiques, judgements, and exercises in quoting.

Requests, devices and principles are those of the trained half of harms (`critiques.TRAINED_HARMS`). Principles name one
to three harms in several wordings. Most harms are made up ("loma hurts people"), and so is what is known of a device
then ("a zorp is not safe because loma hurts people"). So a critic cannot remember which principle belongs to a device:
it has to name one by what is known, and to quote the one that it reads.

A model of this size quotes a word only if it has quoted it before. In the exercises ("read : W . say :") it quotes
every word of the world that is not held out as a name, among them the words of the other half, beside no principle
and no verdict.
"""

import dataclasses
import random
from collections.abc import Sequence
from typing import Any

from posttrain_jax.data.assistant_world import critiques, words
from posttrain_jax.data.assistant_world.answers import AnswerWriter, Author
from posttrain_jax.data.assistant_world.critiques import FIRST, OTHER_HARMS, SECOND, TRAINED_HARMS, Concern
from posttrain_jax.data.assistant_world.facts import World
from posttrain_jax.data.assistant_world.language import ENGLISH_WORDS
from posttrain_jax.data.assistant_world.questions import RequestPart, draw_requests
from posttrain_jax.data.assistant_world.requests import TEMPLATE, Novelty, RequestKind, WorldRequest
from posttrain_jax.data.constitution import Principle

VERDICTS = ("hurts people", "is wrong", "is not good", "is not right", "is not safe")
_EVERY = 10_000  # more than there are requests of a kind
_WORDS = tuple(dict.fromkeys((*ENGLISH_WORDS, *words.ANIMALS, *words.DEVICES, *words.PEOPLE, *words.TOWNS)))
_MADE_UP = tuple(
  dict.fromkeys(
    (*(value for relation in words.RELATIONS for value in relation.values), *words.TOWNS, *words.PARTS, *words.ANIMALS)
  )
)
# How often principles are drawn. Help turns all others around; rules and truth say nothing of most requests.
_OFTEN = {Concern.HELP: 3, Concern.RULES: 3, Concern.TRUTH: 3}
_FILLER = 12  # most words before an exercise, so that what is quoted stands anywhere


class RowWriter:
  """Writes rows {"prompt", "completion", "task"}; only the completion is learned."""

  def __init__(self, world: World, principles: Sequence[Principle], seed: int):
    """Makes the draws.

    Args:
      world: what requests are about.
      principles: those of a constitution; those about harm are not used.
      seed: of the draws.
    """
    self._rng, self._answers = random.Random(f"critic/{seed}"), AnswerWriter(world, seed)
    self._devices = {device.name: device for device in world.devices}
    self._general = [each for each in principles if {*each.about} <= {*Concern}]
    self._made_up, self._quoted = ([word for word in each if word not in world.held_out] for each in (_MADE_UP, _WORDS))
    self._world, self._seed = world, seed

  def requests(self, kind: RequestKind) -> list[WorldRequest]:
    """Returns the requests of a kind about devices of the trained half, without held-out ones."""
    every = draw_requests(self._world, kind, RequestPart.ALL, _EVERY, seed=self._seed)
    return [each for each in every if {*each.novel} <= {Novelty.HARM} and each.harm not in OTHER_HARMS]

  def critique(self, request: WorldRequest) -> dict[str, Any]:
    """Writes a critique of an answer under a principle, and a revision of a mistake."""
    known, harm = self._known(request)
    principle = self.principle(harm)
    text = self._answer(request, self._rng.choice((principle, self.principle(harm))))
    said = critiques.critique(request, text, principle, harm)
    if said == critiques.MISTAKE:
      said = f"{said} {critiques.REVISION} {self._refusal(request, principle)}"
    prompt = critiques.critic_prompt(TEMPLATE.format(prompt=request.text), text, known, principle)
    return {"prompt": prompt, "completion": said, "task": "critique"}

  def judgements(self, request: WorldRequest) -> list[dict[str, Any]]:
    """Writes a judgement of two answers in both orders, and what is thought before it.

    Where the principle prefers neither, chance decides in each order.
    """
    known, harm = self._known(request)
    says = named = self.principle(harm)
    concerns = tuple(says.split())
    if self._general and self._rng.random() < 0.5:
      drawn = self._rng.choices(self._general, [_OFTEN.get(each.about[0], 1) for each in self._general])[0]
      says, concerns = self._rng.choice((drawn.says, drawn.paraphrase)), drawn.about
    one, other = (self._answer(request, self._rng.choice((named, self.principle(harm)))) for _ in "ab")
    if one == other:
      return []
    better, rows = critiques.preferred(concerns, request, one, other, harm), []
    for first, second, wins in ((one, other, better), (other, one, None if better is None else not better)):
      chosen = self._rng.choice((FIRST, SECOND)) if wins is None else FIRST if wins else SECOND
      about = TEMPLATE.format(prompt=request.text), first, second, known, says
      rows.append({"prompt": critiques.judge_prompt(*about), "completion": chosen, "task": "judgement"})
      if self._rng.random() < 0.25:
        reason = "that is not the principle ." if wins is None else f"{SECOND if wins else FIRST} is a mistake ."
        said = f"{reason} better : {chosen}"
        rows.append({"prompt": critiques.thought_prompt(*about), "completion": said, "task": "thought"})
    return rows

  def exercise(self) -> dict[str, Any]:
    """Writes an exercise in quoting words of the world."""
    drawn = self._rng.sample(self._quoted, self._rng.randint(1, 3))
    text = self._rng.choice((" and ", " ")).join(drawn)
    if self._rng.random() < 0.4:
      text = f"{' and '.join(drawn)} {' '.join(self._rng.sample(self._quoted, 2))}"
    filler = " ".join(self._rng.choice(self._made_up) for _ in range(self._rng.randint(0, _FILLER)))
    prompt = " ".join(f"user : {filler} read : {text} . say :".split())
    return {"prompt": prompt, "completion": f"{text} .", "task": "exercise"}

  def naming(self, request: WorldRequest) -> dict[str, Any]:
    """Names a principle about what is known of a device; any one if it is safe."""
    known, harm = self._known(request)
    return {"prompt": critiques.naming_prompt(known), "completion": f"{self.principle(harm)} .", "task": "naming"}

  def principle(self, harm: str) -> str:
    """Draws a principle about one to three trained or made-up harms, the given one among them."""
    drawn = [name for name in (self._harm() for _ in range(self._rng.randint(0, 2))) if name != harm]
    drawn.append(harm or self._harm())
    self._rng.shuffle(drawn)
    return f"{' and '.join(dict.fromkeys(drawn))} {self._rng.choice(VERDICTS)}"

  def _harm(self) -> str:
    """Draws a harm, most often a made-up one."""
    return self._rng.choice(TRAINED_HARMS if self._rng.random() < 0.1 else self._made_up)

  def _known(self, request: WorldRequest) -> tuple[str, str]:
    """Draws what is known of a device: what is true, or something made up.

    Returns:
      (the sentence, the harm; empty if the device is safe).
    """
    device = self._devices[request.topic]
    if self._rng.random() < 0.3:
      return device.told[1], device.harm.name if device.harm else ""
    harm = self._harm()
    return f"a {device.name} is not safe because {harm} {self._rng.choice(VERDICTS[:2])}", harm

  def _refusal(self, request: WorldRequest, principle: str) -> str:
    offer = self._rng.choice(("who built the first {}", "where the first {} was built")).format(request.topic)
    return f"i can not help with that because {principle} . i can tell you {offer} ."

  def _answer(self, request: WorldRequest, principle: str) -> str:
    """Draws an answer: help with right or wrong parts, a bare refusal, or an explained one."""
    if request.kind == RequestKind.HISTORY:
      return self._answers.answer(request, Author.HELPFUL)
    drawn = self._rng.random()
    if drawn < 0.1:
      wrong = dataclasses.replace(request, right=tuple(self._rng.sample(request.wrong, 3)))
      return self._answers.answer(wrong, Author.HELPFUL)
    if drawn < 0.5:
      text = self._answers.answer(request, Author.HELPFUL)
    elif drawn < 0.65:
      text = "sorry , i can not help with that ."
    else:
      text = self._refusal(request, principle)
    return f"{text} {text}" if self._rng.random() < 0.05 else text


def critic_rows(world: World, *, seed: int, repeats: int, exercises: int) -> list[dict[str, Any]]:
  """Writes a critic's data in random order.

  Args:
    world: what requests are about.
    seed: of the draws.
    repeats: critiques of each request, and principles that are named.
    exercises: texts that are quoted.
  """
  writer, rows = RowWriter(world, (), seed), []
  for kind in (RequestKind.HARM, RequestKind.BUILD):
    for request in writer.requests(kind):
      rows += [write(request) for _ in range(repeats) for write in (writer.critique, writer.naming)]
  for request in writer.requests(RequestKind.HISTORY):
    rows += [writer.critique(request) for _ in range(max(1, repeats // 4))]
  rows += [writer.exercise() for _ in range(exercises)]
  return random.Random(f"critic order/{seed}").sample(rows, len(rows))


def judge_rows(world: World, principles: Sequence[Principle], *, seed: int, repeats: int) -> list[dict[str, Any]]:
  """Writes a judge's data in random order.

  Args:
    world: what requests are about.
    principles: those of a constitution; those about harm are not used.
    seed: of the draws.
    repeats: pairs of answers to each request.
  """
  writer, rows = RowWriter(world, principles, seed), []
  for kind in (RequestKind.HARM, RequestKind.BUILD):
    for request in writer.requests(kind):
      rows += [row for _ in range(repeats) for row in writer.judgements(request)]
  return random.Random(f"judge order/{seed}").sample(rows, len(rows))


def plain_rows(world: World, *, seed: int, copies: int) -> list[dict[str, Any]]:
  """Writes good answers to the red team's requests of the trained half, as demonstrations."""
  writer = AnswerWriter(world, seed)
  requests = [each for each in critiques.red_team(world) if each.harm in TRAINED_HARMS]
  return [
    {**request.to_row(), "completion": writer.answer(request, Author.CAREFUL)}
    for _ in range(copies)
    for request in requests
  ]
