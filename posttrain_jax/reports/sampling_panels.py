"""The report's panels of dynamic sampling: what became of the groups, what it cost, what goes on to the next step."""

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
    note="How many updates the parameters are ahead of those that drew the tokens.",
  ),
  panel(
    "Groups that go on",
    "groups at a step's end",
    {"sampling/in_flight_groups": "unfinished", "sampling/waiting_groups": "finished, behind an unfinished one"},
    note="A step takes groups in the order of their prompts, so a long answer holds up those behind it.",
  ),
  panel(
    "Tokens that go on",
    "tokens at a step's end",
    {"sampling/in_flight_tokens": "of unfinished groups", "sampling/waiting_tokens": "of groups that wait"},
    note="Drawn, and not yet trained on or dropped.",
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
    note="Mean over the prompts seen of the share of their answers that were right, since the start.",
    share=True,
    smooth=False,
  ),
  panel("Answers without a verdict", "answers per step", {"reward/invalid": "invalid"}, note="They are left out."),
)

# Counts that most runs write and that stay 0 unless the config asks for what they count.
_ASKED_FOR = ("sampling/surplus", "sampling/prompts_retired")


def panels(columns: Columns) -> list[Panel]:
  """The panels, without the curves of what the run was not asked to do."""
  never = {key for key in _ASKED_FOR if not np.nan_to_num(columns.get(key, 0)).any()}
  return [
    dataclasses.replace(each, curves=tuple(curve for curve in each.curves if curve.key not in never))
    for each in _PANELS
  ]
