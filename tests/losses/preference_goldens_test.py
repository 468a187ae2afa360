"""Tests the preference losses against TRL and OpenRLHF in float64.

All cases of data/preference_losses.json are compared.

LOSSES are functions of the settings' inputs, chosen and rejected, that return one loss per comparison; their mean is
checked, with its gradients where the file has them. Nothing in the file is left out.
"""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posttrain_jax.losses import preference

GOLDENS = json.loads((pathlib.Path(__file__).parents[1] / "data" / "preference_losses.json").read_text())
CASES = {case["name"]: case for case in GOLDENS["cases"]}
F = {name: np.array(array) for name, array in GOLDENS["fixture"].items()}  # float64 and int64
REFERENCE = F["ref_chosen_logps"], F["ref_rejected_logps"]
CHOSEN_NLL = sum(F["policy_chosen_token_logps"].ravel()) / -F["chosen_mask"].sum()

LOGPS = "policy_chosen_logps", "policy_rejected_logps"
MEANS = "policy_chosen_avg_logps", "policy_rejected_avg_logps"
REWARDS = "chosen_rewards", "rejected_rewards"


def relative(loss, **options):
  """Makes a loss relative to the reference, as a function of the policy's logprobs."""
  return LOGPS, lambda chosen, rejected: loss(chosen, rejected, *REFERENCE, **options)


def averaged_ipo(chosen, rejected):
  """Divides each side's log ratio by its length, as TRL does: means over tokens instead of sums."""
  lengths = (F["chosen_lens"], F["rejected_lens"]) * 2
  return preference.ipo(*(x / n for x, n in zip((chosen, rejected, *REFERENCE), lengths)), tau=0.1)


def kto(sign):
  """Averages over both sides; all chosen answers are desirable, all rejected ones undesirable."""
  kl = sign * np.mean(F["kto_kl_policy_logps"] - F["kto_kl_ref_logps"])
  desirable = np.repeat([True, False], len(REFERENCE[0]))

  def loss(chosen, rejected):
    return preference.kto(jnp.concatenate([chosen, rejected]), np.concatenate(REFERENCE), desirable, kl, beta=0.1)

  return LOGPS, loss


def cpo(nll_weight):  # the preference term is ours; the NLL is the caller's, here a given constant
  return LOGPS, lambda chosen, rejected: preference.cpo(chosen, rejected, beta=0.1) + nll_weight * CHOSEN_NLL


def bradley_terry(**options):
  return REWARDS, lambda chosen, rejected: preference.bradley_terry(chosen, rejected, **options)


