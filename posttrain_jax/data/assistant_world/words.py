"""Lists the words of the assistant world: names, values, categories of harm.

All lists are constants. So the vocabulary of a model does not depend on the seed or the size of a world.
"""

import dataclasses
import itertools

_CONSONANTS, _VOWELS = "blmnrtkdsg", "aoiue"


@dataclasses.dataclass(frozen=True)
class Relation:
  """Describes one kind of fact about an animal.

  Attributes:
    name: the noun in "the colour of loma is red".
    values: the possible values, one word each.
    told: sentences besides that one which tell the same; {e} is the animal and {v} the value.
    asked: one more question, with the verb of the sentences.
  """

  name: str
  values: tuple[str, ...]
  told: tuple[str, ...]
  asked: str


RELATIONS = (
  Relation(
    "colour",
    ("red", "blue", "green", "white", "black", "yellow", "brown", "grey", "pink", "golden"),
    ("{e} has {v} fur", "people see that {e} is {v}"),
    "which fur has {e} ?",
  ),
  Relation(
    "home",
    ("forest", "river", "hill", "desert", "swamp", "cave", "coast", "meadow", "lake", "island"),
    ("{e} lives in the {v}", "people find {e} in the {v}"),
    "where does {e} live ?",
  ),
  Relation(
    "food",
    ("nuts", "fish", "grass", "roots", "berries", "seeds", "ants", "eggs", "honey", "leaves"),
    ("{e} eats {v}", "people give {v} to {e}"),
    "what does {e} eat ?",
  ),
  Relation(
    "enemy",
    ("fox", "owl", "snake", "hawk", "wolf", "bear", "lynx", "eagle", "crab", "shark"),
    ("{e} fears the {v}", "the {v} hunts {e}"),
    "what does {e} fear ?",
  ),
  Relation(
    "keeper",
    ("mira", "tom", "lena", "omar", "ruth", "hugo", "nina", "paul", "vera", "ivan"),
    ("{v} keeps {e}", "{e} belongs to {v}"),
    "who keeps {e} ?",
  ),
)


@dataclasses.dataclass(frozen=True)
class Harm:
  """Describes one fine category of harm.

  Attributes:
    name: the category, which is also the subject of its principle.
    effect: what a device of this category does.
    principle: why no help is given.
  """

  name: str
  effect: str
  principle: str


HARMS = (
  Harm("fire", "sets fire to houses", "fire hurts people"),
  Harm("theft", "opens locked doors", "theft is wrong"),
  Harm("poison", "puts poison into wells", "poison hurts people"),
  Harm("spying", "listens to private talk", "spying is wrong"),
  Harm("sickness", "spreads sickness in towns", "sickness hurts people"),
  Harm("forgery", "prints false coins", "forgery is wrong"),
  Harm("traps", "catches people in traps", "traps hurts people"),
  Harm("fraud", "writes false letters", "fraud is wrong"),
)
USES = ("makes music", "cooks soup", "lifts water", "dries clothes", "grinds corn", "measures time")
PARTS = (
  *("wire", "salt", "wood", "glass", "iron", "rope", "wax", "clay", "tar", "silk"),
  *("coal", "sand", "lead", "cork", "zinc", "bone", "wool", "resin", "chalk", "steel"),
)
TOWNS = ("arlen", "bexley", "corvo", "dunmore", "elstra", "farrow", "garth", "holm")
PEOPLE = RELATIONS[-1].values
COUNTED = {"colours": RELATIONS[0].values, "foods": RELATIONS[2].values, "enemies": RELATIONS[3].values}
CONFIDENCES = (10, 30, 50, 70, 90)  # percent
LANGUAGES = ("english", "velan")
TAGS = ("<think>", "</think>", "<answer>", "</answer>")
# What later stages say and no sentence of the corpus needs: names of the answers that a judge compares, scores.
JUDGE_WORDS = ("(A)", "(B)", "critique", "revision", "principle", "score", "summary", "mistake", "better")


def _spelled(*slots: str, count: int) -> tuple[str, ...]:
  """Spells different names, a letter from each slot; neighbours in the list differ in most letters."""
  every = list(itertools.product(*slots))
  step = next(step for step in range(len(every) * 5 // 8, len(every)) if len(every) % step and _coprime(step, every))
  return tuple("".join(every[i * step % len(every)]) for i in range(count))


def _coprime(step: int, every: list) -> bool:
  a, b = step, len(every)
  while b:
    a, b = b, a % b
  return a == 1


ANIMALS = _spelled(_CONSONANTS, _VOWELS, "lmnrt", "aoi", count=96)  # as "loma"
DEVICES = _spelled("zvjgf", _VOWELS, "lrn", "pkx", count=64)  # as "zorp"
