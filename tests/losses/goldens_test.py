"""Tests the losses against verl, TRL and OpenRLHF in float64.

The cases are those of data/policy_losses.json that this code has.

LOSSES are scalars, checked with their gradient where the file has one; TOKENS are [B, T] arrays, compared on the
counted tokens; SCALARS is the rest. Each entry says in our options what the peer's settings mean. Whatever the file has
and the tables have not must be in NOT_OURS, with the reason.
"""

import json
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posttrain_jax.losses import advantages, aggregate, kl, logprobs, policy, rewards, value

GOLDENS = json.loads((pathlib.Path(__file__).parents[1] / "data" / "policy_losses.json").read_text())
CASES = {case["name"]: case for case in GOLDENS["cases"]}
F = {name: np.array(array) for name, array in GOLDENS["fixture"].items()}  # float64 and int64
MASK, OBS_MASK, LENGTH = F["mask"], F["obs_mask"], F["mask"].shape[1]
ONES = np.ones_like(MASK)


# ---- Shorthands: one per peer convention.


def grouped(x):
  return x.reshape(2, 4, *x.shape[1:])  # uid is 0 0 0 0 1 1 1 1


def spread(per_answer):
  return jnp.broadcast_to(per_answer.reshape(8, 1), MASK.shape)


def clipped(new, adv="adv", high=0.28, **options):
  return policy.clipped_surrogate(new, F["old"], F[adv], MASK, clip_low=0.2, clip_high=high, **options)


def unclipped(new):
  return policy.clipped_surrogate(new, F["old"], F["adv"], MASK, clip_low=1.0, clip_high=math.inf)


def gspo(new, adv):
  adv = F[adv] if F[adv].ndim == 2 else F[adv][:, None]
  return policy.sequence_clipped_surrogate(new, F["old"], adv, MASK, clip_low=0.2, clip_high=0.28)


def cispo(new, low, high):
  return policy.clipped_importance_weight(new, F["old"], F["adv"], MASK, clip_low=low, clip_high=high)


def gmpo(new, adv):
  adv = F[adv] if F[adv].ndim == 2 else F[adv][:, None]
  return policy.geometric_mean_surrogate(new, F["old"], adv, MASK, clip_low=0.4, clip_high=0.4)


def sapo(new):
  return policy.soft_gated_surrogate(new, F["old"], F["adv"], MASK, tau_pos=1.0, tau_neg=1.05)


def clip_cov(new):  # all of the band, so that which part is drawn plays no role
  band = {"share": 1.0, "cov_low": 0.2, "cov_high": 5.0}
  return policy.clip_cov(new, F["old"], F["adv"], MASK, clip_low=0.2, clip_high=0.28, **band)


def kl_cov(new):
  return policy.kl_cov(new, F["old"], F["adv"], MASK, share=0.1, penalty=1.0)


def correction(level, mode, low, high):
  return policy.importance_correction(F["old"], F["rollout"], MASK, level=level, mode=mode, low=low, high=high)


def kl_to_ref(estimator, logp="new"):
  return lambda new=None: kl.kl_estimate(F[logp] if new is None else new, F["ref"], estimator=estimator, mask=MASK)


def token_mean(x):
  return aggregate.token_mean(x, MASK)


def sequence_mean(x):
  return aggregate.sequence_mean(x, MASK)


def sequence_sum(x):
  return aggregate.sequence_sum(x, MASK)


def fixed_length(x):  # the peers divide by the padded width
  return aggregate.fixed_length(x, MASK, max_length=LENGTH)


def then(aggregated, tokens, *args, **options):
  """Makes the scalar loss aggregated(tokens(new, ...))."""
  return lambda new: aggregated(tokens(new, *args, **options))


def with_kl(aggregated, estimator="k3", coefficient=0.04):
  return lambda new: aggregated(clipped(new)) + coefficient * aggregated(kl_to_ref(estimator)(new))


def corrected(*weights):
  return lambda new, **options: correction(*weights) * clipped(new, **options)