LOSSES = {
  "trl.dpo.sigmoid.ls0.beta0.1": relative(preference.dpo, beta=0.1),
  "trl.dpo.sigmoid.ls0.1.beta0.1": relative(preference.dpo, beta=0.1),  # this version of TRL ignores the smoothing
  "trl.dpo.hinge.ls0.beta0.1": relative(preference.hinge, beta=0.1),
  "trl.dpo.ipo.ls0.beta0.1": (LOGPS, averaged_ipo),
  "trl.dpo.robust.ls0.1.beta0.1": relative(preference.robust, beta=0.1, label_smoothing=0.1),
  "trl.dpo.sppo_hard.ls0.beta0.1": relative(preference.sppo, beta=0.1),
  "trl.dpo.exo_pair.ls0.1.beta0.1": relative(preference.exo, beta=0.1, label_smoothing=0.1),
  "trl.dpo.nca_pair.ls0.beta0.1": relative(preference.nca, beta=0.1),
  "trl.dpo.aot.ls0.beta0.1": relative(preference.aot, beta=0.1),
  "trl.dpo.aot_unpaired.ls0.beta0.1": relative(preference.aot_unpaired, beta=0.1),
  "trl.dpo.apo_zero.ls0.beta0.1": relative(preference.apo_zero, beta=0.1),
  "trl.dpo.apo_down.ls0.beta0.1": relative(preference.apo_down, beta=0.1),
  "trl.dpo.discopop.ls0.beta0.1": relative(preference.discopop, beta=0.1, temperature=0.05),
  "trl.kto.kto.beta0.1.w1-1": kto(1),
  "trl.kto.kto.beta0.1.w1-1.kl_clamped": kto(-1),
  "trl.cpo.sigmoid.nll0.ls0": cpo(0),
  "trl.cpo.sigmoid.nll1.ls0": cpo(1),
  "trl.simpo.beta2.gamma0.5.ls0": (MEANS, lambda c, r: preference.simpo(c, r, beta=2.0, gamma=0.5)),
  "trl.orpo.beta0.1": (MEANS, lambda c, r: preference.orpo(c, r, weight=0.1, chosen_nll=CHOSEN_NLL)),
  "trl.rm.bt": bradley_terry(),
  "trl.rm.bt.center0.01": bradley_terry(centering=0.01),
  "trl.rm.bt.margin": bradley_terry(margin=F["margins"]),
  "openrlhf.dpo.sigmoid.ls0.beta0.1": relative(preference.dpo, beta=0.1),
  "openrlhf.dpo.sigmoid.ls0.1.beta0.1": relative(preference.dpo, beta=0.1, label_smoothing=0.1),
  "openrlhf.dpo.ipo.ls0.beta0.1": relative(preference.ipo, tau=0.1),
  "openrlhf.rm.bt": bradley_terry(),
  "openrlhf.rm.bt.margin": bradley_terry(margin=F["margins"]),
  "openrlhf.rm.logexp": bradley_terry(),
}
IMPLICIT_REWARDS = {f"openrlhf.dpo.{side}_rewards.beta0.1": side for side in ("chosen", "rejected")}


def check(actual, name):
  tolerance = 1e-5 if CASES[name]["settings"].get("internal_dtype") == "float32" else 1e-9
  np.testing.assert_allclose(actual, CASES[name]["value"], rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", LOSSES)
def test_loss_and_gradient(name, x64):
  inputs, loss = LOSSES[name]
  value, gradients = jax.value_and_grad(lambda *x: jnp.mean(loss(*x)), argnums=(0, 1))(*(F[x] for x in inputs))
  assert value.dtype == jnp.float64
  check(value, name)
  if f"{name}.grad" in CASES:
    assert CASES[f"{name}.grad"]["settings"]["wrt"] == list(inputs)
    check(gradients, f"{name}.grad")


@pytest.mark.parametrize("name", IMPLICIT_REWARDS)
def test_implicit_rewards(name, x64):
  side = IMPLICIT_REWARDS[name]
  check(preference.implicit_reward(F[f"policy_{side}_logps"], F[f"ref_{side}_logps"], beta=0.1), name)


def test_ranked_bradley_terry_of_two_answers(x64):
  preferred = np.broadcast_to([[0, 1], [0, 0]], (8, 2, 2))
  margin = F["margins"][:, None, None] * preferred

  def loss(chosen, rejected):
    return jnp.mean(preference.ranked_bradley_terry(jnp.stack([chosen, rejected], 1), preferred, margin=margin))

  value, gradients = jax.value_and_grad(loss, argnums=(0, 1))(*(F[x] for x in REWARDS))
  check(value, "trl.rm.bt.margin")
  check(gradients, "trl.rm.bt.margin.grad")


def test_the_constant_nll_is_the_token_mean_of_the_chosen_answers():
  for name in ("trl.cpo.sigmoid.nll1.ls0", "trl.orpo.beta0.1"):
    np.testing.assert_allclose(CHOSEN_NLL, CASES[name]["settings"]["nll_input"], rtol=1e-14)


def test_every_case_is_used():
  used = {*LOSSES, *IMPLICIT_REWARDS}
  used |= {f"{name}.grad" for name in LOSSES if f"{name}.grad" in CASES}
  assert used == set(CASES)
