"""Builds the report's panels of methods that learn from comparisons: reward models and DPO variants."""

import re

from posttrain_jax.data.preferences import Strength
from posttrain_jax.reports.panel import Columns, Panel, PanelCurve, panel, with_interval

_PAIRS = "eval/preferences/"
_HELD_OUT = "eval/heldout/"


def strengths(columns: Columns) -> dict[str, str]:
  """Maps each held-out accuracy column of one preference strength to the strength's name, strongest first."""
  matches = [re.fullmatch(rf"{_HELD_OUT}strength/([^/]+)/accuracy", key) for key in columns]
  found = {match[0]: match[1] for match in matches if match}
  order = [str(strength) for strength in Strength]
  return dict(sorted(found.items(), key=lambda item: order.index(item[1]) if item[1] in order else len(order)))


def implicit_rewards(columns: Columns) -> set[str]:
  """Returns the columns under `reward/` that are implicit rewards of pairs, β log(π / π_ref).

  The other columns under `reward/` are components of a sampled answer's reward.
  """
  return {f"reward/{name}" for name in ("chosen", "rejected", "margin", "accuracy")} if _is_direct(columns) else set()


def reward_model(columns: Columns) -> list[Panel]:
  """Returns a reward model's panels: agreement with human preferences, and calibration."""
  if f"{_HELD_OUT}margin_mean" not in columns and "margin" not in columns:
    return []
  held_out = with_interval(columns, f"{_HELD_OUT}accuracy", "held-out", 0)
  longer = PanelCurve(f"{_HELD_OUT}winner_longer", "held-out: the longer answer wins", 6)
  spread = PanelCurve(
    f"{_HELD_OUT}score_p50", "median, 5 % to 95 %", 0, (f"{_HELD_OUT}score_p05", f"{_HELD_OUT}score_p95")
  )
  demonstrations = PanelCurve("eval/demonstrations/mean", "demonstrations, before they are shifted to 0", 1)
  return [
    Panel(
      "Preference accuracy",
      "share of pairs",
      (PanelCurve("accuracy", "training", 1), held_out, longer),
      note="Pairs whose better answer has the higher reward. The baseline always prefers the longer answer.",
      share=True,
    ),
    panel("Held-out accuracy by strength of preference", "share of pairs", strengths(columns), share=True),
    panel(
      "Margin",
      "reward of the better − the worse",
      {"margin": "training", f"{_HELD_OUT}margin_mean": "held-out"},
      colors=(1, 0),
    ),
    Panel(
      "Rewards",
      "reward per answer",
      (spread, demonstrations),
      note="Rewards are known up to a constant: a drift of the demonstrations says nothing about quality.",
    ),
    panel(
      "Calibration",
      "error",
      {f"{_HELD_OUT}ece": "expected calibration error", f"{_HELD_OUT}brier": "Brier score"},
      note="0 is best. Always claiming 50 % gives a Brier score of 0.25.",
    ),
    panel(
      "Reward and length",
      "correlation",
      {f"{_HELD_OUT}length_spearman": "Spearman, of ranks", f"{_HELD_OUT}length_pearson": "Pearson"},
      note="Over held-out answers. Far from 0 if the model, or the data, prefers answers by their length.",
    ),
  ]


def direct_preference(columns: Columns) -> list[Panel]:
  """Returns the panels of DPO and its variants: answers' likelihood relative to the reference."""
  if not _is_direct(columns):
    return []
  moved = "since the reference, nats per answer"
  accuracy = with_interval(columns, f"{_PAIRS}reward/accuracy", "held-out", 0)
  return [
    Panel(
      "Implicit reward accuracy",
      "share of pairs",
      (PanelCurve("reward/accuracy", "training", 1), accuracy),
      note="Pairs whose chosen answer gained more likelihood than the rejected one. Before training all tie: ½.",
      share=True,
    ),
    panel(
      "Implicit reward margin",
      "β · log likelihood ratio",
      {"reward/margin": "training", f"{_PAIRS}reward/margin": "held-out"},
      colors=(1, 0),
    ),
    panel(
      "Chosen answers: change of log likelihood",
      moved,
      {"logprob/chosen_moved": "training", f"{_PAIRS}logprob/chosen_moved": "held-out"},
      colors=(1, 0),
      note="Below 0 the chosen answers became less likely; a margin then means that the rejected ones lost more.",
    ),
    panel(
      "Rejected answers: change of log likelihood",
      moved,
      {"logprob/rejected_moved": "training", f"{_PAIRS}logprob/rejected_moved": "held-out"},
      colors=(1, 0),
    ),
    panel("Length of pairs", "tokens", {"length/chosen": "chosen", "length/rejected": "rejected"}),
    panel("Pairs", "pairs per round", {"pairs": "with a better and a worse answer"}),
  ]


def _is_direct(columns: Columns) -> bool:
  return "logprob/chosen_moved" in columns or f"{_PAIRS}logprob/chosen_moved" in columns