def gated(new):
  """Weighs every token by itself, and drops answers whose geometric mean is outside the band."""
  return correction("token", "truncate", None, math.inf) * (correction("geometric", "mask", *BAND) > 0) * clipped(new)


def unbiased_k3(new):
  """Returns k3's value with k2's gradient, weighted by the ratio because the old policy drew the tokens."""
  ratio = policy.importance_correction(new, F["old"], MASK, high=math.inf)
  weighted = token_mean(ratio * kl_to_ref("k3+")(new))
  return weighted + jax.lax.stop_gradient(token_mean(kl_to_ref("k3")(new)) - weighted)


def rloo_surrogate(new):
  """Computes RLOO's surrogate with one ratio an answer: each answer is one long token."""
  total = (jnp.sum(new * MASK, axis=1, keepdims=True), np.sum(F["old"] * MASK, axis=1, keepdims=True))
  one = np.ones((8, 1))
  return aggregate.token_mean(policy.clipped_surrogate(*total, F["adv_seq"][:, None], one, clip_high=0.28), one)


def value_loss(vpreds):
  return value.clipped_value_loss(vpreds, F["values"], F["returns"], MASK, clip=0.2)


def gae(token_rewards, mask, part, whiten=None):
  result = advantages.gae(F[token_rewards], F["values"], mask, discount=0.99, lam=0.95)[part]
  return result if whiten is None else advantages.whiten(result, mask, **whiten)


def reward_to_go(discount):
  """Sums the discounted rewards still to come: GAE without values and with λ = 1."""
  return advantages.gae(F["token_rewards"], 0 * MASK, MASK, discount=discount, lam=1.0)[1]


def reinforce_pp(discount, **whiten):
  return advantages.reinforce_plus_plus(
    F["score"], F["old"], F["ref"], MASK, kl_coefficient=0.0, discount=discount, **whiten
  )


def reinforce_pp_baseline(**whiten):
  tokens = advantages.reinforce_plus_plus_baseline(grouped(F["score"]), grouped(MASK), **whiten)
  return tokens.reshape(MASK.shape)


def summed_kl():
  return jnp.sum(kl_to_ref("k1", "old")(), axis=1)


def from_logits(entropy):
  """Computes logprobs from logits: as hidden states, under the identity as unembedding."""
  return logprobs.token_logprobs(F["logits"], np.eye(11), F["labels"], chunk=5, entropy=True)[entropy]


def share(condition):
  return token_mean(condition.astype(jnp.float64))


VERL_WHITEN = {"ddof": 1, "epsilon": 1e-8}
OPENRLHF_WHITEN = {"ddof": 0}  # its 1e-8 is a floor of the variance
BAND = (0.5, 2.0)

# ---- Scalar losses of the new logprobs (of vpreds for value losses), with their gradients.

