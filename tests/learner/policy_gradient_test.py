"""Tests the policy-gradient loss: its denominator, and that every way to compute it has the same gradient."""

import dataclasses
import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from posttrain_jax import losses
from posttrain_jax.learner.division import Division
from posttrain_jax.learner.objective import Aggregation, Objective, surrogates
from posttrain_jax.learner.policy_batch import count_totals
from posttrain_jax.learner.policy_gradient import make_loss, objective_weights, token_inputs
from posttrain_jax.learner.policy_learner import PolicyLearner
from posttrain_jax.losses import policy, token_surrogates
from posttrain_jax.losses.surrogate import per_token_surrogate
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.forward import answer_hidden
from posttrain_jax.parallel.mesh import make_mesh
from tests.learner.settings import make_correction, make_objective
from tests.learner.small_policy import MODEL, OPTIMIZER, TC, G, P, host, make_batch
from tests.random_params import graph, random_params

SMALL = TransformerConfig(17, num_layers=1, embed_dim=8, mlp_dim=16, num_heads=2, num_kv_heads=1, head_dim=4)
OPTIONS = {
  "clip_cov": {"share": 0.2, "cov_low": 0.1},
  "kl_cov": {"share": 0.2},
}


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
def test_the_gradient_of_the_forward_pass_is_autodiffs(objective, monkeypatch):
  """Compares one computation of the logits with two, for losses that are sums over tokens.

  The comparison is on and off policy, with all metrics.
  """
  assert objective.is_sum_over_tokens
  rng = np.random.default_rng(5)
  batch = dataclasses.replace(
    make_batch(prompts=2 * P),
    reference_logprobs=rng.normal(-2.8, 0.3, (2 * P, G, TC)).astype(np.float32),
    correct=rng.random((2 * P, G)) < 0.5,
  )

  def train():
    learner = PolicyLearner(
      MODEL,
      objective,
      OPTIMIZER,
      make_mesh({}, jax.devices()[:1]),
      Division(prompts_per_update=P, micro_batches=2, rows_per_prompt=1),
      max_skipped_updates=3,
      seed=0,
    )
    return learner.train(batch), host(learner.state.params)

  metrics, params = train()
  monkeypatch.setattr(Objective, "is_sum_over_tokens", False)
  expected_metrics, expected_params = train()
  assert metrics.keys() == expected_metrics.keys()
  for name, expected in expected_metrics.items():
    np.testing.assert_allclose(metrics[name], expected, rtol=2e-4, atol=2e-6, err_msg=name)
  for found, expected in zip(jax.tree.leaves(params), jax.tree.leaves(expected_params)):
    np.testing.assert_allclose(found, expected, atol=2e-5)


@functools.cache
def off_policy_batch():
  """Makes two prompts with holes and an empty answer, and ratios on both sides of every clip."""
  made, rng = make_batch(3, prompts=2), np.random.default_rng(4)
  mask = made.mask & (rng.random(made.mask.shape) < 0.8)
  mask[0, 0], mask[1, 1] = False, True
  old = rng.normal(-2.8, 0.4, mask.shape).astype(np.float32)
  return dataclasses.replace(made, mask=mask, old_logprobs=old)


def loss_and_gradient(objective, batch):
  loss = make_loss(graph(SMALL), objective, on_policy=False)
  scalar = lambda params, batch: loss(params, batch, count_totals(batch)).loss  # noqa: E731
  return jax.jit(jax.value_and_grad(scalar))(random_params(SMALL), batch)


def expected_loss_and_gradient(objective, batch):
  """Differentiates through all logits at once: no chunk, no other function of `learner`."""

  def loss(params):
    model = nnx.merge(graph(SMALL), params)
    logits = answer_hidden(model, batch.prompts, batch.prompt_lengths, batch.answers) @ model.unembedding()
    logprobs = jnp.take_along_axis(jax.nn.log_softmax(logits), batch.answers[..., None], axis=-1)[..., 0]
    surrogate = getattr(policy, objective.surrogate)
    parameters = inspect.signature(surrogate).parameters
    taken = {name: getattr(objective, name) for name in ("clip_low", "clip_high") if name in parameters}
    advantages = jnp.broadcast_to(batch.advantages, batch.mask.shape)
    of_tokens = surrogate(logprobs, batch.old_logprobs, advantages, batch.mask, **taken, **objective.surrogate_options)
    return jnp.where(batch.mask, of_tokens, 0).sum() / batch.mask.sum()

  return jax.jit(jax.value_and_grad(loss))(random_params(SMALL))


