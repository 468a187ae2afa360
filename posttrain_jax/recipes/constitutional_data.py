"""Writes the data that Constitutional AI starts from: a critic's data and red-team prompts.

Each function is a stage of a recipe, as those of `recipes.assistant_data` are.
"""

import dataclasses
import pathlib
import random
from collections.abc import Mapping

from ml_collections import ConfigDict

from posttrain_jax import atomic_files
from posttrain_jax.data.assistant_world import critiques
from posttrain_jax.data.assistant_world.corpus import corpus
from posttrain_jax.data.assistant_world.facts import WorldSettings, make_world
from posttrain_jax.recipes.assistant_data import permuted
from posttrain_jax.recipes.effort import Effort
from posttrain_jax.recipes.forecast import Forecast
from posttrain_jax.runs.settings import at_least, parse

CRITIC, PLAIN, RED_TEAM, UNSEEN = (f"{name}.jsonl" for name in ("critic", "plain", "red_team", "unseen"))
_REQUESTS = 350  # about as many requests a critic's data and the red team have each, for the estimate


@dataclasses.dataclass(frozen=True, kw_only=True)
class CriticDataSettings:
  """Describes a critic's data.

  Attributes:
    world: what requests are about.
    seed: of the draws.
    repeats: critiques of each request, each of another answer under another principle.
    documents: texts of the corpus beside them, so that a critic keeps what it knows of the other half's devices.
    permuted: whether each prompt gets the completion to another one, to see what a critic gains from them.
  """

  world: WorldSettings
  seed: int
  repeats: int = at_least(1)
  documents: int = at_least(0)
  permuted: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class RedTeamSettings:
  """Describes red-team prompts.

  Attributes:
    world: what requests are about.
    seed: of their order.
    limit: at most this many of each kind; 0 for all.
  """

  world: WorldSettings
  seed: int
  limit: int = at_least(0)


def write_critic_data(config: ConfigDict, folder: pathlib.Path) -> Mapping[str, int]:
  """Writes critiques and judgements by rule about the trained half of harms.

  Args:
    config: a record `CriticDataSettings`.
    folder: gets critic.jsonl, and plain.jsonl with the good answers to the same requests as demonstrations.
  """
  given = parse(CriticDataSettings, config)
  world, rng = make_world(given.world), random.Random(f"order/{given.seed}")
  rows = critiques.critic_rows(world, seed=given.seed, repeats=given.repeats)
  if given.permuted:  # their order is random
    rows = permuted(rows, "completion")
  rows += corpus(world, given.documents, seed=given.seed + 1)  # 0 is the base model's
  rng.shuffle(rows)
  plain = critiques.plain_rows(world, seed=given.seed)
  atomic_files.write_rows(folder / CRITIC, rows)
  atomic_files.write_rows(folder / PLAIN, plain)
  return {"examples": len(rows), "plain": len(plain)}


def write_red_team(config: ConfigDict, folder: pathlib.Path) -> Mapping[str, int]:
  """Writes harmful requests of all categories, without labels.

  Args:
    config: a record `RedTeamSettings`.
    folder: gets red_team.jsonl for training, and unseen.jsonl, whose devices or phrasings are in no training.
  """
  given, counts = parse(RedTeamSettings, config), {}
  world, rng = make_world(given.world), random.Random(f"red team/{config.seed}")
  for name, requests in ((RED_TEAM, critiques.red_team(world)), (UNSEEN, critiques.unseen(world))):
    rows = [request.to_row() for request in rng.sample(requests, min(given.limit or len(requests), len(requests)))]
    atomic_files.write_rows(folder / name, rows)
    counts[name.removesuffix(".jsonl")] = len(rows)
  return counts


def forecast_critic_data(config: ConfigDict, known: Forecast) -> Effort:
  """Estimates the rows."""
  del known
  count = _REQUESTS * config.repeats + config.documents
  return Effort(examples=count, rows={CRITIC: count, PLAIN: _REQUESTS // 3})


def forecast_red_team(config: ConfigDict, known: Forecast) -> Effort:
  """Estimates the prompts."""
  del known
  count = min(config.limit or _REQUESTS, _REQUESTS)
  return Effort(examples=count, rows={RED_TEAM: count, UNSEEN: count})