LOSSES = {
  "verl.kl_loss.k2": then(token_mean, kl_to_ref("k2")),
  "verl.kl_loss.k3": then(token_mean, kl_to_ref("k3")),
  "verl.kl_loss.k3+": then(token_mean, kl_to_ref("k3+")),
  "openrlhf.kl_loss.k3": then(token_mean, kl_to_ref("k3")),
  "openrlhf.kl_loss.k3.unbiased_grad": unbiased_k3,
  "verl.policy.vanilla.clip0.2-0.2.dual3.token-mean": then(token_mean, clipped, high=0.2, dual_clip=3.0),
  "verl.policy.vanilla.clip0.2-0.2.dual10.token-mean": then(token_mean, clipped, high=0.2, dual_clip=10.0),
  "verl.policy.vanilla.clip0.2-0.28.dual3.token-mean": then(token_mean, clipped, dual_clip=3.0),
  "verl.policy.vanilla.clip0.2-0.28.dual3.seq-mean-token-sum": then(sequence_sum, clipped, dual_clip=3.0),
  "verl.policy.vanilla.clip0.2-0.28.dual3.seq-mean-token-mean": then(sequence_mean, clipped, dual_clip=3.0),
  "verl.policy.vanilla.clip0.2-0.28.dual3.seq-mean-token-sum-norm": then(fixed_length, clipped, dual_clip=3.0),
  "verl.policy.vanilla.clip0.2-0.28.dualoff.token-mean": then(token_mean, clipped),
  "verl.policy.gspo.clip0.2-0.28.seq-mean-token-mean.adv": then(sequence_mean, gspo, "adv"),
  "verl.policy.gspo.clip0.2-0.28.seq-mean-token-mean.adv_seq_bt": then(sequence_mean, gspo, "adv_seq_bt"),
  "verl.policy.cispo.ratio0.8-1.28.token-mean": then(token_mean, cispo, 0.2, 0.28),
  "verl.policy.cispo.ratio0-5.token-mean": then(token_mean, cispo, None, 4.0),
  "verl.policy.sapo": then(sequence_mean, sapo),
  "verl.policy.geo_mean.clip0.4-0.4.adv_seq_bt": then(sequence_mean, gmpo, "adv_seq_bt"),
  "verl.policy.clip_cov.lb0.2-ub5.token-mean": then(token_mean, clip_cov),
  "verl.policy.kl_cov.ratio0.1.coef1.token-mean": then(token_mean, kl_cov),
  "verl.policy.vanilla.tis.token": then(token_mean, corrected("token", "truncate", None, 2.0), dual_clip=3.0),
  "verl.policy.vanilla_kl.low_var_kl0.04.ent0.token-mean.dualoff": with_kl(token_mean),
  "verl.policy.vanilla_kl.low_var_kl0.04.ent0.seq-mean-token-mean.dualoff": with_kl(sequence_mean),
  "verl.value_loss.clip0.2.token-mean": then(token_mean, value_loss),
  "verl.value_loss.clip0.2.seq-mean-token-mean": then(sequence_mean, value_loss),
  "trl.policy.grpo.clip0.2-0.28.adv": then(sequence_mean, clipped),
  "trl.policy.grpo.kl0.04.adv": with_kl(sequence_mean),
  "trl.policy.bnpo.clip0.2-0.28.adv": then(token_mean, clipped),
  "trl.policy.bnpo.kl0.04.adv": with_kl(token_mean),
  "trl.policy.dapo.clip0.2-0.28.adv": then(token_mean, clipped),
  "trl.policy.dapo.kl0.04.adv": with_kl(token_mean),
  "trl.policy.dr_grpo.clip0.2-0.28.adv": then(fixed_length, clipped),
  "trl.policy.dr_grpo.kl0.04.adv": with_kl(fixed_length),
  # TRL's delta caps the ratio for every sign; where A ≥ 0 the upper clip is the lower of the two, so it is a dual clip.
  "trl.policy.dapo.delta3.adv": then(token_mean, clipped, dual_clip=3.0),
  "trl.policy.grpo.sequence.clip0.2-0.28.adv_seq": then(sequence_mean, gspo, "adv_seq"),
  "trl.policy.cispo.max5.adv": then(token_mean, cispo, None, 4.0),  # its bound is the cap, ours the distance from 1
  "trl.policy.sapo.adv": then(sequence_mean, sapo),
  "trl.policy.gmpo.clip0.4-0.4.adv_seq": then(sequence_mean, gmpo, "adv_seq"),
  "trl.policy.dapo.tis.token_truncate.2.adv": then(token_mean, corrected("token", "truncate", None, 2.0)),
  "trl.policy.rloo.clip0.2-0.28.adv_seq": rloo_surrogate,
  "openrlhf.policy.ppo.clip0.2-0.2.dualoff.token": then(token_mean, clipped, high=0.2),
  "openrlhf.policy.ppo.clip0.2-0.28.dualoff.token": then(token_mean, clipped),
  "openrlhf.policy.ppo.clip0.2-0.28.dualoff.sample": then(sequence_mean, clipped),
  "openrlhf.policy.ppo.clip0.2-0.28.dual3.token": then(token_mean, clipped, dual_clip=3.0),
  "openrlhf.policy.ppo.clip0.2-0.28.dual3.sample": then(sequence_mean, clipped, dual_clip=3.0),
  "openrlhf.policy.gspo.clip0.2-0.28.adv_seq_bt": then(sequence_mean, gspo, "adv_seq_bt"),
  "openrlhf.policy.ppo.is_token_clip_ratio_0-2": then(token_mean, corrected("token", "truncate", 0.0, 2.0)),
  "openrlhf.policy.ppo.is_token_mask_ratio_0.5-2": then(token_mean, corrected("token", "mask", *BAND)),
  "openrlhf.policy.ppo.is_seq_mask_ratio_0.5-2": then(token_mean, gated),
  "openrlhf.policy.ppo_kl.k3.0.04": with_kl(token_mean),
  "openrlhf.value_loss.clip0.2.token": then(token_mean, value_loss),
  "openrlhf.value_loss.clip0.2.sample": then(sequence_mean, value_loss),
}

