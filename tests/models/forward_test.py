"""Tests packed forward passes against every row alone: values and gradients."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from posttrain_jax.learner.packing import AnswerTokens, Packing, sizes_of
from posttrain_jax.models.config import Remat, RopeScaling, TransformerConfig
from posttrain_jax.models.forward import packed_hidden, row_hidden
from tests.models.rows_alone import rows_alone
from tests.random_params import graph, random_params

CONFIG = TransformerConfig(
  vocab_size=19,
  num_layers=2,
  embed_dim=12,
  mlp_dim=16,
  num_heads=4,
  num_kv_heads=2,
  head_dim=6,
  qkv_bias=True,
  qk_norm=True,
  rope_scaling=RopeScaling(factor=4.0, low_frequency_factor=1.0, high_frequency_factor=4.0, original_length=8),
)
rng = np.random.default_rng(0)
PROMPTS, PROMPT_LENGTHS = rng.integers(0, 19, size=(4, 5)), np.array([5, 1, 3, 4])
ANSWERS, LENGTHS = rng.integers(0, 19, size=(4, 3, 4)), rng.integers(1, 5, size=(4, 3))
COUNTED = np.arange(4) < LENGTHS[..., None]  # [P, G, Tc]
# Of the scalar that is differentiated.
WEIGHTS = (rng.normal(size=(4, 3, 4, 12)) * COUNTED[..., None]).astype(np.float32)


def packed(params, *, answers=ANSWERS, tokens=40, remat=Remat.NONE, padding=0):
  """Computes hidden states [P, G, Tc, D] of packed answers, and the gradient.

  Args:
    answers: the answers.
    tokens: of a row.
    remat: what is computed again for the gradient.
    padding: the token at places of a row that hold none.
  """
  batch = AnswerTokens(PROMPTS, PROMPT_LENGTHS, answers, COUNTED)
  packing = Packing(batch, sizes_of(batch, tokens=tokens, shards=1, whole_answers=False))
  assert packing.count > 1
  rows = jax.tree.map(lambda x: x[:, 0], packing.rows)  # several rows in one call
  empty = rows.spans.own == tokens
  assert empty.any()
  rows = dataclasses.replace(rows, tokens=np.where(empty, padding, rows.tokens))
  weights = np.stack([packing.pack(np.ascontiguousarray(WEIGHTS[..., i])) for i in range(12)], axis=-1)[:, 0]
  hidden, gradient = _packed(dataclasses.replace(CONFIG, remat=remat), params, rows, weights)
  hidden = [packing.unpack(np.asarray(hidden)[:, None, :, i]) for i in range(12)]
  return np.stack(hidden, axis=-1), gradient


@functools.partial(jax.jit, static_argnums=0)
def _packed(config, params, rows, weights):
  def scalar(params):
    hidden = packed_hidden(nnx.merge(graph(config), params), rows.tokens, rows.positions, rows.spans)
    return jnp.sum(hidden * weights), hidden

  (_, hidden), gradient = jax.value_and_grad(scalar, has_aux=True)(params)
  return hidden, gradient


@functools.partial(jax.jit, static_argnums=0)
def _rows(config, params, rows, **packing):
  return row_hidden(nnx.merge(graph(config), params), rows, **packing)


@pytest.fixture(scope="module")
def params():
  return random_params(CONFIG)


@pytest.fixture(scope="module")
def together(params):
  return packed(params)


@pytest.fixture(scope="module")
def alone(params):
  rows, places = rows_alone(PROMPTS, PROMPT_LENGTHS, ANSWERS)

  @jax.jit
  def value_and_gradient(params):
    def scalar(params):
      hidden = row_hidden(nnx.merge(graph(CONFIG), params), rows)
      hidden = jnp.take_along_axis(hidden, places[..., None], axis=1).reshape(WEIGHTS.shape)
      return jnp.sum(hidden * WEIGHTS), hidden

    return jax.value_and_grad(scalar, has_aux=True)(params)

  (_, hidden), gradient = value_and_gradient(params)
  return np.asarray(hidden), gradient


@pytest.mark.parametrize(("tokens", "remat"), [(40, Remat.NONE), (15, Remat.ATTENTION)])
def test_packed_answers_equal_repeated_prompts_in_values_and_gradients(tokens, remat, params, alone):
  hidden, gradient = packed(params, tokens=tokens, remat=remat)
  expected, expected_gradient = alone
  np.testing.assert_allclose(hidden[COUNTED], expected[COUNTED], atol=1e-4)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), gradient, expected_gradient)
  # Every parameter has a gradient, but for the head, which hidden states do not meet, and the key's bias, which moves
  # all scores of a query alike where nothing normalises the key.
  for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
    assert np.abs(leaf).max() > 1e-6 or "head" in jax.tree_util.keystr(path), path


def test_what_padding_holds_does_not_matter(params, together):
  """Puts other ids at the places without a token: no bit of a state changes, nor the gradient."""
  hidden, gradient = packed(params, padding=7)
  np.testing.assert_array_equal(hidden, together[0])
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), gradient, together[1])


def test_a_token_is_seen_by_later_tokens_of_its_own_answer_only(params, together):
  p, g = np.argwhere(LENGTHS == 4)[0]
  answers = ANSWERS.copy()
  answers[p, g, 1] = (answers[p, g, 1] + 1) % 19
  hidden, _ = packed(params, answers=answers)
  expected = np.zeros((4, 3, 4), bool)
  expected[p, g, 2:] = True  # index t has not seen answer token t
  np.testing.assert_array_equal(np.any(hidden != together[0], axis=-1), expected)


def test_packed_rows_equal_the_rows_alone_in_values_and_gradients(params):
  lengths = [4, 1, 3, 2]
  samples = [rng.integers(0, 19, size=n) for n in lengths]
  packed = np.concatenate([*samples, [7, 7]])[None]  # two tokens of padding, a segment of their own
  segments = np.concatenate([np.full(n, i) for i, n in enumerate([*lengths, 2])])[None]
  positions = np.concatenate([np.arange(n) for n in [*lengths, 2]])[None]
  weights = (rng.normal(size=(1, 12, 12)) * (segments < 4)[..., None]).astype(np.float32)

  @jax.jit
  def together(params):
    model = nnx.merge(graph(CONFIG), params)
    hidden = row_hidden(model, packed, positions=positions, segment_ids=segments)
    return jnp.sum(hidden * weights), hidden

  padded = np.zeros((4, 4), np.int32)
  for i, sample in enumerate(samples):
    padded[i, : len(sample)] = sample

  @jax.jit
  def alone(params):
    hidden = row_hidden(nnx.merge(graph(CONFIG), params), padded)
    hidden = jnp.concatenate([hidden[i, :n] for i, n in enumerate(lengths)])[None]
    return jnp.sum(hidden * weights[:, :10]), hidden

  (_, packed_hidden), packed_gradient = jax.value_and_grad(together, has_aux=True)(params)
  (_, expected), expected_gradient = jax.value_and_grad(alone, has_aux=True)(params)
  np.testing.assert_allclose(packed_hidden[:, :10], expected, atol=1e-5)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), packed_gradient, expected_gradient)


def test_rows_padded_on_the_right_are_unmoved_by_their_padding(params):
  rows = rows_alone(PROMPTS, PROMPT_LENGTHS, ANSWERS)[0][:, :5]
  poisoned = np.concatenate([rows[:, :3], (rows[:, 3:] + 3) % 19], axis=1)
  np.testing.assert_array_equal(_rows(CONFIG, params, rows)[:, :3], _rows(CONFIG, params, poisoned)[:, :3])
