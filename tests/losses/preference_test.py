import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from posttrain_jax.losses import preference

# Losses of (policy chosen, policy rejected, reference chosen, reference rejected) ...
RELATIVE = {
  "dpo": functools.partial(preference.dpo, beta=0.5),
  "cdpo": functools.partial(preference.dpo, beta=0.5, label_smoothing=0.1),
  "robust": functools.partial(preference.robust, beta=0.5, label_smoothing=0.1),
  "dpop": functools.partial(preference.dpop, beta=0.5, penalty=5.0),
  "ipo": functools.partial(preference.ipo, tau=0.2),
  "hinge": functools.partial(preference.hinge, beta=0.5),
  "sppo": functools.partial(preference.sppo, beta=0.5),
  "exo": functools.partial(preference.exo, beta=0.5, label_smoothing=0.1),
  "nca": functools.partial(preference.nca, beta=0.5),
  "aot": functools.partial(preference.aot, beta=0.5, label_smoothing=0.1),
  "aot_unpaired": functools.partial(preference.aot_unpaired, beta=0.5, label_smoothing=0.1),
  "apo_zero": functools.partial(preference.apo_zero, beta=0.5),
  "apo_down": functools.partial(preference.apo_down, beta=0.5),
  "discopop": functools.partial(preference.discopop, beta=0.5, temperature=0.2),
}


def kto_of_pairs(chosen, rejected, reference_chosen, reference_rejected):
  """KTO, with the chosen answers as desirable ones and the rejected as undesirable."""
  call = functools.partial(preference.kto, kl=0.3, beta=0.5, desirable_weight=1.2)
  chosen = call(chosen, reference_chosen, jnp.ones(jnp.shape(chosen), bool))
  return chosen + call(rejected, reference_rejected, jnp.zeros(jnp.shape(rejected), bool))


# ... and of the first two alone.
FREE = {
  "cpo": functools.partial(preference.cpo, beta=0.5),
  "simpo": functools.partial(preference.simpo, beta=2.5, gamma=1.375),
  "orpo": functools.partial(preference.orpo, weight=0.1),
  "bradley_terry": functools.partial(preference.bradley_terry, margin=0.3, centering=0.01),
}
LOSSES = {**RELATIVE, "kto": kto_of_pairs} | {name: lambda c, r, *_, f=f: f(c, r) for name, f in FREE.items()}
each_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
each_relative_loss = pytest.mark.parametrize("loss", RELATIVE.values(), ids=RELATIVE.keys())


def example(pairs=5, seed=0, dtype=np.float32):
  rng = np.random.default_rng(seed)
  reference = -rng.uniform(1, 4, (2, pairs))
  policy = np.minimum(reference + rng.normal(size=(2, pairs)), -0.05)
  return tuple(x.astype(dtype) for x in (*policy, *reference))


def log_sigmoid(x):
  return -math.log1p(math.exp(-x))


def sigmoid(x):
  return 1 / (1 + math.exp(-x))


# ---- One comparison by hand: u = −1 − (−3) = 2, v = −5 − (−4) = −1, Δ = 3, and β = .5, so βu = 1, βv = −½, βΔ = 1.5.