# ---- [B, T] arrays, compared where the mask (the second entry) counts.

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

# ---- Everything else: sums, means and metrics.

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

# ---- What the peers do otherwise.

_NO_SKIP = "the peer sets masked rewards and values to 0 and discounts through holes; ours skips them, as verl does"
NOT_OURS = {
  "verl.masked_var.unbiased": "no loss returns a variance; whiten's is checked through verl.masked_whiten.shift",
  # Its value is checked above. With one advantage an answer the gradients agree too: ...adv_seq_bt.grad.
  "verl.policy.gspo.clip0.2-0.28.seq-mean-token-mean.adv.grad": (
    "the peer's is GSPO-token's gradient, ours the sequence's"
  ),
  "openrlhf.adv.gae.obs_mask.raw_advantages": _NO_SKIP,
  "openrlhf.adv.gae.obs_mask.returns": _NO_SKIP,
}

# ---- The tests. Tolerances are those that come with the file.

PEER_ADDS_1E_8_TO_COUNTS = {
  *(name for name, case in CASES.items() if case["settings"].get("loss_agg_mode") == "seq-mean-token-mean"),
  *(name for name, case in CASES.items() if case["settings"].get("token_level_loss") is False),
  *(name for name, case in CASES.items() if case["settings"].get("policy_loss_type") == "gspo"),
  *(name for name, case in CASES.items() if case["settings"].get("loss_mode") == "geo_mean"),
}


def tolerance(case):
  if case["settings"].get("internal_dtype") == "float32":
    return 1e-5
  return 1e-7 if case["name"] in PEER_ADDS_1E_8_TO_COUNTS else 1e-9


def check(actual, name, where=None):
  expected = np.array(CASES[name]["value"])
  expected = np.broadcast_to(expected, np.shape(actual)) if where is not None else expected
  where = np.ones(expected.shape, bool) if where is None else where.astype(bool)
  np.testing.assert_allclose(np.asarray(actual)[where], expected[where], rtol=0, atol=tolerance(CASES[name]))


@pytest.mark.parametrize("name", LOSSES)
def test_loss_and_gradient(name, x64):
  wrt = F["vpreds"] if "value_loss" in name else F["new"]
  loss, gradient = jax.value_and_grad(LOSSES[name])(jnp.asarray(wrt))
  assert loss.dtype == jnp.float64
  check(loss, name)
  if f"{name}.grad" in CASES and f"{name}.grad" not in NOT_OURS:
    check(gradient, f"{name}.grad")


@pytest.mark.parametrize("name", TOKENS)
def test_tokens(name, x64):
  call, mask = TOKENS[name]
  check(call(), name, mask)


@pytest.mark.parametrize("name", SCALARS)
def test_scalar(name, x64):
  check(SCALARS[name](), name)


def test_every_case_is_checked_or_explained():
  ours = {*LOSSES, *(f"{name}.grad" for name in LOSSES), *TOKENS, *SCALARS}
  assert not set(NOT_OURS) - set(CASES), "explains cases that are not in the file"
  assert not set(CASES) - ours - set(NOT_OURS), "neither checked nor explained"
