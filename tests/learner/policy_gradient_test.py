"""Tests the policy-gradient loss: its denominator, and that every way to compute it has the same gradient."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from posttrain_jax import losses
from posttrain_jax.learner import policy_gradient
from posttrain_jax.learner.objective import Aggregation, Objective
from posttrain_jax.learner.packing import Packing, sizes_of
from posttrain_jax.learner.policy_batch import TokenInputs, count_totals, pack_policy
from posttrain_jax.learner.policy_gradient import make_loss, objective_weights, token_inputs
from posttrain_jax.learner.policy_metrics import measure
from tests.learner.lookup_policy import SMALL, before, of_packed, off_policy_batch
from tests.learner.settings import make_correction, make_objective
from tests.learner.small_policy import TC, TP, WHOLE, G, P, make_batch, pack
from tests.random_params import graph, random_params


@pytest.mark.parametrize(
  "objective",
  [
    make_objective(kl_coefficient=0.1, entropy_coefficient=0.05, nll_on_correct=0.2, dual_clip=3.0, temperature=0.8),
    make_objective(aggregation=Aggregation.SEQUENCE_MEAN, surrogate="clipped_importance_weight", clip_low=1.0),
    make_objective(aggregation=Aggregation.PROMPT_MEAN, surrogate="soft_gated_surrogate", logprob_chunk=5),
    make_objective(
      aggregation=Aggregation.FIXED_LENGTH,
      max_new_tokens=TC,
      surrogate="reinforce",
      correction=make_correction(mode="mask", low=0.5, high=2.0),
    ),
  ],
)
def test_the_gradient_of_the_forward_pass_is_autodiffs(objective, monkeypatch, lookup):
  """Losses that are sums over tokens: one computation of the logits against two, on and off policy, all metrics."""
  assert objective.is_sum_over_tokens
  rng = np.random.default_rng(5)
  batch = dataclasses.replace(
    make_batch(prompts=2 * P),
    old_logprobs=rng.normal(-2.8, 0.3, (2 * P, G, TC)).astype(np.float32),
    reference_logprobs=rng.normal(-2.8, 0.3, (2 * P, G, TC)).astype(np.float32),
    correct=rng.random((2 * P, G)) < 0.5,
  )

  def outputs(on_policy):
    loss = make_loss(graph(SMALL), objective, on_policy=on_policy)
    # Whole answers fit both ways to compute.
    sizes = sizes_of(batch, tokens=2 * WHOLE, shards=1, whole_answers=False)
    packed = pack_policy(batch, Packing(batch, sizes))
    assert packed.count == 1

    def scalar(params, part):
      output = loss(params, part, packed.totals)
      return output.loss, (output.sums, output.maxima)

    part = jax.tree.map(lambda x: x[0], packed.parts)
    return jax.jit(jax.value_and_grad(scalar, has_aux=True))(random_params(SMALL), part)

  found = [outputs(on_policy) for on_policy in (True, False)]
  monkeypatch.setattr(Objective, "is_sum_over_tokens", False)
  for (one, gradient), on_policy in zip(found, (True, False)):
    two, expected = outputs(on_policy)
    chex.assert_trees_all_close(one, two, rtol=2e-4, atol=2e-6)
    chex.assert_trees_all_close(gradient, expected, rtol=1e-3, atol=2e-6)
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(expected)) > 1e-3


def of_padded(objective, batch, *, on_policy=False):
  """Computes the same in the padded layout [P, G, Tc], with all logits at once."""
  totals = count_totals(batch)
  counts = {Aggregation.TOKEN_MEAN: totals.tokens, Aggregation.PROMPT_MEAN: totals.prompts}
  weights = losses.aggregate.token_weights(
    batch.mask,
    objective.aggregation,
    denominator=counts.get(objective.aggregation, totals.rows),
    max_length=objective.max_new_tokens,
  )
  right = batch.mask & batch.correct[..., None]
  tokens = TokenInputs(
    mask=batch.mask,
    advantages=np.broadcast_to(batch.advantages, batch.mask.shape),
    sampler_logprobs=batch.sampler_logprobs,
    old_logprobs=None if on_policy else batch.old_logprobs,
    reference_logprobs=batch.reference_logprobs,
    weights=weights,
    nll_weights=right / totals.correct_tokens,
  )

  def scalar(params):
    model = nnx.merge(graph(SMALL), params)
    logprobs_of_all = jax.nn.log_softmax(model.embed[...][before(batch)] @ model.unembedding() / objective.temperature)
    entropy = -(jnp.exp(logprobs_of_all) * logprobs_of_all).sum(-1)
    logprobs = jnp.take_along_axis(logprobs_of_all, batch.answers[..., None], axis=-1)[..., 0]
    loss = policy_gradient.loss_of_tokens(objective, logprobs, entropy, tokens).sum()
    constants = jax.lax.stop_gradient((logprobs, entropy))
    return loss, measure(objective, *constants, tokens, totals.tokens)

  (loss, (sums, maxima)), gradient = jax.jit(jax.value_and_grad(scalar, has_aux=True))(random_params(SMALL))
  return loss, gradient, sums, maxima


@pytest.mark.parametrize(
  "objective",
  [
    make_objective(aggregation=Aggregation.TOKEN_MEAN, kl_coefficient=0.1, entropy_coefficient=0.05, dual_clip=3.0),
    make_objective(aggregation=Aggregation.PROMPT_MEAN, nll_on_correct=0.2, temperature=0.8),
    make_objective(aggregation=Aggregation.SEQUENCE_MEAN, surrogate="sequence_clipped_surrogate"),
    make_objective(aggregation=Aggregation.SEQUENCE_SUM, correction=make_correction(level="sequence", high=1.5)),
    make_objective(
      aggregation=Aggregation.FIXED_LENGTH,
      max_new_tokens=TC,
      surrogate="geometric_mean_surrogate",
      correction=make_correction(level="geometric", mode="mask", low=0.5, high=2.0),
    ),
  ],
  ids=lambda objective: f"{objective.aggregation}-{objective.surrogate}",
)
def test_packed_rows_give_loss_gradient_and_metrics_of_the_padded_layout(objective, lookup):
  rng = np.random.default_rng(5)
  made = off_policy_batch()
  batch = dataclasses.replace(
    made,
    reference_logprobs=rng.normal(-2.8, 0.3, made.mask.shape).astype(np.float32),
    correct=np.array([[True, False, True], [False, True, False]]),
    advantages=rng.normal(size=made.mask.shape).astype(np.float32),  # of tokens
  )
  expected = of_padded(objective, batch)
  assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(expected[1])) > 1e-3
  counts = []
  for tokens, shards in ((WHOLE, 1), (TP - 1 + TC, 2)):
    found, count = of_packed(objective, batch, tokens=tokens, shards=shards)
    counts.append(count)
    chex.assert_trees_all_close(found, expected, rtol=2e-4, atol=2e-6)
  assert counts[0] == 1 < counts[1]


@pytest.mark.parametrize(
  ("surrogate", "options"), [("sequence_clipped_surrogate", {}), ("soft_gated_surrogate", {"tau_neg": 2.0})]
)
def test_on_policy_a_surrogate_gives_the_plain_policy_gradient(surrogate, options, lookup):
  """At a ratio of 1 they are REINFORCE with a baseline."""
  settings = dict(aggregation=Aggregation.SEQUENCE_MEAN, correction=make_correction(level="off"))
  changed = make_objective(surrogate=surrogate, surrogate_options=options, **settings)
  (_, expected, *_), _ = of_packed(make_objective(**settings), off_policy_batch(), on_policy=True)
  (_, gradient, sums, maxima), _ = of_packed(changed, off_policy_batch(), on_policy=True)
  assert sums["clip/high"] == sums["clip/low"] == 0 and maxima["ratio/max"] == 1 and "correction/weight" not in sums
  assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(expected)) > 1e-3
  chex.assert_trees_all_close(gradient, expected, atol=1e-6)


def test_the_entropy_bonus_is_taken_off_the_loss(lookup):
  plain, bonus = (of_packed(make_objective(entropy_coefficient=weight), off_policy_batch())[0] for weight in (0, 0.5))
  assert bonus[0] == pytest.approx(float(plain[0]) - 0.5 * float(plain[2]["entropy"]), rel=1e-5)


@pytest.mark.parametrize("aggregation", Aggregation)
def test_the_loss_is_divided_by_counts_of_the_whole_update(aggregation):
  batch = off_policy_batch()
  packed = pack(batch, tokens=12)
  assert packed.count > 1
  totals = jax.tree.map(lambda count: 10 * count, packed.totals)
  objective = make_objective(aggregation=aggregation)
  parts = [jax.tree.map(lambda x, i=i: x[i], packed.parts) for i in range(len(packed.parts.mask))]
  found = np.stack([objective_weights(objective, part, totals) for part in parts]).astype(np.float64)
  mask = batch.mask
  expected = {
    "token_mean": np.full(mask.shape, 1 / (10 * mask.sum())),
    "prompt_mean": np.broadcast_to(1 / (10 * 2 * mask.sum((1, 2), keepdims=True)), mask.shape),
    "sequence_mean": 1 / (10 * mask.any(-1).sum() * np.maximum(mask.sum(-1, keepdims=True), 1)) * np.ones(TC),
    "sequence_sum": np.full(mask.shape, 1 / (10 * mask.any(-1).sum())),
    "fixed_length": np.full(mask.shape, 1 / (10 * mask.any(-1).sum() * 6)),
  }[aggregation]
  sizes = sizes_of(batch, tokens=12, shards=1, whole_answers=False)
  np.testing.assert_allclose(Packing(batch, sizes).unpack(found), np.where(mask, expected, 0), rtol=1e-6)
  assert not found[~packed.parts.mask].any()


def test_what_a_token_needs_and_no_more():
  batch = dataclasses.replace(off_policy_batch(), reference_logprobs=off_policy_batch().sampler_logprobs)
  packed = pack(batch)
  parts, totals = packed.parts, packed.totals
  off = token_inputs(make_objective(), parts, totals, on_policy=False)
  assert off.old_logprobs is parts.old_logprobs and off.reference_logprobs is off.nll_weights is None
  assert off.advantages.shape == parts.mask.shape
  on = token_inputs(make_objective(kl_coefficient=0.1), parts, totals, on_policy=True)
  assert on.old_logprobs is None and on.reference_logprobs is not None
  with pytest.raises(ValueError, match="old_logprobs: missing"):
    token_inputs(make_objective(), dataclasses.replace(parts, old_logprobs=None), totals, on_policy=False)


def test_the_likelihood_of_correct_answers_has_a_denominator_of_its_own():
  batch = off_policy_batch()
  correct = np.zeros((2, G), bool)
  correct[1, :2] = True
  packed = pack(dataclasses.replace(batch, correct=correct))
  weights = token_inputs(make_objective(nll_on_correct=0.1), packed.parts, packed.totals, on_policy=False).nll_weights
  count = batch.mask[1, :2].sum()
  assert int(packed.totals.correct_tokens) == count and (np.asarray(weights) > 0).sum() == count
  np.testing.assert_allclose(weights, np.where(packed.parts.mask & packed.parts.correct, 1 / count, 0), rtol=1e-6)
  assert losses.aggregate.total(weights) == pytest.approx(1)
