"""Says at the top of a report that steps trained nothing."""

import numpy as np

from posttrain_jax.reports.panel import Columns
from posttrain_jax.rollouts.silent_steps import TRAINED_NOTHING, reason

_SUMS = ("sampling/dropped_all_wrong", "sampling/dropped_all_right", "sampling/dropped_invalid")
_MEANS = ("truncated/share", "reward/timed_out")


def warnings(columns: Columns) -> list[str]:
  """Returns a sentence about the steps that trained nothing; none if there are none."""
  found = columns.get(TRAINED_NOTHING)
  if found is None or not np.nansum(found):
    return []
  silent, steps = found > 0, int(np.isfinite(found).sum())
  metrics = {name: float(np.nansum(columns[name][silent])) for name in _SUMS if name in columns}
  for name in _MEANS:
    values = columns[name][silent] if name in columns else np.zeros(0)
    if np.isfinite(values).any():
      metrics[name] = float(np.nanmean(values))
  count = int(silent.sum())
  if count == steps:
    return [f"No step trained anything ({steps} of {steps}): {reason(metrics)}. The policy did not change."]
  first = int(columns["step"][silent][0])
  return [f"{count} of {steps} steps trained nothing, the first of them step {first}: {reason(metrics)}."]
