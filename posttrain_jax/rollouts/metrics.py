"""Describes a step's groups: counts, lengths, truncation, waste, staleness.

The metrics tell two populations apart: what was generated, and what was trained on. A gap between their lengths or
truncation shares is the bias that dynamic sampling must not have.
"""

import collections
import math
from collections.abc import Mapping, Sequence

import numpy as np

from posttrain_jax.rewards.judge import FAILED, TIMED_OUT, timed_out, without_verdict
from posttrain_jax.rollouts.dynamic_sampling import Outcome, Verdict
from posttrain_jax.sampling.requests import EngineStats
from posttrain_jax.types import Group


def describe(
  trained: Sequence[Group],
  judged: Sequence[tuple[Group, Outcome]],
  verdicts: Mapping[Verdict, int],
  stats: EngineStats,
  *,
  version: int,
  drawn: int | None = None,
) -> dict[str, float]:
  """Computes the metrics of one step's collection.

  Args:
    trained: the groups to train on, those carried from earlier steps included.
    judged: the groups that this step decided on, with their outcomes: those generated in it, or, under `carry`, those
      that left the line.
    verdicts: number of these groups by verdict, independent of their outcomes; 0 for a verdict that is missing.
    stats: the engine's counts over this step.
    version: the version of the current parameters, in updates.
    drawn: prompts admitted in this step; None for as many as were judged.

  Returns:
    Flat metrics; tokens and lengths in tokens, shares in [0, 1], staleness in versions.
  """
  fresh = [group for group, _ in judged]
  metrics: dict[str, float] = {
    "sampling/prompts_drawn": len(fresh) if drawn is None else drawn,
    "sampling/groups_trained": len(trained),
    "sampling/carried": sum(outcome == Outcome.CARRIED for _, outcome in judged),
    "sampling/dropped_all_right": verdicts[Verdict.ALL_RIGHT],
    "sampling/dropped_all_wrong": verdicts[Verdict.ALL_WRONG],
    "sampling/dropped_invalid": verdicts[Verdict.INVALID],
    "sampling/surplus": sum(outcome == Outcome.SURPLUS for _, outcome in judged),
    "sampling/tokens_generated": stats.generated_tokens,
    "sampling/prefill_tokens": stats.prefill_tokens,
    "sampling/recomputed_tokens": stats.recomputed_tokens,
    "sampling/decode_steps": stats.decode_steps,
    "sampling/dispatches": stats.dispatches,
    "sampling/preemptions": stats.preemptions,
  }
  if stats.slot_steps:
    metrics["sampling/idle_share"] = stats.idle_slot_steps / stats.slot_steps
  if fresh:
    metrics |= {
      "sampling/informative_share": verdicts[Verdict.INFORMATIVE] / len(fresh),
      "accuracy/mean": _mean_of_valid(fresh, "accuracy"),
      "reward/mean": _mean_of_valid(fresh, "rewards"),
      "reward/invalid": int(sum(without_verdict(group).sum() for group in fresh)),
      "reward/timed_out": float(np.concatenate([timed_out(group) for group in fresh]).mean()),  # share of answers
      "length/mean": float(_lengths(fresh).mean()),
      "length/cv": float(_lengths(fresh).std() / _lengths(fresh).mean()),  # coefficient of variation
      "length/max": int(_lengths(fresh).max()),
      "truncated/share": _truncated(fresh),
    }
    for name in fresh[0].components:
      if name in (FAILED, TIMED_OUT):
        continue
      values = np.concatenate([group.components[name] for group in fresh])
      metrics[f"reward/{name}"] = float(np.nanmean(values)) if np.isfinite(values).any() else math.nan
  if trained:
    versions = np.concatenate([answer.versions for group in trained for answer in group.answers])
    metrics |= {
      "accuracy/trained": _mean_of_valid(trained, "accuracy"),
      "length/trained": float(_lengths(trained).mean()),
      "truncated/trained_share": _truncated(trained),
      "sampling/staleness_mean": float((version - versions).mean()),
      "sampling/staleness_max": int((version - versions).max()),
    }
  if fresh and trained:
    metrics["length/trained_minus_generated"] = metrics["length/trained"] - metrics["length/mean"]
  return metrics


def describe_unselected(groups: Sequence[Group], stats: EngineStats, *, version: int) -> dict[str, float]:
  """Computes the metrics of a step that trains on all groups it sampled.

  They are those of `describe` without those that tell of a choice between groups.

  Args:
    groups: judged; at least one.
    stats: the engine's counts over this step.
    version: the version of the current parameters, in updates.
  """
  found = describe(
    groups, [(group, Outcome.TRAINED) for group in groups], collections.Counter(), stats, version=version
  )
  chosen = ("sampling/dropped", "sampling/carried", "sampling/surplus", "sampling/informative")
  found = {name: value for name, value in found.items() if not name.startswith(chosen)}
  # A reward model may have failed, too, which is no component of the reward.
  return found | {"reward/invalid": int(sum((~group.valid).sum() for group in groups))}


def token_cost(generated: int, trained: int) -> dict[str, float]:
  """Computes a step's generated tokens for each token that counts in the loss."""
  return {"sampling/tokens_trained": trained, "sampling/generated_per_trained": generated / max(1, trained)}


def _lengths(groups: Sequence[Group]) -> np.ndarray:
  return np.concatenate([np.zeros((0,), np.int32), *[group.lengths for group in groups]])


def _truncated(groups: Sequence[Group]) -> float:
  return float(np.concatenate([group.truncated for group in groups]).mean())


def _mean_of_valid(groups: Sequence[Group], field: str) -> float:
  values = np.concatenate([getattr(group, field) for group in groups])
  valid = np.concatenate([group.valid for group in groups]) & np.isfinite(values)  # a model's judgement has no accuracy
  return float(values[valid].mean()) if valid.any() else math.nan