BY_HAND = {
  "dpo": -log_sigmoid(1.5),
  "cdpo": -0.9 * log_sigmoid(1.5) - 0.1 * log_sigmoid(-1.5),
  "robust": (-0.9 * log_sigmoid(1.5) + 0.1 * log_sigmoid(-1.5)) / 0.8,
  "dpop": -log_sigmoid(1.5),  # the chosen answer has gained: no penalty
  "ipo": 0.25,  # (3 − 1/.4)²
  "hinge": 0.0,  # 1 − 1.5 < 0
  "sppo": 1.0,  # (2 − 1)² + (−1 + 1)²
  "exo": sigmoid(1.5) * (log_sigmoid(1.5) - math.log(0.9)) + sigmoid(-1.5) * (log_sigmoid(-1.5) - math.log(0.1)),
  "nca": -log_sigmoid(1) - log_sigmoid(-1) / 2 - log_sigmoid(0.5) / 2,
  "aot": -0.9 * log_sigmoid(1.5) - 0.1 * log_sigmoid(-1.5),  # one pair: nothing to sort
  "aot_unpaired": -0.9 * log_sigmoid(1.5) - 0.1 * log_sigmoid(-1.5),
  "apo_zero": sigmoid(-1) + sigmoid(-0.5),
  "apo_down": sigmoid(1) + sigmoid(-1.5),
  "discopop": -sigmoid(-7.5) * log_sigmoid(1.5) + sigmoid(7.5) * math.exp(-1.5),
  "kto": 1.2 * sigmoid(-0.85) + sigmoid(-0.65),  # z = .3: β(2 − .3) = .85 and β(.3 + 1) = .65
  "cpo": -log_sigmoid(2),  # .5 (−1 + 5)
  "simpo": -log_sigmoid(8.625),  # 2.5 · 4 − 1.375
  "orpo": 1 - 0.1 * log_sigmoid(-math.log(math.e - 1) + math.log(math.exp(5) - 1)),  # odds of e⁻ˣ: 1 / (eˣ − 1)
  "bradley_terry": -log_sigmoid(3.7) + 0.01 * 36,
}


@pytest.mark.parametrize("name", LOSSES)
def test_by_hand(name, x64):
  loss = LOSSES[name](*(np.array([x]) for x in (-1.0, -5.0, -3.0, -4.0)))
  np.testing.assert_allclose(loss, [BY_HAND[name]], rtol=1e-13, atol=1e-15)


def test_no_movement_gives_the_known_constants():
  same = np.array([-2.0, -7.0], np.float32)
  for name, expected in {"dpo": math.log(2), "dpop": math.log(2), "hinge": 1.0, "ipo": 6.25, "apo_zero": 1.0}.items():
    np.testing.assert_allclose(LOSSES[name](same, same, same, same), [expected] * 2, rtol=1e-6)


def test_implicit_reward_by_hand():
  np.testing.assert_allclose(preference.implicit_reward(np.array([-1.0]), np.array([-3.0]), beta=0.5), [1.0])


def test_dpop_penalises_a_chosen_answer_that_lost():
  # u = −1, v = −3: Δ = 2, penalty 5 · 1, so the logit is .5 (2 − 5) = −1.5.
  loss = RELATIVE["dpop"](*(np.array([x], np.float32) for x in (-3.0, -5.0, -2.0, -2.0)))
  np.testing.assert_allclose(loss, [-log_sigmoid(-1.5)], rtol=1e-6)


def test_dpop_pushes_the_chosen_answer_up_harder_than_dpo():
  inputs = [np.array([x], np.float32) for x in (-3.0, -5.0, -2.0, -2.0)]
  dpo, dpop = (jax.grad(lambda x, f=RELATIVE[name]: jnp.sum(f(x, *inputs[1:])))(inputs[0]) for name in ("dpo", "dpop"))
  np.testing.assert_allclose(dpo, [-0.5 * sigmoid(-1.0)], rtol=1e-6)
  np.testing.assert_allclose(dpop, [-0.5 * 6 * sigmoid(1.5)], rtol=1e-6)


def test_cdpo_has_its_minimum_where_the_model_believes_the_labels_as_much_as_they_deserve():
  # σ(βΔ) = 1 − ε at Δ = log(.9 / .1) / β.
  gradient = jax.grad(lambda x: jnp.sum(preference.dpo(x, 0 * x, 0 * x, 0 * x, beta=0.5, label_smoothing=0.1)))
  np.testing.assert_allclose(gradient(jnp.array([2 * math.log(9)])), [0], atol=1e-7)


def test_robust_is_unbiased_under_flipped_labels(x64):
  chosen, rejected, *reference = example(dtype=np.float64)
  as_labelled = RELATIVE["robust"](chosen, rejected, *reference)
  flipped = RELATIVE["robust"](rejected, chosen, *reference[::-1])
  clean = RELATIVE["dpo"](chosen, rejected, *reference)
  np.testing.assert_allclose(0.9 * as_labelled + 0.1 * flipped, clean, rtol=1e-13)


