"""What a step's collection of groups looked like: counts, lengths, truncation, waste, staleness.

Two populations are told apart: what was generated, and what was trained on. A gap between their lengths or truncation
shares is the bias that dynamic sampling must not have.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from posttrain_jax.sampling.engine import EngineStats
from posttrain_jax.types import Group


def describe(
  trained: Sequence[Group],
  judged: Sequence[tuple[Group, str]],
  counted: Mapping[str, int],
  stats: EngineStats,
  *,
  version: int,
  drawn: int | None = None,
) -> dict[str, float]:
  """Metrics of one collection.

  Args:
    trained: the groups to train on, those carried in from the last step included.
    judged: the groups whose fate this step decided, with what it is: those generated in it, or, where groups go on
      from step to step, those that left the line.
    counted: those groups by verdict (all right, all wrong, invalid, trained = informative), whatever became of them.
    stats: what the engine did.
    version: that of the current parameters.
    drawn: prompts admitted in this step; as many as were judged if None.

  Returns:
    Flat metrics; tokens and lengths in tokens, shares in [0, 1], staleness in versions.
  """
  fresh = [group for group, _ in judged]
  metrics: dict[str, float] = {
    "sampling/prompts_drawn": len(fresh) if drawn is None else drawn,
    "sampling/groups_trained": len(trained),
    "sampling/carried": sum(outcome == "carried" for _, outcome in judged),
    "sampling/dropped_all_right": counted["all_right"],
    "sampling/dropped_all_wrong": counted["all_wrong"],
    "sampling/dropped_invalid": counted["invalid"],
    "sampling/surplus": sum(outcome == "surplus" for _, outcome in judged),
    "sampling/tokens_generated": stats.generated_tokens,
    "sampling/prefill_tokens": stats.prefill_tokens,
    "sampling/recomputed_tokens": stats.recomputed_tokens,
    "sampling/decode_steps": stats.decode_steps,
    "sampling/dispatches": stats.dispatches,
  }
  if stats.slot_steps:
    metrics["sampling/idle_share"] = stats.idle_slot_steps / stats.slot_steps
  if fresh:
    metrics |= {
      "sampling/informative_share": counted["trained"] / len(fresh),
      "accuracy/mean": _mean_of_valid(fresh, "accuracy"),
      "reward/mean": _mean_of_valid(fresh, "rewards"),
      "reward/invalid": int(sum(_without_verdict(group).sum() for group in fresh)),
      "length/mean": float(_lengths(fresh).mean()),
      "length/cv": float(_lengths(fresh).std() / _lengths(fresh).mean()),  # coefficient of variation
      "length/max": int(_lengths(fresh).max()),
      "truncated/share": _truncated(fresh),
    }
    for name in fresh[0].components:
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


def token_cost(generated: int, trained: int) -> dict[str, float]:
  """Tokens generated for each token that counts in the loss, after filtering; of one step."""
  return {"sampling/tokens_trained": trained, "sampling/generated_per_trained": generated / max(1, trained)}


def _lengths(groups: Sequence[Group]) -> np.ndarray:
  return np.concatenate([np.zeros((0,), np.int32), *[group.lengths for group in groups]])


def _without_verdict(group: Group) -> np.ndarray:
  """Bool [G]: answers on which some reward function failed."""
  return ~np.isfinite(np.stack(list(group.components.values()))).all(axis=0)


def _truncated(groups: Sequence[Group]) -> float:
  return float(np.concatenate([group.truncated for group in groups]).mean())


def _mean_of_valid(groups: Sequence[Group], field: str) -> float:
  valid = np.concatenate([group.valid for group in groups])
  values = np.concatenate([getattr(group, field) for group in groups])
  return float(values[valid].mean()) if valid.any() else math.nan
