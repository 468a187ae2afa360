"""Tests that each row is drawn as a whole batch of its settings is, whatever the other rows are."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posttrain_jax.sampling import own_draw
from posttrain_jax.sampling.draw import SamplingConfig, draw
from posttrain_jax.sampling.own_draw import draw_rows
from posttrain_jax.sampling.own_sampling import OwnSampling, row_sampling
from tests import compiler_flags

CONFIGS = [
  SamplingConfig(),
  SamplingConfig(temperature=0.7, top_p=0.9),
  SamplingConfig(temperature=0),
  SamplingConfig(top_k=5),
  SamplingConfig(temperature=1.7),
  SamplingConfig(min_p=0.1),
  SamplingConfig(temperature=0.8, top_k=9, top_p=0.9, min_p=0.02),
  SamplingConfig(top_k=300, top_p=0.99),  # more than the tokens looked at first
  SamplingConfig(top_p=0.999),
  SamplingConfig(top_k=10**6),
  SamplingConfig(temperature=0, top_p=0.5, top_k=3),
  SamplingConfig(top_k=1),
]
ROWS = 16

jitted = jax.jit(draw_rows, static_argnums=4)
_fixed = jax.jit(draw, static_argnums=2)


def fixed(logits, uniforms, config):
  with compiler_flags.quickly():  # a program for each setting, of which no bits are compared
    return _fixed(logits, uniforms, config)


def sampling(configs, top=0):
  return row_sampling([OwnSampling(config, 9, 0, top) for config in configs], len(configs))


@functools.cache
def inputs(vocab, spread=3.0):
  logits = np.random.default_rng(vocab).normal(size=(ROWS, vocab)).astype(np.float32) * spread
  return jnp.asarray(logits), jax.random.uniform(jax.random.key(vocab), (ROWS, 2))


def bits(found, row):
  return [np.asarray(x)[row].tobytes() for x in found[:3]]


def drawn(configs, vocab, active=None, top=0, spread=3.0):
  logits, uniforms = inputs(vocab, spread)
  active = jnp.ones(ROWS, bool) if active is None else jnp.asarray(active)
  return jitted(logits, uniforms, sampling(configs, top), active, top)


@pytest.mark.parametrize("vocab", [20, 1500])
@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_rows_of_one_setting_are_drawn_as_by_a_program_of_that_setting(config, vocab):
  """Compares with sorting: tokens are equal, logprobs agree to rounding."""
  for spread in (0.3, 3.0):  # of nearly equal tokens, many are kept
    expected = fixed(*inputs(vocab, spread), config)
    found = drawn([config] * ROWS, vocab, spread=spread)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_allclose(found[1], expected[1], atol=3e-6)
    np.testing.assert_array_less(np.abs(found[2] - expected[2]), 3e-6 + at_the_cut(inputs(vocab, spread)[0], config))


def at_the_cut(logits, config):
  """Returns the share of the token at top-p's cut where float32 may keep it or not, else 0."""
  if config.temperature == 0 or config.top_p == 1:
    return np.zeros(len(logits))
  scaled = np.sort(np.asarray(logits, np.float64) / config.temperature, axis=1)[:, ::-1]
  if config.top_k:
    scaled = scaled[:, : config.top_k]
  weights = np.exp(scaled - scaled[:, :1]) * (scaled - scaled[:, :1] >= np.log(config.min_p or 1e-300))
  sums = np.cumsum(weights, axis=1)
  beyond = np.abs(sums / sums[:, -1:] - config.top_p)
  at = beyond.argmin(1)[:, None]
  near = np.take_along_axis(beyond, at, 1) < 2e-6
  return np.where(near, np.take_along_axis(weights / (config.top_p * sums[:, -1:]), at, 1), 0)[:, 0]


def test_the_cases_differ_from_each_other():
  """Otherwise the comparison above means little."""
  tokens = {np.asarray(fixed(*inputs(1500), config)[0]).tobytes() for config in CONFIGS[:9]}
  assert len(tokens) >= 7
  wide = fixed(*inputs(1500, 0.3), SamplingConfig(top_p=0.999))
  assert float(jnp.exp(wide[2] - wide[1]).max()) < 1.01  # nearly all of 1500 are kept, and not 256


