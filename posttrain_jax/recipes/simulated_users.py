"""Lets simulated users judge the answers of a deployed model.

A user sees two answers to a request of theirs. They have another taste than the people who label, and more noise. They
vote for the better one, or say that there is no difference; some write a better answer.
"""

import dataclasses
import random
from collections.abc import Sequence

from posttrain_jax.data.assistant_world import raters
from posttrain_jax.data.assistant_world.answers import AnswerWriter
from posttrain_jax.data.assistant_world.facts import World
from posttrain_jax.data.assistant_world.requests import WorldRequest
from posttrain_jax.data.assistant_world.taste import OTHER_TASTE
from posttrain_jax.types import InputError

SEEN = "better"  # the least difference that a user sees, in the words of raters


@dataclasses.dataclass(frozen=True, kw_only=True)
class Habits:
  """Describes how users judge.

  Attributes:
    votes: share of the requests whose answers are voted on.
    edits: share of the votes with an edit.
    noise: how many times as noisy as a labeller they are.
  """

  votes: float
  edits: float
  noise: float

  def __post_init__(self):
    """Raises InputError if a share is none, or if the noise is negative."""
    for name in ("votes", "edits"):
      if not 0 <= getattr(self, name) <= 1:
        raise InputError(f"habits.{name}: {getattr(self, name)}, expected a share from 0 to 1")
    if self.noise < 0:
      raise InputError(f"habits.noise: {self.noise}, expected 0 or more")


@dataclasses.dataclass(frozen=True)
class UserFeedback:
  """Holds what a user says of two answers.

  Attributes:
    shown: numbers of the two answers that the user sees.
    better: place of the better one of the two, 0 or 1; None if the user sees no difference.
    edited: a better answer than both, which the user writes; None for none.
  """

  shown: tuple[int, int]
  better: int | None
  edited: str | None


def vote(
  request: WorldRequest, answers: Sequence[str], habits: Habits, world: World, *, seed: int
) -> UserFeedback | None:
  """Lets the user who has asked judge the answers.

  Args:
    request: what was asked.
    answers: at least two texts, or the user says nothing.
    habits: of the users.
    world: what they know.
    seed: of this user's noise.

  Returns:
    What they say; None if they say nothing, or if both answers are equal.
  """
  rng = random.Random(f"user/{seed}")
  if len(answers) < 2 or rng.random() >= habits.votes:
    return None
  first, second = rng.sample(range(len(answers)), 2)
  taste = dataclasses.replace(OTHER_TASTE, noise=OTHER_TASTE.noise * habits.noise)
  editor = AnswerWriter(world, seed) if rng.random() < habits.edits else None
  row = raters.compare(request, (answers[first], answers[second]), rng, taste=taste, editor=editor)
  if row is None:
    return None
  better = int(row["chosen"] == answers[second]) if row["strength"] in ("significantly", SEEN) else None
  return UserFeedback((first, second), better, row.get("edited"))
