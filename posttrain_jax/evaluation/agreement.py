"""Measures how well two judges of the same answers agree, such as rule and model.

The share of answers on which they agree is high by chance where most answers are alike. Cohen's kappa (1960) takes the
agreement by chance out: 1 is full agreement, 0 is what chance gives. It is undefined (NaN) where both judges say the
same of every answer.
"""

from collections.abc import Hashable, Sequence

import numpy as np

from posttrain_jax.evaluation.metrics import Estimate
from posttrain_jax.types import InputError

_RESAMPLES = 1000
MEASURES = ("rule", "model", "rule_only", "model_only", "agreement", "kappa")


def agreement(
  rule: Sequence[bool] | np.ndarray,
  model: Sequence[bool] | np.ndarray,
  units: Sequence[Hashable],
  *,
  seed: int = 0,
) -> dict[str, Estimate]:
  """Computes what each judge says, and how well they agree.

  Args:
    rule: bool [N], what the rule says of each answer.
    model: bool [N], what the model says.
    units: N names of what answers have in common, such as the request; the intervals are over these.
    seed: of the resampling.

  Returns:
    "rule" and "model", the shares of answers of which each says yes; "rule_only" and "model_only", those of which the
    other one does not; "agreement", the share on which they agree; "kappa". Intervals are 95 % percentile bootstrap
    intervals; resamples without a kappa do not count in its interval.

  Raises:
    InputError: if there are no answers, or if the lengths differ.
  """
  rule, model = np.asarray(rule, bool), np.asarray(model, bool)
  if not len(rule) or len({len(rule), len(model), len(units)}) > 1:
    raise InputError(
      f"agreement: found {len(rule)}, {len(model)} and {len(units)} entries, expected one number above 0"
    )
  number: dict[Hashable, int] = {}
  unit = np.array([number.setdefault(name, len(number)) for name in units])
  cells = np.zeros((len(number), 4))
  np.add.at(cells, (unit, 2 * rule + model), 1.0)
  rng = np.random.default_rng(seed)
  drawn = rng.multinomial(len(cells), np.full(len(cells), 1 / len(cells)), size=_RESAMPLES)
  values, resampled = _measures(cells.sum(axis=0)), _measures(drawn @ cells)
  return {name: _estimate(float(values[i]), resampled[:, i], len(cells)) for i, name in enumerate(MEASURES)}


def _measures(cells: np.ndarray) -> np.ndarray:
  """Computes `MEASURES` of counts [..., 4] of no/no, no/yes, yes/no and yes/yes, as rule/model."""
  neither, model_only, rule_only, both = np.moveaxis(cells / cells.sum(axis=-1, keepdims=True), -1, 0)
  rule, model, agree = rule_only + both, model_only + both, neither + both
  chance = rule * model + (1 - rule) * (1 - model)
  left = 1 - chance
  # Chance alone agrees on everything if both say the same of every answer; rounding leaves some 1e-16.
  kappa = np.where(left > 1e-12, (agree - chance) / np.maximum(left, 1e-12), np.nan)
  return np.stack([rule, model, rule_only, model_only, agree, kappa], axis=-1)


def _estimate(value: float, resampled: np.ndarray, units: int) -> Estimate:
  there = resampled[~np.isnan(resampled)]
  if np.isnan(value) or not len(there):
    return Estimate(value, np.nan, np.nan, np.nan, problems=units)
  low, high = np.percentile(there, (2.5, 97.5))
  error = float(there.std(ddof=1)) if len(there) > 1 else np.nan
  return Estimate(value, error, float(low), float(high), problems=units)
