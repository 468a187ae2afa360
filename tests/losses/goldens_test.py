"""Tests the policy losses against verl, TRL and OpenRLHF in float64.

No case of the file is left out.

The cases are those of data/policy_losses.json that this code has. LOSSES are scalar losses of the new logprobs (of
vpreds for value losses), checked with their gradient where the file has one. The other tables are TOKENS in
token_goldens_test.py and SCALARS in metric_goldens_test.py. Each entry says in our options what the peer's settings
mean. Whatever the file has and the tables have not must be in NOT_OURS, with the reason.
"""

import jax
import jax.numpy as jnp
import pytest

from tests.losses.metric_goldens_test import SCALARS
from tests.losses.peers import (
  BAND,
  CASES,
  F,
  check,
  cispo,
  clip_cov,
  clipped,
  corrected,
  fixed_length,
  gated,
  gmpo,
  gspo,
  kl_cov,
  kl_to_ref,
  rloo_surrogate,
  sapo,
  sequence_mean,
  sequence_sum,
  then,
  token_mean,
  unbiased_k3,
  value_loss,
  with_kl,
)
from tests.losses.token_goldens_test import TOKENS

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

# What the peers do otherwise.
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


@pytest.mark.parametrize("name", LOSSES)
def test_loss_and_gradient(name, x64):
  wrt = F["vpreds"] if "value_loss" in name else F["new"]
  loss, gradient = jax.value_and_grad(LOSSES[name])(jnp.asarray(wrt))
  assert loss.dtype == jnp.float64
  check(loss, name)
  if f"{name}.grad" in CASES and f"{name}.grad" not in NOT_OURS:
    check(gradient, f"{name}.grad")


def test_every_case_is_checked_or_explained():
  ours = {*LOSSES, *(f"{name}.grad" for name in LOSSES), *TOKENS, *SCALARS}
  assert not set(NOT_OURS) - set(CASES), "explains cases that are not in the file"
  assert not set(CASES) - ours - set(NOT_OURS), "neither checked nor explained"
