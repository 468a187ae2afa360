"""Reads the peers' losses in float64, data/policy_losses.json, and writes their conventions in our options.

Tolerances are those that come with the file.
"""

import json
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from posttrain_jax.losses import advantages, aggregate, kl, logprobs, policy, value

GOLDENS = json.loads((pathlib.Path(__file__).parents[1] / "data" / "policy_losses.json").read_text())
CASES = {case["name"]: case for case in GOLDENS["cases"]}
F = {name: np.array(array) for name, array in GOLDENS["fixture"].items()}  # float64 and int64
MASK, OBS_MASK, LENGTH = F["mask"], F["obs_mask"], F["mask"].shape[1]
ONES = np.ones_like(MASK)


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
