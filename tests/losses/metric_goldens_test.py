"""Tests means, metrics and answers' advantages against verl, TRL and OpenRLHF in float64."""

import math

import jax
import pytest

from posttrain_jax.losses import advantages, aggregate, kl
from tests.losses.peers import (
  BAND,
  MASK,
  F,
  check,
  clipped,
  correction,
  fixed_length,
  from_logits,
  grouped,
  sequence_mean,
  sequence_sum,
  share,
  summed_kl,
  token_mean,
  unclipped,
  value_loss,
)

SCALARS = {
  "verl.masked_mean": lambda: token_mean(F["adv"]),
  "openrlhf.masked_mean": lambda: token_mean(F["adv"]),
  "openrlhf.masked_mean.rows": lambda: jax.vmap(aggregate.token_mean)(F["adv"], MASK),
  "verl.agg_loss.token-mean": lambda: token_mean(F["adv"]),
  "verl.agg_loss.token-sum": lambda: aggregate.token_mean(F["adv"], MASK, denominator=1),
  "verl.agg_loss.seq-mean-token-sum": lambda: sequence_sum(F["adv"]),
  "verl.agg_loss.seq-mean-token-mean": lambda: sequence_mean(F["adv"]),
  "verl.agg_loss.seq-mean-token-sum-norm": lambda: fixed_length(F["adv"]),
  "openrlhf.aggregate_loss.token": lambda: token_mean(F["adv"]),
  "openrlhf.aggregate_loss.sample": lambda: sequence_mean(F["adv"]),
  "verl.entropy_loss.token-mean": lambda: token_mean(from_logits(1)),
  "trl.adv.grpo.group.score": lambda: advantages.group_normalized(grouped(F["score"]), ddof=1, epsilon=1e-4).ravel(),
  "trl.adv.grpo.batch.score": lambda: advantages.group_normalized(
    grouped(F["score"]), ddof=1, epsilon=1e-4, scale="batch"
  ).ravel(),
  "trl.adv.grpo.none.score": lambda: advantages.group_centered(grouped(F["score"])).ravel(),
  "trl.adv.rloo.raw.kl0.score": lambda: advantages.leave_one_out(grouped(F["score"])).ravel(),
  "trl.adv.rloo.raw.kl0.05.score": lambda: advantages.leave_one_out(grouped(F["score"] - 0.05 * summed_kl())).ravel(),
}


def clipped_share():
  """Computes the share of tokens whose loss the clip makes larger."""
  return share(clipped(F["new"]) > unclipped(F["new"]))


def outside_share():
  return share(correction("token", "mask", *BAND) == 0)


def k1_mean(ours, other):
  return lambda: token_mean(kl.kl_estimate(F[ours], F[other], estimator="k1"))


SCALARS |= {
  "verl.policy.vanilla.clip0.2-0.28.dual3.token-mean.metric.pg_clipfrac": clipped_share,
  "verl.policy.vanilla.clip0.2-0.28.dual3.token-mean.metric.pg_clipfrac_lower": lambda: share(
    clipped(F["new"], dual_clip=3.0) < clipped(F["new"])
  ),
  "verl.policy.vanilla.clip0.2-0.28.dual3.token-mean.metric.ppo_kl": k1_mean("old", "new"),
  "verl.value_loss.clip0.2.token-mean.metric.clipfrac": lambda: share(
    value_loss(F["vpreds"]) > (F["vpreds"] - F["returns"]) ** 2 / 2
  ),
  "openrlhf.policy.ppo.clip0.2-0.28.dualoff.token.metric.clip_ratio": clipped_share,
  "openrlhf.policy.ppo.clip0.2-0.28.dualoff.token.metric.ppo_kl": k1_mean("old", "new"),
  # What is over the upper bound counts as filtered when it is truncated, too.
  "openrlhf.policy.ppo.is_token_clip_ratio_0-2.metric.filter_ratio": lambda: share(
    correction("token", "truncate", None, math.inf) > 2
  ),
  "openrlhf.policy.ppo.is_token_mask_ratio_0.5-2.metric.filter_ratio": outside_share,
  "openrlhf.policy.ppo.is_seq_mask_ratio_0.5-2.metric.filter_ratio": lambda: share(
    correction("geometric", "mask", *BAND) == 0
  ),
}
for _correction in ("is_token_clip_ratio_0-2", "is_token_mask_ratio_0.5-2", "is_seq_mask_ratio_0.5-2"):
  SCALARS |= {
    f"openrlhf.policy.ppo.{_correction}.metric.clip_ratio": clipped_share,
    f"openrlhf.policy.ppo.{_correction}.metric.ppo_kl": k1_mean("old", "new"),
    f"openrlhf.policy.ppo.{_correction}.metric.rollout_kl": k1_mean("rollout", "old"),
  }


@pytest.mark.parametrize("name", SCALARS)
def test_scalar(name, x64):
  check(SCALARS[name](), name)
