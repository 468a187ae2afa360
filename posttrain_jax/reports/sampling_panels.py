"""Lists the report's panels of dynamic sampling: kept and dropped groups, cost, and leftovers."""

import dataclasses

import numpy as np

from posttrain_jax.reports.panel import Columns, Kind, Panel, panel

_PANELS = (
  panel(
    "What dynamic sampling kept and dropped",
    "groups per step",
    {
      "sampling/groups_trained": "trained on",
      "sampling/carried": "carried over",
      "sampling/surplus": "surplus: thrown away",
      "sampling/dropped_all_right": "dropped: all right",
      "sampling/dropped_all_wrong": "dropped: all wrong",
      "sampling/dropped_invalid": "dropped: invalid",
    },
    colors=(0, 5, 4, 2, 1, 6),
    kind=Kind.STACKED,
    note="Groups whose answers are all right or all wrong have no advantage to learn from.",
  ),
  panel(
    "Informative groups",
    "share of judged groups",
    {"sampling/informative_share": "informative"},
    note="Groups with both right and wrong answers.",
    share=True,
  ),
  panel(
    "Cost of dynamic sampling",
    "tokens generated per token trained",
    {"sampling/generated_per_trained": "ratio"},
    note="1 would mean that every generated token is trained on.",
  ),
  panel(
    "Staleness",
    "optimiser updates",
    {"sampling/staleness_mean": "mean", "sampling/staleness_max": "largest"},
    note="Number of updates between the parameters that drew a token and those that train on it.",
  ),
  panel(
    "Groups left for the next step",
    "groups at a step's end",
    {"sampling/in_flight_groups": "unfinished", "sampling/waiting_groups": "finished, behind an unfinished one"},
    note="A step takes groups in the order of their prompts, so a group with a long answer delays those behind it.",
  ),
  panel(
    "Tokens left for the next step",
    "tokens at a step's end",
    {"sampling/in_flight_tokens": "of unfinished groups", "sampling/waiting_tokens": "of groups that wait"},
    note="Generated, but not yet trained on or dropped.",
  ),
  panel("Idle slots", "share of slot steps", {"sampling/idle_share": "idle"}, share=True),
  panel(
    "Tokens",
    "tokens per step",
    {"sampling/tokens_generated": "generated", "sampling/tokens_trained": "trained on"},
  ),
  panel(
    "Prompts",
    "prompts since the start",
    {"sampling/prompts_seen": "drawn at least once", "sampling/prompts_retired": "retired: always solved"},
    smooth=False,
  ),
  panel(
    "Pass rate of the prompts",
    "share correct",
    {"sampling/pass_rate": "all epochs"},
    note="Share of a prompt's answers that were right since the start, averaged over all prompts seen.",
    share=True,
    smooth=False,
  ),
  panel("Answers without a verdict", "answers per step", {"reward/invalid": "invalid"}, note="They are left out."),
)

# Most runs write these counts, but they stay 0 unless the config switches on what they count.
_OPTIONAL = ("sampling/surplus", "sampling/prompts_retired")


def panels(columns: Columns) -> list[Panel]:
  """Returns the panels, without the optional curves that stay 0."""
  never = {key for key in _OPTIONAL if not np.nan_to_num(columns.get(key, 0)).any()}
  return [
    dataclasses.replace(each, curves=tuple(curve for curve in each.curves if curve.key not in never))
    for each in _PANELS
  ]
