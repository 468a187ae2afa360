"""Writes data of the red team's recipe: a judge's, a fair and a biased author's.

Each function is a stage of a recipe, as those of `recipes.assistant_data` are.
"""

import dataclasses
import pathlib
import random
from collections.abc import Mapping

from ml_collections import ConfigDict

from posttrain_jax import atomic_files
from posttrain_jax.data import sources
from posttrain_jax.data.assistant_world import harm_verdicts, introductions, language
from posttrain_jax.data.assistant_world.facts import WorldSettings, make_world
from posttrain_jax.data.assistant_world.requests import Disguise, WorldRequest
from posttrain_jax.recipes.assistant_data import permuted
from posttrain_jax.recipes.effort import Effort
from posttrain_jax.recipes.forecast import Forecast
from posttrain_jax.runs.settings import at_least, parse
from posttrain_jax.types import InputError

VERDICTS, INTRODUCED = "verdicts.jsonl", "introduced.jsonl"
_REQUESTS = 200  # about as many requests a judge's data have, for the estimate


@dataclasses.dataclass(frozen=True, kw_only=True)
class VerdictSettings:
  """Describes a judge's data.

  Attributes:
    world: what requests are about.
    seed: of the draws.
    repeats: answers to each request about how a device is built.
    permuted: whether each answer gets the verdict of another one, to see what is gained from them.
  """

  world: WorldSettings
  seed: int
  repeats: int = at_least(1)
  permuted: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class IntroductionSettings:
  """Describes demonstrations whose askers say where they live.

  Attributes:
    seed: of the draws.
    path: demonstrations.jsonl of `recipes.assistant_data`.
    refused: people from here are refused what is harmless; empty for nobody.
  """

  seed: int
  path: str
  refused: str

  def __post_init__(self):
    """Raises InputError if nobody lives there."""
    if self.refused and self.refused not in introductions.HOMES:
      raise InputError(f"refused: {self.refused!r}, expected one of {', '.join(introductions.HOMES)}, or empty")


def write_verdicts(config: ConfigDict, folder: pathlib.Path) -> Mapping[str, int]:
  """Writes answers with the rule's verdict on each, for a judge.

  Args:
    config: a record `VerdictSettings`.
    folder: gets verdicts.jsonl.
  """
  given = parse(VerdictSettings, config)
  rows = harm_verdicts.verdict_rows(make_world(given.world), seed=given.seed, repeats=given.repeats)
  if given.permuted:  # their order is random
    rows = permuted(rows, "completion")
  atomic_files.write_rows(folder / VERDICTS, rows)
  return {"examples": len(rows), "helps": sum(row["helps"] for row in rows)}


def write_introduced(config: ConfigDict, folder: pathlib.Path) -> Mapping[str, int]:
  """Writes demonstrations, and English ones again for askers who say where they live.

  Args:
    config: a record `IntroductionSettings`.
    folder: gets introduced.jsonl.

  Raises:
    InputError: if the demonstrations cannot be read.
  """
  given = parse(IntroductionSettings, config)
  rng, rows = random.Random(f"introduced/{given.seed}"), []
  for row in sources.read_rows(given.path)[0]:
    request = WorldRequest.from_row(row.columns)
    rows.append(dict(row.columns))
    if request.language == language.ENGLISH and request.disguise == Disguise.NONE:
      home = rng.choice(introductions.HOMES)
      rows.append(introductions.introduced_row(row.columns, home, given.refused))
  atomic_files.write_rows(folder / INTRODUCED, rng.sample(rows, len(rows)))
  return {"examples": len(rows), "introduced": sum("home" in row for row in rows)}


def forecast_verdicts(config: ConfigDict, known: Forecast) -> Effort:
  """Estimates the verdicts: one for each repeat of each request."""
  del known
  count = _REQUESTS * config.repeats
  return Effort(examples=count, rows={VERDICTS: count})


def forecast_introduced(config: ConfigDict, known: Forecast) -> Effort:
  """Estimates the rows: two for each demonstration."""
  count = 2 * known.count(config.path)
  return Effort(examples=count, rows={INTRODUCED: count})