@pytest.mark.parametrize("seed", range(4))
def test_a_rows_bits_are_its_own_whatever_is_beside_it(seed):
  rng = np.random.default_rng(seed)
  configs = [CONFIGS[i] for i in rng.integers(0, len(CONFIGS), ROWS)]
  mixed = drawn(configs, 1500, spread=0.3)
  for row in range(0, ROWS, 3):
    for others in (configs[row], SamplingConfig(), SamplingConfig(top_p=0.999), SamplingConfig(temperature=0)):
      alone = [others] * ROWS
      alone[row] = configs[row]
      assert bits(drawn(alone, 1500, spread=0.3), row) == bits(mixed, row)


def test_rows_that_are_not_active_change_nothing():
  configs = CONFIGS[:2] * (ROWS // 2)
  active = np.arange(ROWS) % 2 == 0
  assert all(
    bits(drawn(configs, 1500, active), row) == bits(drawn([CONFIGS[0]] * ROWS, 1500), row) for row in range(0, ROWS, 2)
  )


def test_a_row_may_move():
  """The same logits and random numbers give the same bits in every row."""
  configs = (CONFIGS + CONFIGS)[:ROWS]
  logits, uniforms = inputs(1500)
  before = jitted(logits, uniforms, sampling(configs), jnp.ones(ROWS, bool), 0)
  for shift in (1, 5, 8):
    turned = [jnp.roll(x, shift, axis=0) for x in (logits, uniforms)]
    moved = [configs[(row - shift) % ROWS] for row in range(ROWS)]
    after = jitted(*turned, sampling(moved), jnp.ones(ROWS, bool), 0)
    assert all(bits(after, (row + shift) % ROWS) == bits(before, row) for row in range(ROWS))


def test_the_most_likely_tokens_come_with_their_logprobs():
  found = drawn([SamplingConfig(temperature=0.5, top_k=3)] * ROWS, 1500, top=5)
  expected = np.asarray(jax.nn.log_softmax(inputs(1500)[0] / 0.5))
  order = np.argsort(-expected, axis=1)[:, :5]
  np.testing.assert_array_equal(found[3].tokens, order)
  np.testing.assert_allclose(found[3].logprobs, np.take_along_axis(expected, order, 1), atol=1e-5)
  assert not drawn([SamplingConfig()] * ROWS, 1500)[3]
  logits, uniforms = inputs(1500)
  silent = jitted(logits, uniforms, sampling([SamplingConfig()] * ROWS), jnp.ones(ROWS, bool), 5)
  assert not silent[3].logprobs.any()


def test_a_vocabulary_smaller_than_the_alternatives():
  logits, uniforms = jnp.zeros((8, 3)), jnp.full((8, 2), 0.5)
  found = jitted(logits, uniforms, sampling([SamplingConfig(top_p=0.5)] * 8, 5), jnp.ones(8, bool), 5)
  np.testing.assert_array_equal(found[3].logprobs[0, 3:], -np.inf)
  np.testing.assert_allclose(found[1], -np.log(3), atol=1e-6)


def test_logits_that_are_not_numbers_are_not_hidden():
  logits, uniforms = inputs(20)
  broken = logits.at[3, 7].set(jnp.nan)
  for config in CONFIGS[:4]:
    found = jitted(broken, uniforms, sampling([config] * ROWS), jnp.ones(ROWS, bool), 0)
    assert np.isnan(found[1][3]) and np.isfinite(np.delete(found[1], 3)).all()


def test_tokens_of_no_probability_are_never_drawn():
  logits, uniforms = inputs(1500)
  masked = logits.at[:, ::2].set(-jnp.inf)
  for config in CONFIGS:
    found = jitted(masked, uniforms, sampling([config] * ROWS), jnp.ones(ROWS, bool), 0)
    assert np.all(np.asarray(found[0]) % 2 == 1) and np.isfinite(found[1]).all()


def test_a_batch_without_truncation_sorts_nothing_and_searches_nothing(monkeypatch):
  """Both stand in a branch that a run leaves out; here they would fail."""
  calls = []
  real = own_draw._smallest
  monkeypatch.setattr(own_draw, "_smallest", lambda *args: calls.append(1) or real(*args))
  text = jax.jit(lambda *args: draw_rows(*args, 0)).lower(
    *inputs(20), sampling([CONFIGS[0]] * ROWS), jnp.ones(ROWS, bool)
  )
  main, *_ = text.as_text().split("stablehlo.case")
  assert calls and "top_k" not in main and "sort" not in main
