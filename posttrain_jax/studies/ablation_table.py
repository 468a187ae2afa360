"""Computes an ablation's table: rows with intervals, contrasts with tests and checks."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from posttrain_jax.studies import ablation_checks, ablation_statistics
from posttrain_jax.studies.ablation_checks import Check, Technique
from posttrain_jax.studies.ablation_runs import SECONDS, TOKENS, UPDATES, Run
from posttrain_jax.studies.ablation_statistics import Interval

Runs = Mapping[str, Mapping[int, Run]]  # row → seed → run


@dataclasses.dataclass(frozen=True)
class Measure:
  """Describes one measure by which rows are compared.

  Attributes:
    set: the evaluation set.
    score: the score, such as "avg@8" or "greedy".
    cost: the cost that is equal in all rows: tokens, updates or seconds.
    points: float [K], the costs at which scores are averaged.
  """

  set: str
  score: str
  cost: str
  points: np.ndarray

  @property
  def name(self) -> str:
    """Returns the measure's name in tables."""
    return f"{self.set} {self.score} at equal {self.cost}"

  def of(self, run: Run) -> np.ndarray | None:
    """Returns the scores of a run's problems, [N]; None if it lacks them."""
    return run.measured(self.set, self.score, {self.cost: self.points})


@dataclasses.dataclass(frozen=True)
class Cell:
  """Holds a row's result by one measure.

  Attributes:
    interval: mean and interval over seeds and problems.
    seeds: the seeds that were measured.
  """

  interval: Interval
  seeds: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Contrast:
  """Holds a comparison of two rows by the primary measure, paired by seed and problem.

  Attributes:
    row: the row with the technique.
    against: the row without it.
    technique: in which the two rows differ.
    difference: of the means, with its interval.
    seeds: those of both rows.
    p: p-value of the exact sign-flip test over seeds.
    adjusted: the same after Holm's correction over the family.
    smallest: the smallest p-value possible with this number of seeds.
    checks: of the mechanism.
  """

  row: str
  against: str
  technique: str
  difference: Interval
  seeds: tuple[int, ...]
  p: float
  adjusted: float
  smallest: float
  checks: tuple[Check, ...]

  @property
  def void(self) -> bool:
    """Tells whether a mechanism check fails, so the difference says nothing about the technique."""
    return not all(check.passed for check in self.checks)


def last_points(budget: float, *, points: int, last: int) -> np.ndarray:
  """Returns the last few of equally spaced points up to a budget.

    budget · (points − last + 1 … points) / points

  Args:
    budget: the last point.
    points: number of points between 0, excluded, and the budget.
    last: number of points to return.
  """
  return budget * np.arange(points - last + 1, points + 1) / points


def measures(
  runs: Sequence[Run], *, name: str, others: Sequence[str], tokens: float, points: int, last: int
) -> list[Measure]:
  """Returns the primary measure, then the secondary ones that the runs have.

  Args:
    runs: all runs of one task.
    name: the evaluation set of the primary measure.
    others: further evaluation sets.
    tokens: the budget of tokens. The budgets of updates and of seconds are the least that any sampling run reached at
      its last evaluation.
    points: as in `last_points`.
    last: as in `last_points`.

  Returns:
    The measures; empty if no run samples or none has scores of `name`.
  """
  sampling = [run for run in runs if run.samples_tokens]
  scored = {each: list(run.scores[each]) for run in runs for each in (name, *others) if each in run.scores}
  if name not in scored or not sampling:
    return []
  (average,) = (score for score in scored[name] if score.startswith("avg@"))
  found = [Measure(name, average, TOKENS, last_points(tokens, points=points, last=last))]
  for cost in (UPDATES, SECONDS):
    # Runs can be compared only up to their last evaluation.
    budget = min(run.costs[cost][run.evaluated[-1]] for run in sampling)
    found.append(Measure(name, average, cost, last_points(budget, points=points, last=last)))
  rest = [(each, score) for each in scored for score in scored[each] if (each, score) != (name, average)]
  return found + [Measure(each, score, TOKENS, found[0].points) for each, score in rest]


def cell(runs: Mapping[int, Run], measure: Measure, *, resamples: int) -> Cell | None:
  """Computes a row's result by a measure; None if no run has it."""
  found = {seed: measure.of(run) for seed, run in sorted(runs.items())}
  found = {seed: scores for seed, scores in found.items() if scores is not None}
  if not found:
    return None
  return Cell(ablation_statistics.interval(np.stack(list(found.values())), resamples=resamples), tuple(found))


def contrasts(
  runs: Runs, family: Sequence[tuple[str, str, str]], measure: Measure, *, tokens: float, resamples: int
) -> list[Contrast]:
  """Computes the contrasts of a family, leaving out rows that share no measured seed.

  Args:
    runs: all runs.
    family: (row with a technique, row without it, the technique) of each contrast.
    measure: the primary one.
    tokens: the budget up to which mechanisms are checked.
    resamples: of the bootstrap.
  """
  found = []
  for row, against, technique in family:
    pairs = {}
    for seed in sorted(set(runs.get(row, {})) & set(runs.get(against, {}))):
      scores = [measure.of(runs[name][seed]) for name in (row, against)]
      if all(each is not None for each in scores):
        pairs[seed] = scores[0] - scores[1]
    if not pairs:
      continue
    differences = np.stack(list(pairs.values()))
    test = ablation_statistics.sign_flip(np.nanmean(differences, axis=1))
    having, lacking = ([runs[name][seed].until(tokens) for seed in pairs] for name in (row, against))
    found.append(
      Contrast(
        row=row,
        against=against,
        technique=technique,
        difference=ablation_statistics.interval(differences, resamples=resamples),
        seeds=tuple(pairs),
        p=test.p,
        adjusted=np.nan,
        smallest=test.smallest,
        checks=tuple(ablation_checks.mechanism(Technique(technique), having, lacking)),
      )
    )
  adjusted = ablation_statistics.holm([each.p for each in found])
  return [dataclasses.replace(each, adjusted=float(p)) for each, p in zip(found, adjusted)]


def to_json(value: Any) -> Any:
  """Turns records into JSON objects, and numbers that are not finite into null."""
  if dataclasses.is_dataclass(value):
    extra = {"void": value.void} if isinstance(value, Contrast) else {}
    return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)} | extra
  if isinstance(value, Mapping):
    return {str(key): to_json(each) for key, each in value.items()}
  if isinstance(value, np.ndarray | np.generic):
    return to_json(value.tolist())
  if isinstance(value, list | tuple):
    return [to_json(each) for each in value]
  return None if isinstance(value, float) and not np.isfinite(value) else value
