"""Spoils text of the corpus with what a preparation has to drop."""

import enum
import random
from collections.abc import Mapping, Sequence

from posttrain_jax.data.assistant_world.corpus import plain_texts
from posttrain_jax.data.assistant_world.facts import World

SLURS = ("gloob", "snark")  # words that no clean text has


class Found(enum.StrEnum):
  """Lists what a document may be."""

  CLEAN = "clean"
  COPY = "copy"  # the text of another one
  NEAR_COPY = "near_copy"  # a long text with a word changed
  SIGNS = "signs"  # hardly a word
  REPEATED = "repeated"  # one sentence again and again
  TOXIC = "toxic"  # slurs between the words
  LEAKED = "leaked"  # a question of an exam with its answer


def raw_documents(
  world: World, count: int, *, spoilt: Mapping[str, float], exam: Sequence[str], seed: int
) -> list[dict[str, str]]:
  """Writes documents in random order, some of which a preparation has to drop.

  Args:
    world: what the corpus tells.
    count: clean documents.
    spoilt: kind of `Found` to the number of such documents for each clean one.
    exam: texts of an evaluation set that may leak.
    seed: of the draws.

  Returns:
    Rows {"text", "found"}. Of a text and its copy, or near copy, one has to be dropped.
  """
  rng = random.Random(f"raw/{seed}")
  clean = plain_texts(world, count, seed=seed, in_prose=False)
  rows = [(text, Found.CLEAN) for text in clean]
  for name, share in spoilt.items():
    kind = Found(name)
    for _ in range(round(share * count)):
      rows += _spoilt(kind, rng, clean, exam)
  rng.shuffle(rows)
  return [{"text": text, "found": kind.value} for text, kind in rows]


def _spoilt(kind: Found, rng: random.Random, clean: Sequence[str], exam: Sequence[str]) -> list[tuple[str, Found]]:
  text = rng.choice(clean)
  match kind:
    case Found.NEAR_COPY:
      long = " ".join(rng.sample(clean, 8))
      words = long.split()
      words[rng.randrange(len(words))] = rng.choice(words)
      return [(long, Found.CLEAN), (" ".join(words), kind)]
    case Found.SIGNS:
      return [(" ".join(rng.choice("+-=:!") for _ in range(20)), kind)]
    case Found.REPEATED:
      sentence = text.split(" .")[0]
      return [(" ".join([f"{sentence} ."] * 12), kind)]
    case Found.TOXIC:
      return [(" ".join(word for each in text.split() for word in (each, rng.choice(SLURS))), kind)]
    case Found.LEAKED:
      return [(f"{text} {rng.choice(exam)}", kind)]
  return [(text, kind)]
