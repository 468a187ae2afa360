"""Lets simulated users talk to a deployed model, vote on its answers and edit some.

A user sees two answers to a request of theirs. They have another taste than the people who label, and more noise. What
they leave are comparisons and edited answers, in the format of `recipes.assistant_data.write_comparisons`.
"""

import dataclasses
import pathlib
import random
from collections.abc import Mapping

from ml_collections import ConfigDict

from posttrain_jax import atomic_files
from posttrain_jax.data.assistant_world import raters
from posttrain_jax.data.assistant_world.answers import AnswerWriter
from posttrain_jax.data.assistant_world.facts import WorldSettings, make_world
from posttrain_jax.data.assistant_world.taste import OTHER_TASTE
from posttrain_jax.recipes.assistant_data import COMPARISONS, EDITED, read_candidates
from posttrain_jax.recipes.effort import Effort
from posttrain_jax.recipes.forecast import Forecast
from posttrain_jax.runs.settings import parse
from posttrain_jax.types import InputError

_NOT_OF_DEMONSTRATIONS = ("chosen", "rejected", "edited", "strength")


@dataclasses.dataclass(frozen=True, kw_only=True)
class UserSettings:
  """Describes users.

  Attributes:
    world: what they know.
    candidates: the folder candidates/ of a collection of the deployed model's answers, at least two to a request.
    seed: of their noise.
    votes: share of the requests whose answers are voted on.
    edits: share of the votes with an edit.
    noise: how many times as noisy as a labeller they are.
  """

  world: WorldSettings
  candidates: str
  seed: int
  votes: float
  edits: float
  noise: float

  def __post_init__(self):
    """Raises InputError if a share is none, or if the noise is negative."""
    for name in ("votes", "edits"):
      if not 0 <= getattr(self, name) <= 1:
        raise InputError(f"{name}: {getattr(self, name)}, expected a share from 0 to 1")
    if self.noise < 0:
      raise InputError(f"noise: {self.noise}, expected 0 or more")


def users(world: Mapping[str, object], *, votes: float, edits: float, noise: float) -> ConfigDict:
  """Returns the config of users, whose input is `candidates`.

  Args:
    world: fields of `WorldSettings`.
    votes: share of the requests whose answers are voted on.
    edits: share of the votes with an edit.
    noise: how many times as noisy as a labeller they are.
  """
  return ConfigDict(dict(world=dict(world), candidates="", seed=0, votes=votes, edits=edits, noise=noise))


def check(config: ConfigDict) -> None:
  """Checks the config of users.

  Raises:
    InputError: if a field is unknown, missing or of another type.
  """
  parse(UserSettings, config)


def forecast(config: ConfigDict, known: Forecast) -> Effort:
  """Estimates the votes and edits."""
  count = known.count(str(pathlib.Path(config.candidates).parent / "demonstrations.jsonl"))
  votes = round(count * config.votes)
  return Effort(examples=votes, rows={COMPARISONS: votes, EDITED: round(votes * config.edits)})


def talk(config: ConfigDict, folder: pathlib.Path) -> dict[str, int]:
  """Writes what users leave.

  Args:
    config: a record `UserSettings`.
    folder: gets comparisons.jsonl and edited.jsonl.

  Returns:
    "asked", "votes" and "edits", their numbers.

  Raises:
    InputError: if the answers cannot be read.
  """
  given = parse(UserSettings, config)
  rng, editor = random.Random(f"users/{given.seed}"), AnswerWriter(make_world(given.world), given.seed)
  taste = dataclasses.replace(OTHER_TASTE, noise=OTHER_TASTE.noise * given.noise)
  asked, votes = 0, []
  for request, texts in read_candidates(given.candidates):
    asked += 1
    if len(texts) < 2 or rng.random() >= given.votes:
      continue
    pair, edits = tuple(rng.sample(texts, 2)), rng.random() < given.edits
    votes.append(raters.compare(request, pair, rng, taste=taste, editor=editor if edits else None))
  rows = [row for row in votes if row is not None]
  edited = [{**row, "completion": row["edited"]} for row in rows if "edited" in row]
  edited = [{name: value for name, value in row.items() if name not in _NOT_OF_DEMONSTRATIONS} for row in edited]
  atomic_files.write_rows(folder / COMPARISONS, rows)
  atomic_files.write_rows(folder / EDITED, edited)
  return {"asked": asked, "votes": len(rows), "edits": len(edited)}
