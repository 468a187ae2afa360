"""The report's panels of what learns from comparisons: reward models, DPO and its kin."""

import re

from posttrain_jax.data.preferences import Strength
from posttrain_jax.reports.panel import Columns, Curve, Panel, panel, with_interval

_PAIRS = "eval/preferences/"
_HELD_OUT = "eval/heldout/"


def strengths(columns: Columns) -> dict[str, str]:
  """Column → name of the strengths that held-out accuracy is split by, the strongest first."""
  matches = [re.fullmatch(rf"{_HELD_OUT}strength/([^/]+)/accuracy", key) for key in columns]
  found = {match[0]: match[1] for match in matches if match}
  order = [str(strength) for strength in Strength]
  return dict(sorted(found.items(), key=lambda item: order.index(item[1]) if item[1] in order else len(order)))


def implicit_rewards(columns: Columns) -> set[str]:
  """Columns under `reward/` that are β log(π / π_ref) of a pair, and no component of a sampled answer's reward."""
  return {f"reward/{name}" for name in ("chosen", "rejected", "margin", "accuracy")} if _is_direct(columns) else set()


def reward_model(columns: Columns) -> list[Panel]:
  """Of a reward model: does it prefer what people do, and does it know how sure to be?"""
  if f"{_HELD_OUT}margin_mean" not in columns and "margin" not in columns:
    return []
  held_out = with_interval(columns, f"{_HELD_OUT}accuracy", "held-out", 0)
  longer = Curve(f"{_HELD_OUT}winner_longer", "held-out: the longer answer wins", 6)
  spread = Curve(f"{_HELD_OUT}score_p50", "median, 5 % to 95 %", 0, (f"{_HELD_OUT}score_p05", f"{_HELD_OUT}score_p95"))
  demonstrations = Curve("eval/demonstrations/mean", "demonstrations, before they are shifted to 0", 1)
  return [
    Panel(
      "Preference accuracy",
      "share of pairs",
      (Curve("accuracy", "training", 1), held_out, longer),
      note="Pairs whose better answer has the higher reward; whoever always takes the longer answer is the baseline.",
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
      note="0 is best. Brier: 0.25 is a coin's.",
    ),
    panel(
      "Reward and length",
      "correlation",
      {f"{_HELD_OUT}length_spearman": "Spearman, of ranks", f"{_HELD_OUT}length_pearson": "Pearson"},
      note="Over held-out answers. Far from 0 where the model, or the data, goes by length.",
    ),
  ]


def direct_preference(columns: Columns) -> list[Panel]:
  """Of DPO and its kin: what becomes of chosen and rejected answers, relative to the reference."""
  if not _is_direct(columns):
    return []
  moved = "since the reference, nats per answer"
  accuracy = with_interval(columns, f"{_PAIRS}reward/accuracy", "held-out", 0)
  return [
    Panel(
      "Implicit reward accuracy",
      "share of pairs",
      (Curve("reward/accuracy", "training", 1), accuracy),
      note="Pairs whose chosen answer gained more likelihood than the rejected one; ½ before training, by ties.",
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
      note="Below 0 the policy gives up likelihood of what was preferred, only less than of what was not.",
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
