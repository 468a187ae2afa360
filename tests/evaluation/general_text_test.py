"""Tests what is measured on general text against numpy."""

import types

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from posttrain_jax.evaluation.general_text import logit_moves, second_moments
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.forward import row_hidden
from posttrain_jax.models.mlp_inputs import mlp_inputs
from tests.random_params import graph, random_params

MODEL = TransformerConfig(17, num_layers=2, embed_dim=8, mlp_dim=12, num_heads=2, num_kv_heads=1, head_dim=4)
PARAMS = random_params(MODEL)
TEXTS = [np.arange(1, 4), np.array([5]), *[np.arange(2, 2 + n) for n in (6, 2, 3, 4, 5, 6, 3)]]  # more than a batch


def policy(params):
  return types.SimpleNamespace(model=MODEL, params=params)


def test_moments_are_sums_over_all_tokens_of_all_texts():
  sums, count = second_moments(policy(PARAMS), TEXTS)
  assert count == sum(map(len, TEXTS))
  assert sums["input"].dtype == np.float64
  expected = {"input": np.zeros((2, 8, 8)), "hidden": np.zeros((2, 12, 12))}
  for text in TEXTS:
    found = mlp_inputs(nnx.merge(graph(MODEL), PARAMS), jnp.asarray(text[None]))
    for name, each in zip(expected, found):
      rows = np.asarray(each, np.float64)[:, 0]
      expected[name] += np.einsum("lti,ltj->lij", rows, rows)
  for name, each in expected.items():
    np.testing.assert_allclose(sums[name], each, rtol=1e-5, atol=1e-6)


def test_moves_are_the_largest_difference_over_tokens_and_words():
  other = jax.tree.map(lambda leaf: leaf * 1.1, PARAMS)
  found = logit_moves(policy(other), policy(PARAMS), TEXTS)
  assert found.shape == (len(TEXTS),)

  def logits(params, text):
    model = nnx.merge(graph(MODEL), params)
    return np.asarray(row_hidden(model, jnp.asarray(text[None])) @ model.unembedding())

  expected = [np.abs(logits(other, text) - logits(PARAMS, text)).max() for text in TEXTS]
  np.testing.assert_allclose(found, expected, rtol=1e-4)
  np.testing.assert_array_equal(logit_moves(policy(PARAMS), policy(PARAMS), TEXTS), 0)
