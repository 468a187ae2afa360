"""Finds words for metrics: titles and units of a picture's panels."""

import re

from posttrain_jax.reports import training_panels
from posttrain_jax.reports.panel import Columns

_AXES = {"updates": "optimiser updates", "step": "step"}


def title_and_unit(metric: str, columns: Columns) -> tuple[str, str]:
  """Returns a title and the unit of the values.

  They are those of the report's panel that has the metric. Of a panel with several curves, the curve's label is part of
  the title. A metric without a panel is its own title, with its parts apart, and has no unit.

  Args:
    metric: a key of metrics.jsonl.
    columns: of a run that has it.
  """
  for _, panels in training_panels.sections(columns):
    for panel in panels:
      for curve in panel.curves:
        if curve.key == metric:
          label = re.sub(r", 95 % interval$", "", curve.label)
          title = f"{panel.title}: {label}" if len(panel.curves) > 1 else panel.title
          return title, panel.unit
  return metric.removeprefix("eval/").replace("/", ": ").replace("_", " "), ""


def axis_label(metric: str, columns: Columns) -> str:
  """Returns the label of an x axis that shows a metric."""
  if metric in _AXES:
    return _AXES[metric]
  title, unit = title_and_unit(metric, columns)
  return f"{title}, {unit}" if unit else title