def test_exo_is_a_divergence_that_vanishes_at_the_soft_label():
  loss, gradient = jax.value_and_grad(lambda x: jnp.sum(RELATIVE["exo"](x, 0 * x, 0 * x, 0 * x)))(
    jnp.array([2 * math.log(9)])
  )
  np.testing.assert_allclose([loss, gradient[0]], [0, 0], atol=1e-6)


def test_aot_compares_sorted_margins():
  # Margins of the policy: 3, 1, 2; of the reference: 0, 2, 1. Sorted: 1, 2, 3 against 0, 1, 2, so every entry is 1.
  zero, policy, reference = np.zeros(3, np.float32), np.float32([3, 1, 2]), np.float32([0, 2, 1])
  expected = np.full(3, -log_sigmoid(0.5))
  np.testing.assert_allclose(preference.aot(policy, zero, reference, zero, beta=0.5), expected, rtol=1e-6)
  # Unpaired it is the rewards that are sorted: chosen 3, −1, 1 → −1, 1, 3; rejected 2, 0, −2 → −2, 0, 2.
  loss = preference.aot_unpaired(policy, np.float32([2, 0, -2]), reference, zero, beta=0.5)
  np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_discopop_has_a_local_minimum_left_of_zero():
  x = np.array([-1.0, -0.11, -0.02, 1.0], np.float32)
  loss = preference.discopop(x, 0 * x, 0 * x, 0 * x, beta=1.0)
  assert loss[1] < loss[2] < loss[0] and loss[3] < loss[1]


def test_kto_floors_the_kl_and_takes_it_per_answer():
  policy, reference, desirable = np.float32([-1, -1]), np.float32([-3, -3]), np.array([True, False])
  call = functools.partial(preference.kto, policy, reference, desirable, beta=0.5, undesirable_weight=2.0)
  np.testing.assert_allclose(call(kl=-7.0), [sigmoid(-1), 2 * sigmoid(1)], rtol=1e-6)
  np.testing.assert_allclose(call(kl=np.float32([1, -7])), [sigmoid(-0.5), 2 * sigmoid(1)], rtol=1e-6)


def test_orpo_takes_another_nll_and_passes_its_gradient_on():
  chosen, rejected = np.float32([-0.5, -1.0]), np.float32([-1.0, -1.0])
  default = preference.orpo(chosen, rejected, weight=0.1)
  np.testing.assert_allclose(default[1], 1 + 0.1 * math.log(2), rtol=1e-6)
  loss, gradient = jax.value_and_grad(
    lambda nll: jnp.sum(preference.orpo(chosen, rejected, weight=0.1, chosen_nll=nll))
  )(3.0)
  np.testing.assert_allclose(loss, jnp.sum(default + chosen + 3), rtol=1e-6)
  assert gradient == 2


def test_orpo_is_finite_where_an_answer_is_certain():
  means = jnp.array([-1e-3, -1e-6, -1e-9, 0.0, -100.0])
  chosen, rejected = (x.ravel() for x in jnp.meshgrid(means, means))
  loss, gradients = jax.value_and_grad(lambda *x: jnp.sum(FREE["orpo"](*x)), argnums=(0, 1))(chosen, rejected)
  assert np.isfinite(loss) and np.isfinite(gradients).all()
  # A certain chosen answer has nothing left to gain, and a certain rejected one costs log(odds).
  np.testing.assert_allclose(FREE["orpo"](jnp.zeros(1), -jnp.ones(1)), [0], atol=1e-7)
  expected = math.log(2) - 0.1 * math.log(np.finfo(np.float32).eps)
  np.testing.assert_allclose(FREE["orpo"](jnp.full(1, -math.log(2)), jnp.zeros(1)), [expected], rtol=1e-6)


def test_orpo_odds_keep_their_digits_near_certainty():
  # odds = 1 / (eˣ − 1) for log p = −x; at x = 1e-5 the float32 1 − p alone would have two digits.
  loss = preference.orpo(np.float32([-2e-5]), np.float32([-1e-5]), weight=1.0, chosen_nll=0.0)
  np.testing.assert_allclose(loss, [math.log1p(math.expm1(2e-5) / math.expm1(1e-5))], rtol=1e-6)


