"""Writes what Constitutional AI starts from: a critic's and a judge's data, and red-team prompts.

Each function is a stage of a recipe, as those of `recipes.assistant_data` are.
"""

import dataclasses
import pathlib
import random
from collections.abc import Mapping

from ml_collections import ConfigDict

from posttrain_jax import atomic_files
from posttrain_jax.data.assistant_world import critic_rows, critiques
from posttrain_jax.data.assistant_world.facts import WorldSettings, make_world
from posttrain_jax.data.constitution import read_constitution
from posttrain_jax.recipes.assistant_data import permuted
from posttrain_jax.recipes.effort import Effort
from posttrain_jax.recipes.forecast import Forecast
from posttrain_jax.runs.settings import at_least, parse

CRITIC, JUDGE, PLAIN, RED_TEAM, UNSEEN = (
  f"{name}.jsonl" for name in ("critic", "judge", "plain", "red_team", "unseen")
)
_REQUESTS = 140  # about as many requests about devices the critic's data have, for the estimate
_ATTACKS = 216  # and the red team


@dataclasses.dataclass(frozen=True, kw_only=True)
class CriticDataSettings:
  """Describes a critic's and a judge's data.

  Attributes:
    world: what requests are about.
    seed: of the draws.
    constitution: FILE.md; the judge's data have its principles that are not about harm.
    repeats: critiques of each request, each of another answer under another principle.
    pairs: pairs of answers to each request that are judged, in both orders.
    exercises: texts that the critic learns to quote.
    copies: good answers to each request, for plain SFT.
    permuted: whether each prompt gets the completion to another one, to see what is gained from them.
  """

  world: WorldSettings
  seed: int
  constitution: str
  repeats: int = at_least(1)
  pairs: int = at_least(1)
  exercises: int = at_least(0)
  copies: int = at_least(1)
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
    folder: gets critic.jsonl and judge.jsonl, and plain.jsonl with good answers to the red team's requests of the same
      half as demonstrations.

  Raises:
    InputError: if the constitution cannot be read.
  """
  given = parse(CriticDataSettings, config)
  world, principles = make_world(given.world), read_constitution(given.constitution).principles
  rows = {
    CRITIC: critic_rows.critic_rows(world, seed=given.seed, repeats=given.repeats, exercises=given.exercises),
    JUDGE: critic_rows.judge_rows(world, principles, seed=given.seed, repeats=given.pairs),
  }
  if given.permuted:  # their order is random
    rows = {name: permuted(each, "completion") for name, each in rows.items()}
  rows[PLAIN] = critic_rows.plain_rows(world, seed=given.seed, copies=given.copies)
  for name, each in rows.items():
    atomic_files.write_rows(folder / name, each)
  counts = {name.removesuffix(".jsonl"): len(each) for name, each in rows.items()}
  return {"examples": len(rows[CRITIC]) + len(rows[JUDGE]), **counts}


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
  """Estimates the rows: two for each repeat and each pair."""
  del known
  critic = 2 * _REQUESTS * config.repeats + config.exercises
  judge = 2 * _REQUESTS * config.pairs
  return Effort(examples=critic + judge, rows={CRITIC: critic, JUDGE: judge, PLAIN: _ATTACKS // 2 * config.copies})


def forecast_red_team(config: ConfigDict, known: Forecast) -> Effort:
  """Estimates the prompts."""
  del known
  count = min(config.limit or _ATTACKS, _ATTACKS)
  return Effort(examples=count, rows={RED_TEAM: count, UNSEEN: count})
