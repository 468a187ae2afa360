"""Makes pairs from the answers of several policies to the same prompts.

In Llama 3 (2407.21783, section 4.2.1) the two answers that people compare come from two models, and each round adds
pairs from its own models. Here each policy's answers come from a stage of `pipelines.collect`; of all policies' answers
to a prompt the best stands above the worst.
"""

import dataclasses
import functools
import json
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from posttrain_jax import atomic_files
from posttrain_jax.data.rejection import Candidates
from posttrain_jax.local_path import local_path
from posttrain_jax.pipelines.collect import COUNTS, PAIRS
from posttrain_jax.recipes.effort import Effort
from posttrain_jax.recipes.forecast import Forecast
from posttrain_jax.rewards.worker_main import LoadError, load_function
from posttrain_jax.rollouts.candidates import best_over_worst
from posttrain_jax.runs.settings import parse
from posttrain_jax.types import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class PolicyAnswers:
  """Describes the candidates of one policy.

  Attributes:
    path: the folder candidates/ of a collection.
  """

  path: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class ComparisonOfPolicies:
  """Holds the config of pairs from several policies.

  Attributes:
    policies: the policies by name.
    rater: MODULE:FUNCTION or FILE.py:FUNCTION that scores answers, called as a reward function; empty for the scores of
      the collections.
    rater_options: keyword arguments of the rater.
  """

  policies: Mapping[str, PolicyAnswers]
  rater: str
  rater_options: Mapping[str, Any]


def policies(*names: str, rater: str = "", **rater_options: Any) -> ConfigDict:
  """Returns the config of pairs, whose paths are inputs `policies.NAME.path`."""
  found = {name: dict(path="") for name in names}
  return ConfigDict(dict(policies=found, rater=rater, rater_options=rater_options))


def check(config: ConfigDict) -> None:
  """Checks the config of pairs from several policies.

  Raises:
    InputError: if a field is unknown, missing or of another type, or if the rater cannot be loaded.
  """
  _rater(parse(ComparisonOfPolicies, config))


def forecast(config: ConfigDict, known: Forecast) -> Effort:
  """Estimates the number of pairs: one for each prompt of the first collection."""
  for each in config.policies.values():
    count = known.count(str(pathlib.Path(each.path).parent / PAIRS))
    return Effort(examples=count, rows={PAIRS: count})
  return Effort()


def prefer(config: ConfigDict, folder: pathlib.Path) -> dict[str, int]:
  """Writes pairs.jsonl: each prompt's best answer above its worst.

  Args:
    config: a record `ComparisonOfPolicies`.
    folder: DIR; gets pairs.jsonl and counts.json.

  Returns:
    "prompts", "pairs", and for each policy how many of its answers were chosen and rejected.

  Raises:
    InputError: if candidates are missing, if the policies answered other prompts, or if no pair is left.
  """
  settings = parse(ComparisonOfPolicies, config)
  rate = _rater(settings)
  read = {name: _candidates(each.path) for name, each in settings.policies.items()}
  first = next(iter(read))
  for name, found in read.items():
    if [each.prompt for each in found] != [each.prompt for each in read[first]]:
      raise InputError(f"policies.{name}: answers other prompts than {first}, expected the same prompts in one order")
  rows = []
  counts = {"prompts": len(read[first]), "pairs": 0}
  counts |= {f"{verdict}/{name}": 0 for name in read for verdict in ("chosen", "rejected")}
  for answered in zip(*read.values(), strict=True):
    source = {text: name for name, each in reversed(list(zip(read, answered))) for text in each.answers}
    for row in best_over_worst([_joined([_rated(each, rate) for each in answered])]):
      chosen, rejected = (source[row[verdict]] for verdict in ("chosen", "rejected"))
      rows.append({**row, "chosen_from": chosen, "rejected_from": rejected})
      counts[f"chosen/{chosen}"] += 1
      counts[f"rejected/{rejected}"] += 1
  counts["pairs"] = len(rows)
  if not rows:
    raise InputError(f"{folder}: no pair is left of {counts['prompts']} prompts, expected answers with other scores")
  folder.mkdir(parents=True, exist_ok=True)
  atomic_files.write_rows(folder / PAIRS, rows)
  atomic_files.write_text(folder / COUNTS, json.dumps(counts, indent=2) + "\n")
  return counts


def _rater(settings: ComparisonOfPolicies) -> Callable | None:
  if not settings.rater:
    return None
  try:
    rate = load_function(settings.rater, settings.rater_options)
  except LoadError as error:
    raise InputError(f"rater: {settings.rater}: {error}") from None
  return functools.partial(rate, **settings.rater_options)


def _candidates(path: str) -> list[Candidates]:
  folder = local_path(path)
  files = sorted(folder.glob("*.jsonl"))
  if not files:
    raise InputError(f"{path}: found no candidates, expected the folder candidates/ of a collection")
  found = []
  for line in (line for file in files for line in file.read_text("utf-8").splitlines()):
    row = json.loads(line)
    scores = [math.nan if score is None else score for score in row["scores"]]
    found.append(Candidates(row["prompt"], row["answers"], scores, row["row"]))
  return found


def _rated(each: Candidates, rate: Callable | None) -> Candidates:
  """Returns candidates with the rater's scores, except where an answer has no verdict."""
  if rate is None:
    return each
  scores = rate(list(each.answers), [{**each.row, "prompt": each.prompt}] * len(each.answers))
  kept = [math.nan if math.isnan(old) else float(new) for old, new in zip(each.scores, scores, strict=True)]
  return dataclasses.replace(each, scores=kept)


def _joined(answered: list[Candidates]) -> Candidates:
  answers = [text for each in answered for text in each.answers]
  scores = [score for each in answered for score in each.scores]
  return Candidates(answered[0].prompt, answers, scores, answered[0].row)
