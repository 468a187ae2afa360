"""Lets a rater of the assistant world compare models pair by pair.

The models have answered the same requests (`recipes.alignment`). The first rater compares their answers. Its taste is
not that of the second one, whose rankings reward models learn from. So were the held-out labelers of InstructGPT
(2203.02155) others than those who wrote its data. `evaluation.pairwise` says how order and length are dealt with.
"""

import dataclasses
import pathlib
import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from posttrain_jax.data.assistant_world import raters
from posttrain_jax.data.assistant_world.requests import WorldRequest
from posttrain_jax.evaluation.pairwise import PairJudge, PairwiseResult, judge_pairs
from posttrain_jax.recipes import alignment
from posttrain_jax.recipes.checks import check_of
from posttrain_jax.recipes.measures import Measured
from posttrain_jax.recipes.model_pairs import ByRequest, read_pairs, write_pairs
from posttrain_jax.runs.settings import parse

COMPARISON = "comparison.json"
_ALL = "all"  # the requests of both parts
_Answers = ByRequest[list[dict[str, Any]]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RivalModels:
  """Holds where the answers of two models are.

  Attributes:
    ours: answers.jsonl of the measurement of the model whose wins are counted.
    theirs: that of the other model, from the same requests.
  """

  ours: str
  theirs: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class ComparisonSettings:
  """Holds the config of a comparison.

  Attributes:
    seed: of the rater's noise and of the intervals.
    pairs: which models are compared, by name.
  """

  seed: int
  pairs: Mapping[str, RivalModels]


def pairs(*names: str) -> ConfigDict:
  """Returns the config of a comparison, whose inputs are `pairs.NAME.ours` and `pairs.NAME.theirs`."""
  return ConfigDict(dict(seed=0, pairs={name: dict(ours="", theirs="") for name in names}))


check = check_of(ComparisonSettings, {"pairs": "some models to compare"})


def compare(config: ConfigDict, folder: pathlib.Path) -> dict[str, float]:
  """Writes how often the rater prefers one model's answers to another's.

  Args:
    config: a record `ComparisonSettings`.
    folder: DIR; gets comparison.json, and report.html with a table and a picture.

  Returns:
    PAIR/PART/MEASURE to the estimate, with /low and /high at its end the interval; PART is seen, held_out or all.

  Raises:
    InputError: if answers are missing, or if two models have answered other requests.
  """
  settings = parse(ComparisonSettings, config)
  paths = {name: (each.ours, each.theirs) for name, each in settings.pairs.items()}
  found: dict[str, dict[str, Measured]] = {}
  for name, pair in read_pairs(paths, alignment.read_answers).items():
    found[name] = {
      f"{part}/{measure}": Measured(value.mean, value.low, value.high)
      for part, result in _compared(*pair, settings.seed).items()
      for measure, value in result.measures().items()
    }
  return write_pairs(folder, COMPARISON, "comparison by a rater", found)


def rater_judge(seed: int) -> PairJudge:
  """Makes a judge of the first rater.

  Its noise is drawn anew for each pair and order.
  """
  rng = random.Random(f"rater/{seed}")

  def judge(pairs: Sequence[tuple[WorldRequest, str, str]]) -> list[float]:
    rows = [raters.compare(request, (first, second), rng) for request, first, second in pairs]
    return [0.5 if row is None else float(row["chosen"] == first) for row, (_, first, _) in zip(rows, pairs)]

  return judge


def _compared(ours: _Answers, theirs: _Answers, seed: int) -> dict[str, PairwiseResult]:
  """Compares two models on the requests of each part, and on all.

  The rater sees each pair once. So what is found of all requests agrees with what is found of their parts.
  """
  requests = [WorldRequest.from_row(answers[0]) for answers in ours.values()]
  texts = [[[line["completion"] for line in each[asked]] for asked in ours] for each in (ours, theirs)]
  judged = judge_pairs(requests, *texts, rater_judge(seed))
  parts = [part for part, _ in ours]
  found = {part: judged.of(np.array([each == part for each in parts])) for part in dict.fromkeys(parts)}
  return {part: each.result(seed=seed) for part, each in (found | {_ALL: judged}).items()}