# ---- Reward models.


def test_bradley_terry_by_hand():
  chosen, rejected = np.float32([1, 0]), np.float32([-1, 3])
  np.testing.assert_allclose(
    preference.bradley_terry(chosen, rejected), [math.log1p(math.exp(-2)), math.log1p(math.exp(3))], rtol=1e-6
  )
  loss = preference.bradley_terry(chosen, rejected, margin=np.float32([1, 2 / 3]), centering=0.01)
  np.testing.assert_allclose(loss, [math.log1p(math.exp(-1)), math.log1p(math.exp(11 / 3)) + 0.09], rtol=1e-6)


def ranking(ranks):
  """preferred [N, K, K] of ranks [N, K], lower is better; −1 is padding."""
  ranks = np.asarray(ranks)
  present = (ranks[:, :, None] >= 0) & (ranks[:, None, :] >= 0)
  return present & (ranks[:, :, None] < ranks[:, None, :])


def test_ranked_bradley_terry_averages_over_a_prompts_pairs():
  # Prompt 0: 2 > 0 > −1, three pairs that differ by 2, 3 and 1. Prompt 1: a tie, and one padded answer: one pair fewer.
  rewards = np.float32([[2, 0, -1], [1, 1, np.nan]])
  loss = preference.ranked_bradley_terry(rewards, ranking([[0, 1, 2], [0, 0, -1]]))
  np.testing.assert_allclose(loss, [np.mean([-log_sigmoid(x) for x in (2, 3, 1)]), 0], rtol=1e-6)
  loss = preference.ranked_bradley_terry(rewards, ranking([[0, 1, 1], [0, 1, -1]]))
  np.testing.assert_allclose(loss, [np.mean([-log_sigmoid(x) for x in (2, 3)]), math.log(2)], rtol=1e-6)


def test_ranked_bradley_terry_of_two_answers_is_bradley_terry():
  rng = np.random.default_rng(0)
  rewards, margin = rng.normal(size=(6, 2)).astype(np.float32), rng.uniform(size=6).astype(np.float32)
  first_wins = np.array([True, False] * 3)
  preferred = np.zeros((6, 2, 2), bool)
  preferred[:, 0, 1], preferred[:, 1, 0] = first_wins, ~first_wins
  margins = np.where(preferred, margin[:, None, None], np.nan).astype(np.float32)  # only those of pairs are read

  def ranked(rewards):
    return jnp.sum(preference.ranked_bradley_terry(rewards, preferred, margin=margins, centering=0.01))

  def pairwise(rewards):
    chosen = jnp.where(first_wins, rewards[:, 0], rewards[:, 1])
    rejected = jnp.where(first_wins, rewards[:, 1], rewards[:, 0])
    return jnp.sum(preference.bradley_terry(chosen, rejected, margin=margin, centering=0.01))

  for ours, expected in zip(*(jax.tree.leaves(jax.value_and_grad(f)(rewards)) for f in (ranked, pairwise))):
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


@pytest.mark.parametrize("centering", [0.0, 0.1])
def test_answers_in_no_pair_have_no_gradient_whatever_they_hold(centering):
  rewards = jnp.array([[jnp.nan, jnp.inf, 3.0], [1.0, 2.0, jnp.nan], [0.0, 0.0, 0.0]])
  preferred = ranking([[-1, -1, 0], [0, 1, -1], [0, 0, 0]])
  losses = functools.partial(preference.ranked_bradley_terry, preferred=preferred, centering=centering)
  gradient = jax.grad(lambda r: jnp.sum(losses(r)))(rewards)
  np.testing.assert_array_equal(losses(rewards)[jnp.array([0, 2])], [0, 0])
  np.testing.assert_array_equal(gradient[jnp.array([0, 2])], np.zeros((2, 3)))
  slope = -sigmoid(1)  # of −log σ(1 − 2)
  np.testing.assert_allclose(gradient[1], [slope + 6 * centering, -slope + 6 * centering, 0], rtol=1e-6)


# ---- All of them.


