"""Tests the gradient that a forward pass makes.

It is compared with autodiff of `token_logprobs` and of all logits at once.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posttrain_jax.losses.fused_loss import summed_token_loss
from posttrain_jax.losses.logprobs import token_logprobs
from posttrain_jax.performance.compile.compiled import instructions
from tests.losses.logprobs_example import CHUNK, LARGE_VOCABULARY, TOKENS, arguments, example, full, shapes_in


def loss_of_tokens(logprobs, entropies, data):
  """Computes a loss that is not linear, differs for each token, and is 0 for padding."""
  weights, mask = data
  return jnp.where(mask, weights * (jnp.exp(logprobs) - 0.3 * logprobs * entropies + entropies**2), 0)


def data_for(targets):
  rng = np.random.default_rng(3)
  return rng.normal(size=targets.shape), rng.random(targets.shape) < 0.8


def of_all_logits(hidden, unembedding, targets, **options):
  logprobs, entropies = full(hidden, unembedding, targets, **options)
  return loss_of_tokens(logprobs, entropies, data_for(targets)).sum(), (logprobs, entropies)


def with_gradients(function, *arrays):
  return jax.jit(jax.value_and_grad(function, argnums=(0, 1), has_aux=True))(*arrays)


@pytest.mark.parametrize(
  ("shape", "chunking"),
  [
    ((3, 7), dict(chunk=1)),
    ((3, 7), dict(chunk=2)),  # fewer than the rows
    ((3, 7), dict(chunk=5)),  # does not divide
    ((3, 7), dict(chunk=100)),
    ((2, 3, 5), dict(chunk=4)),
    ((7,), dict(chunk=4)),
    ((6, 5), dict(chunk=8, shards=3)),
  ],
)
@pytest.mark.parametrize("options", [{}, {"temperature": 0.7, "softcap": 3.0}])
def test_loss_and_gradients_are_those_of_all_logits(shape, chunking, options, x64):
  hidden, unembedding, targets = example(shape)
  fused = lambda h, w: summed_token_loss(loss_of_tokens, h, w, targets, data_for(targets), **options, **chunking)  # noqa: E731
  expected = with_gradients(functools.partial(of_all_logits, targets=targets, **options), hidden, unembedding)
  found = with_gradients(fused, hidden, unembedding)
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  for ours, wanted in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
    np.testing.assert_allclose(ours, wanted, atol=1e-11)
  # Without a gradient as well.
  loss, made = jax.jit(fused)(hidden, unembedding)
  np.testing.assert_allclose(loss, expected[0][0], atol=1e-11)
  np.testing.assert_allclose(made, expected[0][1], atol=1e-11)


@pytest.mark.parametrize(("needed", "chunking"), [(4, dict(chunk=8)), (0, dict(chunk=8)), (5, dict(chunk=2, shards=3))])
def test_chunks_behind_the_tokens_that_are_needed_are_not_computed(needed, chunking, x64):
  hidden, unembedding, targets = example((3, 7))
  data = data_for(targets)
  first = np.arange(7) < needed
  data = data[0], data[1] & first
  hidden = np.where((np.arange(7) < 6)[:, None], hidden, np.nan)  # not even read: 0 · NaN would be NaN

  @jax.jit
  def fused(hidden, unembedding, needed):
    scalar = lambda h, w: summed_token_loss(loss_of_tokens, h, w, targets, data, needed=needed, **chunking)  # noqa: E731
    return jax.value_and_grad(scalar, (0, 1), has_aux=True)(hidden, unembedding)

  (loss, (logprobs, _)), gradients = fused(hidden, unembedding, needed)
  whole = np.nan_to_num(hidden)
  of_all = lambda h, w: (loss_of_tokens(*full(h, w, targets), data).sum(), full(h, w, targets)[0])  # noqa: E731
  (expected, every), wanted = with_gradients(of_all, whole, unembedding)
  np.testing.assert_allclose(loss, expected, atol=1e-11)
  np.testing.assert_allclose(logprobs[:, :needed], every[:, :needed], atol=1e-11)
  assert not np.asarray(logprobs)[:, 6:].any()
  for ours, other in zip(gradients, wanted):
    np.testing.assert_allclose(ours, other, atol=1e-11)


def test_a_factor_on_the_loss_scales_the_gradients(x64):
  hidden, unembedding, targets = example()
  one, three = (
    jax.grad(
      lambda h, w, f=f: f * summed_token_loss(loss_of_tokens, h, w, targets, data_for(targets), chunk=4)[0], (0, 1)
    )(hidden, unembedding)
    for f in (1.0, 3.0)
  )
  for a, b in zip(one, three):
    np.testing.assert_allclose(3 * a, b, rtol=1e-12)


def test_logprobs_and_data_are_constants(x64):
  hidden, unembedding, targets = example()

  def loss(hidden, weights):
    value, (logprobs, entropies) = summed_token_loss(
      loss_of_tokens, hidden, unembedding, targets, (weights, data_for(targets)[1]), chunk=4
    )
    return 0 * value + logprobs.sum() + entropies.sum() + value

  to_hidden, to_weights = jax.grad(loss, (0, 1))(hidden, data_for(targets)[0])
  alone = jax.grad(lambda h: summed_token_loss(loss_of_tokens, h, unembedding, targets, data_for(targets), chunk=4)[0])(
    hidden
  )
  np.testing.assert_array_equal(to_hidden, alone)
  assert not np.any(to_weights)


def test_bfloat16_agrees_with_the_logprobs_own_gradient():
  hidden, unembedding, targets = example((2, 9), width=64, vocabulary=32, dtype=np.float32)
  low = jnp.asarray(hidden, jnp.bfloat16), jnp.asarray(unembedding, jnp.bfloat16)
  data = jax.tree.map(lambda x: x.astype(np.float32) if x.dtype == float else x, data_for(targets))

  def unfused(h, w):
    return loss_of_tokens(*token_logprobs(h, w, targets, chunk=4, entropy=True), data).sum()

  expected = jax.jit(jax.value_and_grad(unfused, (0, 1)))(*low)
  found = jax.jit(
    jax.value_and_grad(lambda h, w: summed_token_loss(loss_of_tokens, h, w, targets, data, chunk=4)[0], (0, 1))
  )(*low)
  for ours, wanted in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
    assert ours.dtype == wanted.dtype
    np.testing.assert_allclose(ours.astype(jnp.float32), wanted.astype(jnp.float32), rtol=1e-2, atol=1e-3)


def test_bad_shapes():
  hidden, unembedding, targets = example()
  with pytest.raises(AssertionError):
    summed_token_loss(loss_of_tokens, hidden, unembedding, targets[:2], data_for(targets[:2]), chunk=4)
  with pytest.raises(AssertionError):
    summed_token_loss(loss_of_tokens, hidden, unembedding, targets, data_for(targets[:2]), chunk=4)
  with pytest.raises(ValueError, match=r"shards: expected a divisor of the 3 rows .* found 2"):
    summed_token_loss(loss_of_tokens, hidden, unembedding, targets, data_for(targets), chunk=4, shards=2)


def loss_and_gradients(chunk):
  def loss(hidden, unembedding, targets):
    data = jnp.ones(targets.shape), jnp.ones(targets.shape, bool)
    return summed_token_loss(loss_of_tokens, hidden, unembedding, targets, data, chunk=chunk)[0]

  return jax.value_and_grad(loss, argnums=(0, 1))


def test_no_more_logits_than_a_chunks_exist_and_each_product_is_made_once():
  jaxpr = jax.make_jaxpr(loss_and_gradients(CHUNK))(*arguments(16, TOKENS)).jaxpr
  assert max(np.prod(shape) for shape in shapes_in(jaxpr)) == CHUNK * LARGE_VOCABULARY
  text = jax.jit(loss_and_gradients(CHUNK)).lower(*arguments(16, TOKENS)).as_text()
  assert text.count("stablehlo.dot_general") == 3  # logits, and the gradients of both of their factors


def test_an_answer_of_20480_tokens_and_a_vocabulary_of_152064():
  tokens, vocabulary, width, chunk = 20_480, 152_064, 16, 1024
  shapes = (1, tokens, width), (width, vocabulary), (1, tokens)
  given = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in zip(shapes, (jnp.bfloat16, jnp.float32, jnp.int32))]
  program = jax.jit(loss_and_gradients(chunk)).lower(*given).compile()
  assert max(array.size for each in instructions(program.as_text()) for array in each.arrays) == chunk * vocabulary
  assert program.memory_analysis().temp_size_in_bytes < 4 * tokens * vocabulary / 4  # a quarter of all logits
