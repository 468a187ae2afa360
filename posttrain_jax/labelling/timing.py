"""Sums up how long raters take for an item.

The time runs from when the server showed an item until its label came. Nobody is watched in between, so a time beyond a
bound is taken for a pause and cut to the bound.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def time_per_item(seconds: Mapping[str, Mapping[str, Sequence[float | None]]], *, bound: float) -> dict[str, Any]:
  """Returns median and quartiles of the time per item, of all raters and of each.

  An item that was labelled several times counts with the sum of its times.

  Args:
    seconds: for each rater the times of each item; None: not known, as when the server stopped in between.
    bound: seconds to which a longer time is cut.

  Returns:
    "bound", and for "all" and "raters": "items", "quartiles" (three numbers: 25 %, median, 75 %; None without items),
    "hours" (the sum), "cut" (number of times cut), "unknown" (number of items without a known time).
  """
  raters = {rater: _summary(items.values(), bound) for rater, items in seconds.items()}
  everything = [times for items in seconds.values() for times in items.values()]
  return {"bound": bound, "all": _summary(everything, bound), "raters": raters}


def _summary(items: Any, bound: float) -> dict[str, Any]:
  known = [[time for time in times if time is not None] for times in items]
  totals = [sum(min(time, bound) for time in times) for times in known if times]
  return {
    "items": len(totals),
    "quartiles": [round(float(q), 2) for q in np.percentile(totals, (25, 50, 75))] if totals else None,
    "hours": round(sum(totals) / 3600, 4),
    "cut": sum(time > bound for times in known for time in times),
    "unknown": sum(not times for times in known),
  }
