"""Tests packed and grouped forward passes against every row alone: values and gradients."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from posttrain_jax.learner.packing import Packing, sizes_of
from posttrain_jax.models.config import Remat, RopeScaling, TransformerConfig
from posttrain_jax.models.forward import answer_hidden, packed_hidden, row_hidden
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
WEIGHTS = (rng.normal(size=(4, 3, 4, 12)) * COUNTED[..., None]).astype(
  np.float32
)  # of the scalar that is differentiated


@functools.partial(jax.jit, static_argnums=0)
def _grouped(config, params, prompts, answers, lengths):
  def scalar(params):
    hidden = answer_hidden(nnx.merge(graph(config), params), prompts, lengths, answers)
    return jnp.sum(hidden * WEIGHTS), hidden

  (_, hidden), gradient = jax.value_and_grad(scalar, has_aux=True)(params)
  return hidden, gradient


class _Batch:
  """Holds the answers for `Packing`."""

  prompts, prompt_lengths, answers, mask = PROMPTS, PROMPT_LENGTHS, ANSWERS, COUNTED


@functools.partial(jax.jit, static_argnums=0)
def _packed(config, params, rows, weights):
  def scalar(params):
    hidden = packed_hidden(nnx.merge(graph(config), params), rows.tokens, rows.positions, rows.spans)
    return jnp.sum(hidden * weights), hidden

  (_, hidden), gradient = jax.value_and_grad(scalar, has_aux=True)(params)
  return hidden, gradient


@pytest.mark.parametrize(("tokens", "remat"), [(40, "none"), (15, "attention")])
def test_packed_answers_equal_grouped_ones(tokens, remat, params, grouped):
  packing = Packing(_Batch, sizes_of(_Batch, tokens=tokens, shards=1, whole_answers=False))
  assert packing.count > 1
  rows = jax.tree.map(lambda x: x[:, 0], packing.rows)  # several rows in one call
  weights = np.stack([packing.pack(np.ascontiguousarray(WEIGHTS[..., i])) for i in range(12)], axis=-1)[:, 0]
  hidden, gradient = _packed(dataclasses.replace(CONFIG, remat=Remat(remat)), params, rows, weights)
  expected, expected_gradient = grouped
  for i in range(12):
    found = packing.unpack(np.asarray(hidden)[:, None, :, i])
    np.testing.assert_allclose(found[COUNTED], np.asarray(expected)[..., i][COUNTED], atol=1e-4)
  for one, other in zip(jax.tree.leaves(gradient), jax.tree.leaves(expected_gradient)):
    np.testing.assert_allclose(one, other, atol=1e-4, rtol=1e-3)


@functools.partial(jax.jit, static_argnums=0)
def _rows(config, params, rows, **packing):
  return row_hidden(nnx.merge(graph(config), params), rows, **packing)


@pytest.fixture(scope="module")
def params():
  return random_params(CONFIG)


@pytest.fixture(scope="module")
def grouped(params):
  return _grouped(CONFIG, params, PROMPTS, ANSWERS, PROMPT_LENGTHS)


def repeated_rows():
  """Makes the same 12 sequences [P * G, Tp + Tc], right-padded, with the prompt in front of each answer."""
  rows = np.zeros((12, 9), np.int32)
  for p in range(4):
    for g in range(3):
      n = PROMPT_LENGTHS[p]
      rows[3 * p + g, :n] = PROMPTS[p, :n]
      rows[3 * p + g, n : n + 4] = ANSWERS[p, g]
  return rows


def predicting(hidden):
  """Reorders rows' hidden states [P * G, T, D] to [P, G, Tc, D].

  Index t is before answer token t.
  """
  at = PROMPT_LENGTHS[:, None] - 1 + np.arange(4)
  return jnp.stack([hidden[3 * p : 3 * p + 3, at[p]] for p in range(4)])


def test_grouped_answers_equal_repeated_prompts_in_values_and_gradients(params, grouped):
  rows = repeated_rows()

  def scalar(params):
    hidden = predicting(row_hidden(nnx.merge(graph(CONFIG), params), rows))
    return jnp.sum(hidden * WEIGHTS), hidden

  (_, expected), expected_gradient = jax.jit(jax.value_and_grad(scalar, has_aux=True))(params)
  np.testing.assert_allclose(grouped[0], expected, atol=1e-5)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), grouped[1], expected_gradient)
  # Every parameter has a gradient, but for the head, which hidden states do not meet, and the key's bias, which moves
  # all scores of a query alike where nothing normalises the key.
  for path, leaf in jax.tree_util.tree_leaves_with_path(grouped[1]):
    assert np.abs(leaf).max() > 1e-6 or "head" in jax.tree_util.keystr(path), path


def test_what_padding_holds_does_not_matter(params, grouped):
  """Puts other ids into the padding of prompts and answers.

  No bit changes where tokens are real, nor in any gradient.
  """
  poison = np.random.default_rng(9)
  prompts = np.where(np.arange(5) < PROMPT_LENGTHS[:, None], PROMPTS, poison.integers(0, 19, size=(4, 5)))
  answers = np.where(COUNTED, ANSWERS, poison.integers(0, 19, size=(4, 3, 4)))
  assert (prompts != PROMPTS).any() and (answers != ANSWERS).any()
  hidden, gradient = _grouped(CONFIG, params, prompts, answers, PROMPT_LENGTHS)
  np.testing.assert_array_equal(np.asarray(hidden)[COUNTED], np.asarray(grouped[0])[COUNTED])
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), gradient, grouped[1])


def test_a_token_is_seen_by_later_tokens_of_its_own_answer_only(params, grouped):
  answers = ANSWERS.copy()
  answers[0, 1, 1] += 1
  answers[0, 1, 1] %= 19
  hidden, _ = _grouped(CONFIG, params, PROMPTS, answers, PROMPT_LENGTHS)
  changed = np.any(np.asarray(hidden) != np.asarray(grouped[0]), axis=-1)
  expected = np.zeros((4, 3, 4), bool)
  expected[0, 1, 2:] = True  # index t has not seen answer token t
  np.testing.assert_array_equal(changed, expected)


def test_prompts_of_one_token(params):
  """A prompt axis of width 1 leaves no prefix at all."""
  forward = jax.jit(lambda params, *batch: answer_hidden(nnx.merge(graph(CONFIG), params), *batch))
  hidden = forward(params, PROMPTS[:, :1], np.ones(4, np.int32), ANSWERS)
  rows = np.concatenate([np.repeat(PROMPTS[:, :1], 3, axis=0), ANSWERS.reshape(12, 4)], axis=1)
  expected = _rows(CONFIG, params, rows)[:, :4].reshape(4, 3, 4, 12)
  np.testing.assert_allclose(hidden, expected, atol=1e-5)


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
  rows = repeated_rows()[:, :5]
  poisoned = np.concatenate([rows[:, :3], (rows[:, 3:] + 3) % 19], axis=1)
  np.testing.assert_array_equal(_rows(CONFIG, params, rows)[:, :3], _rows(CONFIG, params, poisoned)[:, :3])
