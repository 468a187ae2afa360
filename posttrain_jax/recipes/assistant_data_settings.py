"""Describes the configs of `recipes.assistant_data`, whose stages write data of the assistant world."""

import dataclasses
from collections.abc import Mapping

from posttrain_jax.data.assistant_world.answers import Author
from posttrain_jax.data.assistant_world.facts import WorldSettings
from posttrain_jax.data.assistant_world.requests import RequestKind
from posttrain_jax.recipes.preferences import PolicyAnswers
from posttrain_jax.runs.settings import at_least
from posttrain_jax.types import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class RequestSettings:
  """Describes which requests are drawn; nothing of them is held out.

  Attributes:
    world: what they are about.
    seed: of the draws.
    kinds: number of requests of each kind, fewer where the world does not have as many.
    prose: whether texts are written as people write them, and only English is asked and answered.
  """

  world: WorldSettings
  seed: int
  kinds: Mapping[str, int]
  prose: bool

  def __post_init__(self):
    """Checks the kinds.

    Raises:
      InputError: if one is unknown, if a number is negative, or if nothing is asked.
    """
    for name, count in self.kinds.items():
      if name not in list(RequestKind):
        raise InputError(f"kinds.{name}: unknown, expected some of {', '.join(RequestKind)}")
      if count < 0:
        raise InputError(f"kinds.{name}: {count}, expected at least 0")
    if not any(self.kinds.values()):
      raise InputError("kinds: ask for no request, expected some")


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorldDemonstrationSettings(RequestSettings):
  """Describes demonstrations.

  Attributes:
    author: who answers.
    permuted: whether each request gets the answer to another one.
  """

  author: Author
  permuted: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorldPromptSettings(RequestSettings):
  """Describes prompts.

  Attributes:
    round: another number draws other requests.
  """

  round: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class RankingSettings:
  """Describes rankings by the second rater.

  Attributes:
    candidates: the folder candidates/ of a collection.
    seed: of the rater's noise.
    least: fewest answers to a prompt that it sees.
    most: most of them.
    shuffled: whether the ranks are drawn by chance.
  """

  candidates: str
  seed: int
  least: int = at_least(2)
  most: int
  shuffled: bool

  def __post_init__(self):
    """Raises InputError if the limits are in the wrong order."""
    if self.most < self.least:
      raise InputError(f"most: {self.most}, expected at least as many as least = {self.least}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorldComparisonSettings:
  """Describes comparisons by the first rater.

  Attributes:
    world: what the requests are about.
    policies: the policies by name; they have answered the same prompts.
    seed: of the rater's noise and of the draws.
    round: another number has other noise and other draws.
    pairs: comparisons of each prompt, of which equal ones count once.
    edits: share of the comparisons that are edited.
    shuffled: whether chance decides which answer is edited, chosen and rejected.
    prose: whether edited answers are written as people write them.
    summaries: whether people see the summaries of answers only, except where harm is asked for.
  """

  world: WorldSettings
  policies: Mapping[str, PolicyAnswers]
  seed: int
  round: int
  pairs: int = at_least(1)
  edits: float
  shuffled: bool
  prose: bool
  summaries: bool

  def __post_init__(self):
    """Raises InputError if there is no policy, or if `edits` is no share."""
    if not self.policies:
      raise InputError("policies: found none, expected some whose answers are compared")
    if not 0 <= self.edits <= 1:
      raise InputError(f"edits: {self.edits}, expected a share from 0 to 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DocumentSettings:
  """Describes new text of the corpus.

  Attributes:
    world: what it tells.
    seed: of the draws; the base model's corpus has seed 0.
    documents: their number.
    prose: whether they are written as people write them, without those that have words of Velan.
  """

  world: WorldSettings
  seed: int
  documents: int = at_least(1)
  prose: bool
