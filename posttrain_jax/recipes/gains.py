"""Says what a stage or a round gains and loses in the assistant world.

The models before and after it have answered the same requests (`recipes.alignment`). So the difference is taken request
by request, and its interval is narrower than those of the two models: whether a stage has an effect is seen here.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from posttrain_jax.data.assistant_world.requests import WorldRequest
from posttrain_jax.data.assistant_world.rules import RuleVerdict
from posttrain_jax.evaluation import alignment_metrics
from posttrain_jax.evaluation.alignment_metrics import SHARES
from posttrain_jax.evaluation.metrics import estimate
from posttrain_jax.recipes import alignment
from posttrain_jax.recipes.checks import check_of
from posttrain_jax.recipes.measures import Measured
from posttrain_jax.recipes.model_pairs import ByRequest, read_pairs, write_pairs
from posttrain_jax.runs.settings import parse

GAINS = "gains.json"
_RATED = "rated"
_Scores = ByRequest[dict[str, float]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ComparedModels:
  """Describes where the answers of two models are.

  Attributes:
    before: answers.jsonl of the measurement of the first model.
    after: that of the second one, from the same requests.
  """

  before: str
  after: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class GainSettings:
  """Holds the config of gains.

  Attributes:
    seed: of the intervals.
    pairs: which models are compared, by a name for what lies between them.
  """

  seed: int
  pairs: Mapping[str, ComparedModels]


def pairs(*names: str) -> ConfigDict:
  """Returns the config of gains, whose inputs are `pairs.NAME.before` and `pairs.NAME.after`."""
  return ConfigDict(dict(seed=0, pairs={name: dict(before="", after="") for name in names}))


check = check_of(GainSettings, {"pairs": "some models to compare"})


def compare(config: ConfigDict, folder: pathlib.Path) -> dict[str, float]:
  """Writes the difference of each pair of models by each measure.

  Intervals are 95 % bootstrap intervals over requests.

  Args:
    config: a record `GainSettings`.
    folder: DIR; gets gains.json, and report.html with a table and a picture.

  Returns:
    PAIR/PART/MEASURE to the second model's mean less the first one's; with /low and /high at its end, the interval.

  Raises:
    InputError: if answers are missing, or if two models have answered other requests.
  """
  settings = parse(GainSettings, config)
  paths = {name: (each.before, each.after) for name, each in settings.pairs.items()}
  found = {name: _difference(*pair, settings.seed) for name, pair in read_pairs(paths, _scores).items()}
  return write_pairs(folder, GAINS, "gains and losses", found)


def gained(before: str, after: str, *, seed: int) -> dict[str, Measured]:
  """Returns PART/MEASURE to what a model gains over another one, taken request by request.

  Args:
    before: answers.jsonl of the measurement of the first model.
    after: that of the second one.
    seed: of the intervals.

  Raises:
    InputError: as `compare`.
  """
  return _difference(*read_pairs({"gain": (before, after)}, _scores)["gain"], seed)


def _difference(before: _Scores, after: _Scores, seed: int) -> dict[str, Measured]:
  """Returns PART/MEASURE to the gain, where some request has the measure."""
  by_measure: dict[str, list[float]] = {}
  for asked, scores in after.items():
    for measure, score in scores.items():
      by_measure.setdefault(f"{asked[0]}/{measure}", []).append(score - before[asked][measure])
  found = {}
  for measure, differences in by_measure.items():
    gain = estimate(np.array(differences), seed=seed)
    found[measure] = Measured(gain.mean, gain.low, gain.high)
  return found


def _scores(path: str) -> _Scores:
  """Reads the answers of a measurement.

  Returns:
    (part, prompt) to the mean of each measure over the answers to this request.
  """
  return {asked: _means(answers) for asked, answers in alignment.read_answers(path).items()}


def _means(answers: Sequence[Mapping[str, Any]]) -> dict[str, float]:
  request = WorldRequest.from_row(answers[0])
  verdicts = [RuleVerdict(**each["verdict"]) for each in answers]
  found = {
    name: float(np.mean([rule(verdict) for verdict in verdicts]))
    for name, (chosen, rule) in SHARES.items()
    if chosen(request)
  }
  return found | {_RATED: alignment_metrics.rated(request, [each["completion"] for each in answers])}
