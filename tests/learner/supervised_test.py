"""Tests that loss and gradient of packed rows are those of each example alone.

This holds under both weightings and for any cut.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from posttrain_jax.data.encoding import Example
from posttrain_jax.data.supervised import SupervisedBatches, Weighting
from posttrain_jax.learner import supervised
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.forward import row_hidden
from posttrain_jax.types import InputError
from tests.random_params import graph, names, random_params

CONFIG = TransformerConfig(60, num_layers=2, embed_dim=16, mlp_dim=32, num_heads=2, num_kv_heads=1, head_dim=8)
PROMPT, LEARNED = 2, (3, 5, 2, 4, 1, 6, 2, 3)  # tokens of every prompt; of each example to be learned
ROW = 12  # lengths 5 7 | 4 6 | 3 8 | 4 5 with ends of 0, 2, 1 and 3 tokens


def examples():
  rng = np.random.default_rng(0)
  sizes = [PROMPT + learned for learned in LEARNED]
  return [Example(rng.integers(0, 60, n).astype(np.int32), np.arange(n) >= PROMPT) for n in sizes]


def rows(weighting, *, packed):
  batches = SupervisedBatches(
    examples(),
    batch_size=4 if packed else len(LEARNED),
    seed=0,
    length=ROW if packed else None,
    packed=packed,
    weighting=weighting,
  )
  (batch,) = batches.in_order()
  return jax.tree.map(jnp.asarray, batch)


@functools.cache
def alone():
  """Returns the program of a weighted loss of the examples, each alone, unpadded, from all of its logits."""

  def loss(params, weights):
    model = nnx.merge(graph(CONFIG), params)
    total = 0.0
    for example, weight in zip(examples(), weights):
      tokens = jnp.asarray(example.tokens)
      logits = row_hidden(model, tokens[None])[0, :-1] @ model.unembedding()
      logprobs = jax.nn.log_softmax(logits)[jnp.arange(len(tokens) - 1), tokens[1:]]
      total -= logprobs[PROMPT - 1 :].sum() * weight
    return total

  return jax.jit(jax.value_and_grad(loss))


@functools.cache
def expected(weighting):
  """Computes loss and gradient: each learned token, or each example, weighs the same."""
  counted = {Weighting.TOKEN: [sum(LEARNED)] * 8, Weighting.SEQUENCE: [8 * learned for learned in LEARNED]}
  return alone()(random_params(CONFIG), [1 / count for count in counted[weighting]])


@functools.cache
def program():
  loss = supervised.make_loss(graph(CONFIG), logprob_chunk=7)

  def scalar(params, batch, total):
    output = loss(params, batch, total)
    return output.loss, output

  return jax.jit(jax.value_and_grad(scalar, has_aux=True))


def assert_as_expected(loss, gradient, weighting):
  expected_loss, expected_gradient = expected(weighting)
  np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
  expected_gradient = names(expected_gradient)
  for name, leaf in names(gradient).items():
    np.testing.assert_allclose(leaf, expected_gradient[name], rtol=1e-4, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("weighting", Weighting)
@pytest.mark.parametrize("packed", [False, True])
def test_loss_and_gradient_are_those_of_the_examples_alone(packed, weighting):
  batch = rows(weighting, packed=packed)
  (loss, output), gradient = program()(random_params(CONFIG), batch, supervised.total_weight(batch))
  assert batch.tokens.shape[0] == (4 if packed else 8)
  assert int(output.sums["tokens"]) == sum(LEARNED)
  assert_as_expected(loss, gradient, weighting)


@pytest.mark.parametrize("weighting", Weighting)
@pytest.mark.parametrize("parts", [2, 4])
def test_micro_batches_add_up(parts, weighting):
  batch = rows(weighting, packed=True)
  cut = jax.tree.map(lambda x: x.reshape(parts, 4 // parts, *x.shape[1:]), batch)
  total = supervised.total_weight(cut)
  found = [program()(random_params(CONFIG), jax.tree.map(lambda x, i=i: x[i], cut), total) for i in range(parts)]
  loss = sum(loss for (loss, _), _ in found)
  gradient = jax.tree.map(lambda *leaves: sum(leaves), *[gradient for _, gradient in found])
  assert_as_expected(loss, gradient, weighting)


@pytest.mark.parametrize("weighting", Weighting)
def test_rows_of_short_examples_cost_what_their_tokens_cost(weighting):
  batch = jax.tree.map(np.asarray, rows(weighting, packed=False))
  wide = lambda x: np.pad(x, [(0, 0), (0, ROW - x.shape[1])]) if x.ndim == 2 else x  # noqa: E731
  update = supervised.pack_rows(8, jax.tree.map(wide, batch))
  assert update.count == 4  # of 8 rows with one example each
  found = [
    program()(random_params(CONFIG), jax.tree.map(lambda x, i=i: x[i], update.parts), update.totals) for i in range(4)
  ]
  gradient = jax.tree.map(lambda *leaves: sum(leaves), *[gradient for _, gradient in found])
  assert sum(int(output.sums["tokens"]) for (_, output), _ in found) == sum(LEARNED)
  assert_as_expected(sum(loss for (loss, _), _ in found), gradient, weighting)


def test_what_a_row_drops_depends_on_its_draw_and_the_seed_not_on_the_rows_around_it():
  batch = rows(Weighting.TOKEN, packed=True)
  total = supervised.total_weight(batch)
  rates = supervised.DropoutRates(first=0.1, last=0.4)

  def losses_of(batch, *, parts=1, seed=0, dropout=rates):
    loss = supervised.make_loss(graph(CONFIG), logprob_chunk=7, dropout=dropout, seed=seed)
    cut = jax.tree.map(lambda x: x.reshape(parts, 4 // parts, *x.shape[1:]), batch)
    return jax.jit(lambda cut: jax.lax.map(lambda part: loss(random_params(CONFIG), part, total).loss, cut))(cut)

  whole, parts = losses_of(batch), losses_of(batch, parts=4)
  np.testing.assert_allclose(parts.sum(), whole.sum(), rtol=1e-5)
  plain = losses_of(batch, parts=4, dropout=supervised.DropoutRates(first=0.0, last=0.0))
  other_draws = losses_of(dataclasses.replace(batch, draws=batch.draws + 4), parts=4)
  for other in (plain, other_draws, losses_of(batch, parts=4, seed=1)):
    assert (np.abs(np.asarray(other - parts)) > 1e-3).all()
  np.testing.assert_allclose(plain.sum(), expected(Weighting.TOKEN)[0], rtol=1e-5)
  # The same row under another number drops something else.
  same = jax.tree.map(lambda x: jnp.broadcast_to(x[:1], x.shape), batch)
  assert len(set(losses_of(dataclasses.replace(same, draws=batch.draws), parts=4).tolist())) == 4


@pytest.mark.parametrize("rates", [(-0.1, 0.0), (0.0, 1.0), (0.0, float("nan"))])
def test_rates_that_are_none_are_refused(rates):
  with pytest.raises(InputError, match="dropout: rates"):
    supervised.DropoutRates(*rates)


def test_total_weight_is_that_of_tokens_or_of_examples():
  assert float(supervised.total_weight(rows(Weighting.TOKEN, packed=True))) == sum(LEARNED)
  np.testing.assert_allclose(supervised.total_weight(rows(Weighting.SEQUENCE, packed=True)), 8, rtol=1e-6)


def test_sums_on_held_out_rows_count_every_token_once():
  sums = jax.jit(supervised.make_sums(graph(CONFIG), logprob_chunk=7))
  nll, tokens = sums(random_params(CONFIG), rows(Weighting.SEQUENCE, packed=True))
  assert int(tokens) == sum(LEARNED)
  np.testing.assert_allclose(nll / tokens, expected(Weighting.TOKEN)[0], rtol=1e-5)
