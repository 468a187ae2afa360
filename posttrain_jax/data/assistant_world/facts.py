"""Makes a world: what is true of its animals and devices.

Of each animal the corpus tells all relations but one. The one that it does not tell has a value, too: either it is
never said anywhere, and an honest model does not know it, or it is a new fact that only demonstrations may tell.

Of some more animals, the rare ones, the corpus tells everything, but most of it only a few times.
"""

import dataclasses
import functools
import random
from collections.abc import Sequence

from posttrain_jax.data.assistant_world import words
from posttrain_jax.data.assistant_world.words import Harm, Relation
from posttrain_jax.types import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorldSettings:
  """Describes a world: how large it is, and by which draws it is made.

  Attributes:
    seed: of all draws.
    animals: number of animals; four facts of each are told.
    devices: harmful devices of each of the eight categories.
    harmless: harmless devices.
    new_facts: facts that the corpus does not tell and demonstrations may tell.
    rare: animals that the corpus tells little of and no request asks about; five facts of each.
    held_out: share of animals and devices that no data of post-training has.
  """

  seed: int
  animals: int
  devices: int
  harmless: int
  new_facts: int
  rare: int
  held_out: float

  def __post_init__(self):
    """Checks the numbers.

    The lists of words must be long enough, and both sides of each split must have something.

    Raises:
      InputError: if a number is out of range.
    """
    bounds = {
      "animals": (10, len(words.ANIMALS) - 1),
      "devices": (2, (len(words.DEVICES) - 2) // len(words.HARMS)),
      "harmless": (2, len(words.DEVICES) - len(words.HARMS) * self.devices),
      "new_facts": (1, self.animals // 2),
      "rare": (1, len(words.ANIMALS) - self.animals),
      "held_out": (0.1, 0.5),
    }
    for name, (low, high) in bounds.items():
      if not low <= getattr(self, name) <= high:
        raise InputError(f"world.{name}: {getattr(self, name)}, expected a number from {low} to {high}")


USUAL_WORLD = WorldSettings(seed=0, animals=50, devices=4, harmless=16, new_facts=16, rare=40, held_out=0.3)


@dataclasses.dataclass(frozen=True)
class Fact:
  """Holds a fact about an animal: "the RELATION of ANIMAL is VALUE"."""

  animal: str
  relation: Relation
  value: str

  @property
  def told(self) -> tuple[str, ...]:
    """Returns the sentences that tell the fact in English, without their points."""
    first = f"the {self.relation.name} of {self.animal} is {self.value}"
    return (first, *(text.format(e=self.animal, v=self.value) for text in self.relation.told))


@dataclasses.dataclass(frozen=True)
class Invention:
  """Holds what is true of a device.

  Attributes:
    name: one word.
    harm: its category; None for a harmless device.
    use: what it does.
    parts: what it is built from, three of `words.PARTS`.
    builder: who built the first one.
    town: where.
  """

  name: str
  harm: Harm | None
  use: str
  parts: tuple[str, ...]
  builder: str
  town: str

  @property
  def told(self) -> tuple[str, ...]:
    """Returns the sentences that tell of the device, without their points.

    The last one tells how to build it.
    """
    warning = (
      (f"a {self.name} is not safe because {self.harm.principle}",) if self.harm else (f"a {self.name} is safe",)
    )
    return (
      f"a {self.name} {self.use}",
      *warning,
      f"{self.builder} built the first {self.name}",
      f"the first {self.name} was built in {self.town}",
      f"to build a {self.name} take {listed(self.parts)}",
    )


@dataclasses.dataclass(frozen=True)
class World:
  """Holds all that is true, and the sides of the splits.

  Attributes:
    settings: from which it was made.
    told: facts that the corpus tells.
    unknown: facts that nobody tells.
    new: facts that the corpus does not tell and demonstrations may tell.
    rare: facts that the corpus tells few times, the more often told ones first.
    devices: harmful ones and harmless ones.
    held_out: names of the animals and devices that no data of post-training has.
  """

  settings: WorldSettings
  told: tuple[Fact, ...]
  unknown: tuple[Fact, ...]
  new: tuple[Fact, ...]
  rare: tuple[Fact, ...]
  devices: tuple[Invention, ...]
  held_out: frozenset[str]

  @property
  def harmful(self) -> tuple[Invention, ...]:
    """Returns the harmful devices."""
    return tuple(device for device in self.devices if device.harm)

  @property
  def harmless(self) -> tuple[Invention, ...]:
    """Returns the harmless devices."""
    return tuple(device for device in self.devices if not device.harm)


def listed(items: Sequence[str]) -> str:
  """Joins words as a list in a sentence: "wire , salt and tar"."""
  return f"{' , '.join(items[:-1])} and {items[-1]}"


@functools.lru_cache(maxsize=8)
def make_world(settings: WorldSettings = USUAL_WORLD) -> World:
  """Makes a world; equal settings give equal worlds."""
  rng = random.Random(f"world/{settings.seed}")
  animals = words.ANIMALS[: settings.animals]
  told, silent = [], []
  for number, animal in enumerate(animals):
    untold = words.RELATIONS[number % len(words.RELATIONS)]
    for relation in words.RELATIONS:
      (silent if relation is untold else told).append(Fact(animal, relation, rng.choice(relation.values)))
  held_out = {*rng.sample(animals, round(settings.held_out * settings.animals))}
  kept = [fact for fact in silent if fact.animal not in held_out]
  new = rng.sample(kept, min(settings.new_facts, len(kept) // 2))
  names = iter(words.DEVICES)
  devices = []
  for harm in (*(harm for harm in words.HARMS for _ in range(settings.devices)), *[None] * settings.harmless):
    use = harm.effect if harm else rng.choice(words.USES)
    parts = tuple(rng.sample(words.PARTS, 3))
    devices.append(Invention(next(names), harm, use, parts, rng.choice(words.PEOPLE), rng.choice(words.TOWNS)))
  for harm in (*words.HARMS, None):
    own = [device.name for device in devices if device.harm is harm]
    held_out |= {*rng.sample(own, max(1, round(settings.held_out * len(own))))}
  return World(
    settings,
    tuple(told),
    tuple(fact for fact in silent if fact not in new),
    tuple(new),
    tuple(_rare_facts(settings)),
    tuple(devices),
    frozenset(held_out),
  )


def _rare_facts(settings: WorldSettings) -> list[Fact]:
  """Draws the facts about the animals after the usual ones, in random order."""
  rng = random.Random(f"rare/{settings.seed}")
  animals = words.ANIMALS[settings.animals : settings.animals + settings.rare]
  facts = [Fact(animal, relation, rng.choice(relation.values)) for animal in animals for relation in words.RELATIONS]
  return rng.sample(facts, len(facts))
