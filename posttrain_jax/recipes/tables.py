"""Writes the tables of a recipe: estimated and actual work and cost of each stage."""

import math
from collections.abc import Mapping, Sequence

from posttrain_jax.recipes.effort import Effort
from posttrain_jax.recipes.prices import CostSettings
from posttrain_jax.recipes.recipe import Stage
from posttrain_jax.runs.start_line import short_count

Table = tuple[list[str], list[list[str]]]  # header and body


def estimated(stages: Sequence[Stage], efforts: Mapping[str, Effort], costs: CostSettings) -> Table:
  """Returns the table of estimated work: a row for each stage, and their sum.

  Args:
    stages: of the recipe.
    efforts: stage to its estimated work.
    costs: the price list.

  Raises:
    InputError: if a stage has labels without a price.
  """
  header = ["stage", "kind", "examples", "generated", "trained", "FLOPs", "people h", "people $"]
  for name in costs.chips:
    header += [f"{name} h", f"{name} $"]
  hours = {stage.name: costs.label_hours(stage, efforts[stage.name]) for stage in stages}
  body = [[stage.name, stage.run.name, *_priced(efforts[stage.name], hours[stage.name], costs)] for stage in stages]
  return header, [*body, ["all", "", *_priced(total(efforts.values()), sum(hours.values()), costs)]]


def actual(
  stages: Sequence[Stage],
  estimates: Mapping[str, Effort],
  found: Mapping[str, Effort],
  seconds: Mapping[str, float],
  costs: CostSettings,
) -> Table:
  """Returns the table of estimates with the actual figures beside them.

  Args:
    stages: of the recipe; those without an entry in `found` have not ended.
    estimates: stage to its estimated work.
    found: stage to its work as it was counted.
    seconds: stage to the seconds that it took on this machine.
    costs: the price list.
  """
  columns = ("examples", "generated", "trained", "FLOPs")
  header = [
    "stage",
    *(f"{name}, {kind}" for name in columns for kind in ("estimated", "actual")),
    "seconds here",
    "$ here",
  ]
  body = []
  for stage in stages:
    if stage.name in found:
      pairs = zip(_work(estimates[stage.name]), _work(found[stage.name]))
      body.append([stage.name, *(text for pair in pairs for text in pair), *_spent(seconds[stage.name], costs)])
  ended = [stage.name for stage in stages if stage.name in found]
  pairs = zip(_work(total(estimates[name] for name in ended)), _work(total(found[name] for name in ended)))
  spent = _spent(sum(seconds[name] for name in ended), costs)
  return header, [*body, ["all", *(text for pair in pairs for text in pair), *spent]]


def total(efforts) -> Effort:
  """Returns the sum of some work."""
  found = Effort()
  for each in efforts:
    found = Effort(
      examples=found.examples + each.examples,
      generated=found.generated + each.generated,
      trained=found.trained + each.trained,
      sampling_flops=found.sampling_flops + each.sampling_flops,
      training_flops=found.training_flops + each.training_flops,
    )
  return found


def as_text(table: Table) -> str:
  """Returns a table as lines with aligned columns; the first is aligned to the left."""
  header, body = table
  rows = [header, *body]
  widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
  lines = [
    "  ".join(
      text.rjust(width) if column else text.ljust(width) for column, (text, width) in enumerate(zip(row, widths))
    )
    for row in rows
  ]
  return "\n".join(line.rstrip() for line in lines)


def number(value: float) -> str:
  """Formats a quantity with three significant digits; 0 is a dash."""
  if not value:
    return "–"
  if not math.isfinite(value):
    return str(value)
  if abs(value) >= 1000:
    return f"{value:,.0f}"
  digits = max(0, 2 - math.floor(math.log10(abs(value))))
  return f"{value:.{digits}f}" if digits <= 4 else f"{value:.1e}"


def _work(effort: Effort) -> list[str]:
  counts = (effort.examples, effort.generated, effort.trained)
  return [*(short_count(count) if count else "–" for count in counts), f"{effort.flops:.1e}" if effort.flops else "–"]


def _priced(effort: Effort, label_hours: float, costs: CostSettings) -> list[str]:
  row = [*_work(effort), number(label_hours), number(label_hours * costs.dollars_per_hour)]
  for chip in costs.chips.values():
    hours = chip.hours(effort)
    row += [number(hours), number(hours * chip.dollars_per_hour)]
  return row


def _spent(seconds: float, costs: CostSettings) -> list[str]:
  return [f"{seconds:.1f}", number(seconds / 3600 * costs.here)]
