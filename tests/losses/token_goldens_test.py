"""Tests advantages, KL estimates, weights and logprobs of each token against verl, TRL and OpenRLHF in float64."""

import pytest

from posttrain_jax.losses import advantages, rewards
from tests.losses.peers import (
  BAND,
  MASK,
  OBS_MASK,
  ONES,
  OPENRLHF_WHITEN,
  VERL_WHITEN,
  F,
  check,
  correction,
  from_logits,
  gae,
  grouped,
  kl_to_ref,
  reinforce_pp,
  reinforce_pp_baseline,
  reward_to_go,
  spread,
)

# [B, T] arrays, compared where the mask (the second entry) counts.
TOKENS = {
  "verl.adv.gae.padded.raw_advantages": (lambda: gae("token_rewards", MASK, 0), MASK),
  "verl.adv.gae.padded.advantages": (lambda: gae("token_rewards", MASK, 0, VERL_WHITEN), MASK),
  "verl.adv.gae.padded.returns": (lambda: gae("token_rewards", MASK, 1), MASK),
  "verl.adv.gae.full_mask.raw_advantages": (lambda: gae("token_rewards", ONES, 0), ONES),
  "verl.adv.gae.full_mask.advantages": (lambda: gae("token_rewards", ONES, 0, VERL_WHITEN), ONES),
  "verl.adv.gae.full_mask.returns": (lambda: gae("token_rewards", ONES, 1), ONES),
  "verl.adv.gae.obs_mask.raw_advantages": (lambda: gae("token_rewards_last", OBS_MASK, 0), OBS_MASK),
  "verl.adv.gae.obs_mask.advantages": (lambda: gae("token_rewards_last", OBS_MASK, 0, VERL_WHITEN), OBS_MASK),
  "verl.adv.gae.obs_mask.returns": (lambda: gae("token_rewards_last", OBS_MASK, 1), OBS_MASK),
  "verl.adv.gae.per_sequence.raw_advantages": (lambda: gae("token_rewards", MASK, 0), MASK),
  "verl.adv.gae.per_sequence.returns": (lambda: gae("token_rewards", MASK, 1), MASK),
  "openrlhf.adv.gae.padded.raw_advantages": (lambda: gae("token_rewards", MASK, 0), MASK),
  "openrlhf.adv.gae.padded.returns": (lambda: gae("token_rewards", MASK, 1), MASK),
  "openrlhf.adv.gae.score.kl0.gamma0.99.advantages": (lambda: gae("token_rewards", MASK, 0, OPENRLHF_WHITEN), MASK),
  "openrlhf.adv.cumulative_returns.gamma0.99": (lambda: reward_to_go(0.99), MASK),
  "verl.adv.grpo.std.token_rewards": (
    lambda: spread(advantages.group_normalized(grouped(F["score"]), ddof=1, epsilon=1e-6)),
    MASK,
  ),
  "openrlhf.adv.group_norm.score.kl0.gamma1.advantages": (
    lambda: spread(advantages.group_normalized(grouped(F["score"]), ddof=1, epsilon=1e-9)),
    MASK,
  ),
  "verl.adv.grpo.mean_only.token_rewards": (lambda: spread(advantages.group_centered(grouped(F["score"]))), MASK),
  "openrlhf.adv.dr_grpo.score.kl0.gamma1.advantages": (
    lambda: spread(advantages.group_centered(grouped(F["score"]))),
    MASK,
  ),
  "verl.adv.rloo.token_rewards": (lambda: spread(advantages.leave_one_out(grouped(F["score"]))), MASK),
  "openrlhf.adv.rloo.score.kl0.gamma1.advantages": (
    lambda: spread(advantages.leave_one_out(grouped(F["score"]))),
    MASK,
  ),
  # The fixture's greedy rewards are one an answer: groups of one.
  "verl.adv.remax.token_rewards.advantages": (
    lambda: spread(advantages.remax(F["score"][:, None], F["baseline_score"])),
    MASK,
  ),
  "verl.adv.remax.token_rewards.returns": (lambda: reward_to_go(1.0), MASK),
  "verl.adv.opo.token_rewards": (
    lambda: spread(advantages.optimal_baseline(grouped(F["score"]), grouped(F["lens"]))),
    MASK,
  ),
  # Both groups of the fixture have one mean: answer_advantages_test tells a group's from the batch's.
  "openrlhf.adv.flash_reinforce.score.kl0.gamma1.advantages": (
    lambda: spread(advantages.batch_centered(grouped(F["score"]))),
    MASK,
  ),
  "verl.adv.reinforce_pp.gamma0.99.token_rewards.advantages": (lambda: reinforce_pp(0.99, **VERL_WHITEN), MASK),
  "verl.adv.reinforce_pp.gamma0.99.token_rewards.returns": (lambda: reward_to_go(0.99), MASK),
  "openrlhf.adv.reinforce.score.kl0.gamma1.advantages": (lambda: reinforce_pp(1.0, **OPENRLHF_WHITEN), MASK),
  "verl.adv.reinforce_pp_baseline.token_rewards": (lambda: reinforce_pp_baseline(**VERL_WHITEN), MASK),
  "openrlhf.adv.reinforce_baseline.score.kl0.gamma1.advantages": (
    lambda: reinforce_pp_baseline(**OPENRLHF_WHITEN),
    MASK,
  ),
  "verl.masked_whiten.shift": (lambda: advantages.whiten(F["adv"], MASK, **VERL_WHITEN), MASK),
  "verl.kl_penalty.k1": (kl_to_ref("k1"), MASK),
  "verl.kl_penalty.k2": (kl_to_ref("k2"), MASK),
  "verl.kl_penalty.k3": (kl_to_ref("k3"), MASK),
  "openrlhf.approx_kl.k1": (kl_to_ref("k1"), MASK),
  "openrlhf.approx_kl.k2": (kl_to_ref("k2"), MASK),
  "openrlhf.approx_kl.k3": (kl_to_ref("k3"), MASK),
  "verl.token_rewards_with_kl": (
    lambda: rewards.token_rewards(F["score"], MASK, kl=kl_to_ref("k1", "old")(), kl_coefficient=0.1),
    MASK,
  ),
  "openrlhf.token_rewards_with_kl": (
    lambda: rewards.token_rewards(F["score"], MASK, kl=kl_to_ref("k1", "old")(), kl_coefficient=0.1),
    MASK,
  ),
  **{f"{peer}.logprobs_from_logits": (lambda: from_logits(0), ONES) for peer in ("verl", "trl", "openrlhf")},
  **{f"{peer}.entropy_from_logits": (lambda: from_logits(1), ONES) for peer in ("verl", "trl", "openrlhf")},
  "verl.rollout_is.token.truncate2": (lambda: correction("token", "truncate", None, 2.0), MASK),
  "verl.rollout_is.token.mask0.5-2": (lambda: correction("token", "mask", *BAND), MASK),
  "verl.rollout_is.sequence.truncate2": (lambda: correction("sequence", "truncate", None, 2.0), MASK),
  "verl.rollout_is.sequence.mask0.5-2": (lambda: correction("sequence", "mask", *BAND), MASK),
  "trl.rollout_is.token_truncate.2": (lambda: correction("token", "truncate", None, 2.0), MASK),
  "trl.rollout_is.token_mask.0.5-2": (lambda: correction("token", "mask", *BAND), MASK),
  "trl.rollout_is.sequence_truncate.2": (lambda: correction("sequence", "truncate", None, 2.0), MASK),
  "trl.rollout_is.sequence_mask.0.5-2": (lambda: correction("sequence", "mask", *BAND), MASK),
  # verl's k1 statistic is rollout − old, the logarithm of the inverse weight.
  "verl.rollout_rs.token_k1.0.5_2.0": (lambda: correction("token", "mask", 1 / 2.0, 1 / 0.5) > 0, MASK),
  "verl.rollout_rs.seq_mean_k1.0.5_2.0": (lambda: correction("geometric", "mask", 1 / 2.0, 1 / 0.5) > 0, MASK),
  "verl.rollout_rs.token_k1.0.6_4.0": (lambda: correction("token", "mask", 1 / 4.0, 1 / 0.6) > 0, MASK),
}


@pytest.mark.parametrize("name", TOKENS)
def test_tokens(name, x64):
  call, mask = TOKENS[name]
  check(call(), name, mask)
