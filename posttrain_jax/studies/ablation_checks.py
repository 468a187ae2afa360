"""Checks that the mechanism on which a technique acts was present in the runs.

Without its mechanism (no truncated answers for overlong filtering, say) a technique can show no effect, so the contrast
says nothing about it. Each check looks at the metrics of the rows with and without a technique, up to the budget of
tokens, averaged over seeds. A contrast whose check fails is void, which is not the same as no effect.
"""

import dataclasses
import enum
from collections.abc import Callable, Mapping, Sequence

import numpy as np

Columns = Mapping[str, np.ndarray]


class Technique(enum.StrEnum):
  """Names the technique in which two rows differ."""

  OVERLONG_FILTER = "overlong_filter"
  CLIP_HIGHER = "clip_higher"
  SOFT_OVERLONG = "soft_overlong"
  TOKEN_MEAN = "token_mean"
  PROMPT_MEAN = "prompt_mean"
  DYNAMIC_SAMPLING = "dynamic_sampling"
  KL = "kl"
  ALL = "all"  # several at once, without a single mechanism to check
  NONE = "none"  # the negative control: no technique has anything to act on


@dataclasses.dataclass(frozen=True)
class Check:
  """Describes one condition and the value that was found.

  Attributes:
    what: the quantity, and the row if it is not obvious.
    found: its value, averaged over seeds; NaN if it was not measured.
    expected: the condition in words.
    passed: whether the condition holds.
  """

  what: str
  found: float
  expected: str
  passed: bool


def mechanism(technique: Technique, having: Sequence[Columns], lacking: Sequence[Columns]) -> list[Check]:
  """Checks the mechanism of one contrast, which is void if a check fails.

  Args:
    technique: in which the rows differ.
    having: columns of each seed's run of the row with the technique.
    lacking: the same of the row without it.
  """
  match technique:
    case Technique.OVERLONG_FILTER:
      return [_least("truncated share of trained answers", _mean("truncated/trained_share"), having, 0.05)]
    case Technique.CLIP_HIGHER:
      return [_least("tokens over the upper bound, row without", _mean("clip/high"), lacking, 0.005)]
    case Technique.SOFT_OVERLONG:
      return [_least("mean penalty", lambda columns: -_mean("reward/overlong")(columns), having, 0.01)]
    case Technique.TOKEN_MEAN | Technique.PROMPT_MEAN:
      return [_least("coefficient of variation of lengths", _mean("length/cv"), having, 0.5)]
    case Technique.DYNAMIC_SAMPLING:
      return [_most("informative share, least third", _least_third("sampling/informative_share"), having, 0.6)]
    case Technique.KL:
      return [_least("divergence from the reference, nats", _mean("kl/reference"), having, 0.001)]
    case Technique.ALL:
      return []
    case Technique.NONE:
      both = [*having, *lacking]
      return [
        _most("coefficient of variation of lengths", _mean("length/cv"), both, 0.05),
        _most("truncated share", _mean("truncated/share"), both, 0.01),
        _least("informative share, least third", _least_third("sampling/informative_share"), both, 0.9),
      ]


def task(naive: Sequence[Columns], *, updates_per_step: int) -> list[Check]:
  """Checks on the naive row's runs that the techniques can matter on a task.

  Args:
    naive: columns of each seed's run.
    updates_per_step: optimiser updates on a rollout.
  """
  thirds = [f"{name} third" for name in ("first", "second", "last")]
  checks = [
    _within(f"truncated share, {name}", _third("truncated/share", i), naive, 0.1, 0.3) for i, name in enumerate(thirds)
  ]
  updates = float(updates_per_step)
  return [
    *checks,
    Check("updates a rollout", updates, "at least 4", updates >= 4),
    _least("tokens over the upper bound", _mean("clip/high"), naive, 0.005),
    _most("entropy at the end over entropy at the start", _entropy_left, naive, 0.5),
    _least("coefficient of variation of lengths", _mean("length/cv"), naive, 0.5),
    _most("informative share, least third", _least_third("sampling/informative_share"), naive, 0.6),
  ]


def _values(columns: Columns, key: str) -> np.ndarray:
  values = columns.get(key, np.empty(0))
  return values[np.isfinite(values)]


def _average(values: np.ndarray) -> float:
  return float(values.mean()) if values.size else np.nan


def _mean(key: str) -> Callable[[Columns], float]:
  return lambda columns: _average(_values(columns, key))


def _third(key: str, number: int) -> Callable[[Columns], float]:
  return lambda columns: _average(np.array_split(_values(columns, key), 3)[number])


def _least_third(key: str) -> Callable[[Columns], float]:
  return lambda columns: min(_third(key, number)(columns) for number in range(3))


def _entropy_left(columns: Columns) -> float:
  """Divides the mean entropy of the last tenth by that of the first three steps."""
  entropy = _values(columns, "entropy")
  return _average(entropy[-max(1, len(entropy) // 10) :]) / _average(entropy[:3]) if entropy.size else np.nan


def _over_seeds(statistic: Callable[[Columns], float], runs: Sequence[Columns]) -> float:
  return _average(np.array([statistic(columns) for columns in runs]))


def _least(what: str, statistic: Callable[[Columns], float], runs: Sequence[Columns], bound: float) -> Check:
  found = _over_seeds(statistic, runs)
  return Check(what, found, f"at least {bound:g}", found >= bound)


def _most(what: str, statistic: Callable[[Columns], float], runs: Sequence[Columns], bound: float) -> Check:
  found = _over_seeds(statistic, runs)
  return Check(what, found, f"at most {bound:g}", found <= bound)


def _within(
  what: str, statistic: Callable[[Columns], float], runs: Sequence[Columns], low: float, high: float
) -> Check:
  found = _over_seeds(statistic, runs)
  return Check(what, found, f"{low:g} to {high:g}", low <= found <= high)