def assert_right_whatever_the_chunk(**changes):
  batch, off = off_policy_batch(), make_correction(level="off")
  expected, expected_gradient = expected_loss_and_gradient(make_objective(correction=off, **changes), batch)
  assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(expected_gradient)) > 1e-3
  for chunk in (1, 7, 1024):  # a token, parts of rows, all tokens
    loss, gradient = loss_and_gradient(make_objective(correction=off, logprob_chunk=chunk, **changes), batch)
    np.testing.assert_allclose(loss, expected, rtol=1e-4, atol=1e-6)
    for found, wanted in zip(jax.tree.leaves(gradient), jax.tree.leaves(expected_gradient)):
      np.testing.assert_allclose(found, wanted, rtol=2e-3, atol=2e-5, err_msg=f"chunk {chunk}")


@pytest.mark.parametrize("surrogate", surrogates())
def test_loss_and_gradient_do_not_depend_on_the_chunk(surrogate):
  assert_right_whatever_the_chunk(surrogate=surrogate, surrogate_options=OPTIONS.get(surrogate, {}))


def row_mixing(learner_logprobs, old_logprobs, advantages, mask):
  """Computes a surrogate as a user may write it: each token weighs with the ratio of its whole row."""
  ratio = jnp.exp(jnp.where(mask, learner_logprobs - old_logprobs, 0).mean(axis=-1, keepdims=True))
  return jnp.where(mask, -ratio * advantages * jnp.exp(learner_logprobs), 0)


def test_a_new_surrogate_that_mixes_a_rows_tokens_is_right_without_saying_anything(monkeypatch):
  # In whatever file it stands.
  monkeypatch.setattr(token_surrogates, "row_mixing", row_mixing, raising=False)
  monkeypatch.setattr(policy, "row_mixing", row_mixing, raising=False)
  assert "row_mixing" in surrogates() and not make_objective(surrogate="row_mixing").is_sum_over_tokens
  assert_right_whatever_the_chunk(surrogate="row_mixing")


def test_the_chunk_would_show_a_mark_that_is_wrong(monkeypatch):
  @per_token_surrogate
  def marked(learner_logprobs, old_logprobs, advantages, mask):
    return row_mixing(learner_logprobs, old_logprobs, advantages, mask)

  monkeypatch.setattr(policy, "marked", marked, raising=False)
  with pytest.raises(AssertionError, match="Not equal to tolerance"):
    assert_right_whatever_the_chunk(surrogate="marked")


@pytest.mark.parametrize("aggregation", Aggregation)
def test_the_loss_is_divided_by_counts_of_the_whole_update(aggregation):
  batch = off_policy_batch()
  totals = jax.tree.map(lambda count: 10 * count, count_totals(batch))
  weights = np.asarray(objective_weights(make_objective(aggregation=aggregation), batch, totals), np.float64)
  mask = batch.mask
  expected = {
    "token_mean": np.full(mask.shape, 1 / (10 * mask.sum())),
    "prompt_mean": np.broadcast_to(1 / (10 * 2 * mask.sum((1, 2), keepdims=True)), mask.shape),
    "sequence_mean": 1 / (10 * mask.any(-1).sum() * np.maximum(mask.sum(-1, keepdims=True), 1)) * np.ones(TC),
    "sequence_sum": np.full(mask.shape, 1 / (10 * mask.any(-1).sum())),
    "fixed_length": np.full(mask.shape, 1 / (10 * mask.any(-1).sum() * 6)),
  }[aggregation]
  np.testing.assert_allclose(weights, np.where(mask, expected, 0), rtol=1e-6)


def test_what_a_token_needs_and_no_more():
  batch = dataclasses.replace(off_policy_batch(), reference_logprobs=off_policy_batch().sampler_logprobs)
  totals = count_totals(batch)
  off = token_inputs(make_objective(), batch, totals, on_policy=False)
  assert off.old_logprobs is batch.old_logprobs and off.reference_logprobs is off.nll_weights is None
  assert off.advantages.shape == batch.mask.shape
  on = token_inputs(make_objective(kl_coefficient=0.1), batch, totals, on_policy=True)
  assert on.old_logprobs is None and on.reference_logprobs is not None
  with pytest.raises(ValueError, match="old_logprobs: missing"):
    token_inputs(make_objective(), dataclasses.replace(batch, old_logprobs=None), totals, on_policy=False)


def test_the_likelihood_of_correct_answers_has_a_denominator_of_its_own():
  batch = off_policy_batch()
  correct = np.zeros((2, G), bool)
  correct[1, :2] = True
  batch = dataclasses.replace(batch, correct=correct)
  totals = count_totals(batch)
  weights = token_inputs(make_objective(nll_on_correct=0.1), batch, totals, on_policy=False).nll_weights
  count = batch.mask[1, :2].sum()
  assert int(totals.correct_tokens) == count
  np.testing.assert_allclose(weights, np.where(batch.mask & correct[..., None], 1 / count, 0), rtol=1e-6)
  assert losses.aggregate.total(weights) == pytest.approx(1)
