"""Tests that loss and gradient depend on no chunk of logits, whatever the surrogate looks at."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from posttrain_jax.learner.objective import surrogates
from posttrain_jax.losses import policy, token_surrogates
from posttrain_jax.losses.surrogate import per_token_surrogate
from tests.learner.lookup_policy import SMALL, before, of_packed, off_policy_batch
from tests.learner.settings import make_correction, make_objective
from tests.random_params import graph, random_params

OPTIONS = {
  "clip_cov": {"share": 0.2, "cov_low": 0.1},
  "kl_cov": {"share": 0.2},
}


def expected_loss_and_gradient(objective, batch):
  """Differentiates through all logits at once: no chunk, no other function of `learner`."""

  def loss(params):
    model = nnx.merge(graph(SMALL), params)
    logits = model.embed[...][before(batch)] @ model.unembedding()
    logprobs = jnp.take_along_axis(jax.nn.log_softmax(logits), batch.answers[..., None], axis=-1)[..., 0]
    surrogate = getattr(policy, objective.surrogate)
    parameters = inspect.signature(surrogate).parameters
    taken = {name: getattr(objective, name) for name in ("clip_low", "clip_high") if name in parameters}
    advantages = jnp.broadcast_to(batch.advantages, batch.mask.shape)
    of_tokens = surrogate(logprobs, batch.old_logprobs, advantages, batch.mask, **taken, **objective.surrogate_options)
    return jnp.where(batch.mask, of_tokens, 0).sum() / batch.mask.sum()

  return jax.jit(jax.value_and_grad(loss))(random_params(SMALL))


def assert_right_in_chunks(*chunks, **changes):
  batch, off = off_policy_batch(), make_correction(level="off")
  expected, expected_gradient = expected_loss_and_gradient(make_objective(correction=off, **changes), batch)
  assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(expected_gradient)) > 1e-3
  for chunk in chunks:
    objective = make_objective(correction=off, logprob_chunk=chunk, **changes)
    (loss, gradient, *_), _ = of_packed(objective, batch)
    np.testing.assert_allclose(loss, expected, rtol=1e-4, atol=1e-6)
    for found, wanted in zip(jax.tree.leaves(gradient), jax.tree.leaves(expected_gradient)):
      np.testing.assert_allclose(found, wanted, rtol=2e-3, atol=2e-5, err_msg=f"chunk {chunk}")


@pytest.mark.parametrize("surrogate", surrogates())
def test_every_surrogate_is_right_in_chunks_of_a_token(surrogate, lookup):
  assert_right_in_chunks(1, surrogate=surrogate, surrogate_options=OPTIONS.get(surrogate, {}))


@pytest.mark.parametrize("surrogate", ["clipped_surrogate", "sequence_clipped_surrogate"])
def test_loss_and_gradient_do_not_depend_on_the_chunk(surrogate, lookup):
  assert_right_in_chunks(7, 1024, surrogate=surrogate)  # parts of rows, all tokens


def row_mixing(learner_logprobs, old_logprobs, advantages, mask):
  """Computes a surrogate as a user may write it: each token weighs with the ratio of its whole row."""
  ratio = jnp.exp(jnp.where(mask, learner_logprobs - old_logprobs, 0).mean(axis=-1, keepdims=True))
  return jnp.where(mask, -ratio * advantages * jnp.exp(learner_logprobs), 0)


def test_a_new_surrogate_that_mixes_a_rows_tokens_is_right_without_saying_anything(monkeypatch, lookup):
  # In whatever file it stands.
  monkeypatch.setattr(token_surrogates, "row_mixing", row_mixing, raising=False)
  monkeypatch.setattr(policy, "row_mixing", row_mixing, raising=False)
  assert "row_mixing" in surrogates() and not make_objective(surrogate="row_mixing").is_sum_over_tokens
  assert_right_in_chunks(1, surrogate="row_mixing")


def test_the_chunk_would_show_a_mark_that_is_wrong(monkeypatch, lookup):
  @per_token_surrogate
  def marked(learner_logprobs, old_logprobs, advantages, mask):
    return row_mixing(learner_logprobs, old_logprobs, advantages, mask)

  monkeypatch.setattr(policy, "marked", marked, raising=False)
  with pytest.raises(AssertionError, match="Not equal to tolerance"):
    assert_right_in_chunks(1, surrogate="marked")
