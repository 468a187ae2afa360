"""Reads the runs of an ablation: costs and scores of every problem at each evaluation."""

import dataclasses
import functools
import pathlib
import re
from collections.abc import Mapping

import numpy as np

from posttrain_jax.reports import run_metrics
from posttrain_jax.studies.ablation_statistics import at_costs
from posttrain_jax.types import InputError

TOKENS, UPDATES, SECONDS = "tokens", "updates", "seconds"
_PHASES = ("rollout", "reward", "train", "handover")
_SLOW = 5  # a step that takes more medians than this compiled a program, or waited for other programs


@dataclasses.dataclass(frozen=True)
class Run:
  """Holds one run: a row of the table at one seed.

  Attributes:
    row: the row's name.
    seed: the run's seed.
    columns: key of metrics.jsonl → float64 [steps], NaN where a step has no such number.
    scores: evaluation set → measure ("avg@8", "greedy", ...) → float64 [E, N], one score a problem.
    evaluated: int [E], positions in `columns` of the steps that were evaluated.
  """

  row: str
  seed: int
  columns: Mapping[str, np.ndarray]
  scores: Mapping[str, Mapping[str, np.ndarray]]
  evaluated: np.ndarray

  @functools.cached_property
  def costs(self) -> dict[str, np.ndarray]:
    """Returns the cost up to the end of each step: cost → float64 [steps].

    The costs are updates, seconds and, unless the run is supervised, generated tokens. Seconds are those of rollout,
    rewards, updates and hand-over. A step that took over five times the median counts as the median.
    """
    found = {UPDATES: self.columns[UPDATES]}
    if "sampling/tokens_generated" in self.columns:
      found[TOKENS] = np.nancumsum(self.columns["sampling/tokens_generated"])
    spent = sum(np.nan_to_num(self.columns.get(f"time/{phase}", np.zeros(self.steps))) for phase in _PHASES)
    median = np.median(spent[spent > 0]) if (spent > 0).any() else 0.0
    found[SECONDS] = np.cumsum(np.where(spent > _SLOW * median, median, spent))
    return found

  @property
  def steps(self) -> int:
    """Returns the number of records in metrics.jsonl."""
    return len(self.columns["step"])

  @property
  def samples_tokens(self) -> bool:
    """Tells whether the run draws answers in training, which a supervised run does not."""
    return TOKENS in self.costs

  def measured(self, name: str, measure: str, points: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """Averages each problem's scores over points of equal cost.

    Args:
      name: the evaluation set.
      measure: the score, such as "avg@8".
      points: one of the costs → [K]. A supervised run is measured at its last K evaluations instead.

    Returns:
      float64 [N]; None if the run ends before the last point or has no such score.
    """
    scores = self.scores.get(name, {}).get(measure)
    ((cost, wanted),) = points.items()
    if scores is None:
      return None
    if not self.samples_tokens:
      return scores[-len(wanted) :].mean(axis=0)
    spent = self.costs[cost][self.evaluated]
    if spent[-1] < wanted[-1]:
      return None
    return at_costs(spent, scores, wanted).mean(axis=0)

  def until(self, tokens: float) -> Mapping[str, np.ndarray]:
    """Cuts the columns after the first step by which `tokens` tokens were generated.

    A supervised run keeps all steps.
    """
    if not self.samples_tokens:
      return self.columns
    last = int(np.searchsorted(self.costs[TOKENS], tokens)) + 1
    return {key: values[:last] for key, values in self.columns.items()}


def read_run(path: str | pathlib.Path, row: str, seed: int) -> Run:
  """Reads a run's metrics.jsonl.

  Args:
    path: the run's workdir.
    row: the row's name.
    seed: the run's seed.

  Raises:
    InputError: if no evaluation has scores of every problem.
  """
  notices: list[str] = []
  records = run_metrics.read_records(pathlib.Path(path) / "metrics.jsonl", notices)
  evaluated = [i for i, record in enumerate(records) if any("/per_problem/" in key for key in record)]
  if not evaluated:
    raise InputError(
      f"{path}: found no evaluation with scores of every problem, expected eval.sets.NAME.per_problem=True"
      + "".join(f"; {notice}" for notice in notices)
    )
  scores: dict[str, dict[str, np.ndarray]] = {}
  for key in records[evaluated[-1]]:
    match = re.fullmatch(r"eval/([^/]+)/per_problem/(.+)", key)
    if match:
      # None becomes NaN: a problem without a verdict.
      scores.setdefault(match[1], {})[match[2]] = np.array([records[i][key] for i in evaluated], np.float64)
  return Run(row, seed, run_metrics.columns(records), scores, np.array(evaluated))