@each_loss
def test_gradients_match_finite_differences(loss, x64):
  chosen, rejected, *reference = example(dtype=np.float64)
  check_grads(lambda c, r: loss(c, r, *reference), (chosen, rejected), order=1, modes=["fwd", "rev"], rtol=1e-5)


@each_loss
def test_jit_changes_nothing(loss):
  # A few units in the last place: XLA fuses and contracts.
  np.testing.assert_allclose(jax.jit(loss)(*example()), loss(*example()), rtol=1e-5, atol=1e-6)


@each_loss
def test_one_loss_per_comparison_in_at_least_float32(loss):
  for given, expected in ((jnp.bfloat16, jnp.float32), (jnp.float32, jnp.float32)):
    result = loss(*(jnp.asarray(x, given) for x in example()))
    assert result.shape == (5,) and result.dtype == expected


@each_relative_loss
def test_bfloat16_logprobs_are_subtracted_in_float32(loss):
  # Exact in bfloat16; their difference, 1 − 2⁻¹⁰, would be rounded to 1.
  inputs = [jnp.full(1, x, jnp.bfloat16) for x in (-(2.0**-10), -2.0, -1.0, -2.0)]
  np.testing.assert_array_equal(loss(*inputs), loss(*(x.astype(jnp.float32) for x in inputs)))
  assert preference.implicit_reward(inputs[0], inputs[2], beta=1.0) == 1 - 2**-10


@pytest.mark.parametrize("name", [*RELATIVE, "kto"])
def test_no_gradient_into_the_reference(name):
  gradients = jax.grad(lambda *x: jnp.sum(LOSSES[name](*x)), argnums=(2, 3))(*example())
  np.testing.assert_array_equal(gradients, np.zeros((2, 5)))


def test_no_gradient_into_the_kl_nor_into_margins():
  policy, _, reference, _ = example()
  desirable = np.array([True, False, True, False, True])
  assert jax.grad(lambda kl: jnp.sum(preference.kto(policy, reference, desirable, kl, beta=0.5)))(1.0) == 0
  assert jax.grad(lambda m: jnp.sum(preference.bradley_terry(policy, reference, margin=m)))(1.0) == 0


@each_loss
def test_extreme_logprobs_give_finite_losses_and_gradients_in_float32(loss):
  policy = jnp.array([-1e4, -1e-30, -1e4, -3.0, -1e-30])
  inputs = policy, policy[::-1], policy[jnp.array([1, 2, 3, 0, 0])], policy
  value, gradients = jax.value_and_grad(lambda *x: jnp.sum(loss(*x)), argnums=(0, 1))(*inputs)
  assert np.isfinite(value) and np.isfinite(gradients).all()


@pytest.mark.parametrize("name", ["dpo", "simpo", "cpo", "bradley_terry"])
def test_a_hopelessly_wrong_order_costs_its_distance(name):
  chosen, rejected = np.float32([-1e4]), np.float32([-1.0])
  scale = {"dpo": 0.5, "simpo": 2.5, "cpo": 0.5, "bradley_terry": 1.0}[name]
  plus = {"dpo": 0.0, "simpo": 1.375, "cpo": 0.0, "bradley_terry": 0.3 + 0.01 * 10001**2}[name]
  loss, gradient = jax.value_and_grad(lambda c: jnp.sum(LOSSES[name](c, rejected, rejected, rejected)))(chosen)
  np.testing.assert_allclose(loss, scale * 9999 + plus, rtol=1e-6)
  centering = 2 * 0.01 * -10001 if name == "bradley_terry" else 0
  np.testing.assert_allclose(gradient, [-scale + centering], rtol=1e-5)


@each_loss
def test_different_shapes_are_refused(loss):
  chosen, rejected, *reference = example()
  with pytest.raises((AssertionError, ValueError)):
    loss(chosen, rejected[:1], *reference)


@pytest.mark.parametrize("name", ["aot", "aot_unpaired"])
def test_sorting_losses_refuse_a_second_axis(name):
  with pytest.raises(AssertionError):
    LOSSES[name](*(x.reshape(5, 1) for x in example()))
