"""Tests draws against distributions computed in numpy float64.

The edges are tested, too: of blocks, uniforms and logits.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from posttrain_jax.sampling.draw import SamplingConfig, draw, pick
from posttrain_jax.types import InputError
from tests import compiler_flags

LARGEST = 1 - 2.0**-24  # largest float32 below 1

jitted_draw = jax.jit(draw, static_argnums=2)
_quick_draw = jax.jit(lambda logits, uniforms, config: draw(logits, uniforms, config), static_argnums=2)


def quick_draw(logits, uniforms, config):
  """Draws by a program that compiles quickly, where bits and the edges of sums decide nothing."""
  with compiler_flags.quickly():
    return _quick_draw(logits, uniforms, config)


def uniforms_for(count, seed=0):
  return jax.random.uniform(jax.random.key(seed), (count, 2))


def exact(logits, config):
  """Computes the distribution by its definition, in float64: top-k, then min-p, then top-p on the rest."""
  logits = np.asarray(logits, np.float64) / config.temperature
  probabilities = np.exp(logits - logits.max())
  probabilities /= probabilities.sum()
  order = np.argsort(-probabilities, kind="stable")
  kept = order[: config.top_k] if config.top_k else order
  kept = kept[probabilities[kept] >= config.min_p * probabilities.max()]
  shares = probabilities[kept] / probabilities[kept].sum()
  before = np.cumsum(shares) - shares
  kept = kept[before < config.top_p]
  truncated = np.zeros_like(probabilities)
  truncated[kept] = probabilities[kept] / probabilities[kept].sum()
  return probabilities, truncated


def chi_square(tokens, probabilities):
  """Computes the p-value of token counts; all tokens expected fewer than 8 times are one cell."""
  assert np.all(probabilities[np.unique(tokens)] > 0)
  if np.count_nonzero(probabilities) == 1:
    return 1.0
  counts = np.bincount(tokens, minlength=len(probabilities)).astype(float)
  expected = probabilities * len(tokens)
  rare = expected < 8
  counts, expected = np.append(counts[~rare], counts[rare].sum()), np.append(expected[~rare], expected[rare].sum())
  return stats.chisquare(counts[expected > 0], expected[expected > 0]).pvalue


CONFIGS = [
  SamplingConfig(),
  SamplingConfig(temperature=0.7),
  SamplingConfig(temperature=1.7),
  SamplingConfig(top_k=5),
  SamplingConfig(top_p=0.8),
  SamplingConfig(min_p=0.1),
  SamplingConfig(top_k=1),
  SamplingConfig(temperature=0.8, top_k=9, top_p=0.9, min_p=0.02),
]


# Neither vocabulary is a multiple of its block width.
@pytest.mark.parametrize(
  ("config", "vocab"), [*((config, 11) for config in CONFIGS), (CONFIGS[0], 300), (CONFIGS[-1], 300)]
)
def test_frequencies_and_logprobs_are_those_of_the_exact_distribution(config, vocab):
  logits = np.random.default_rng(vocab).normal(size=vocab).astype(np.float32) * 1.5
  count = 20_000
  tokens, sampler_logprobs, drawn_logprobs = map(
    np.asarray, quick_draw(jnp.broadcast_to(logits, (count, vocab)), uniforms_for(count), config)
  )
  whole, truncated = exact(logits, config)
  assert chi_square(tokens, truncated) > 1e-3
  np.testing.assert_allclose(sampler_logprobs, np.log(whole[tokens]), atol=3e-6)
  np.testing.assert_allclose(drawn_logprobs, np.log(truncated[tokens]), atol=3e-6)
  assert config.truncates == (truncated.min() == 0)


def test_rows_have_their_own_distributions_and_uniforms():
  logits = np.random.default_rng(0).normal(size=(7, 20)).astype(np.float32)
  uniforms = uniforms_for(7)
  together = quick_draw(logits, uniforms, SamplingConfig(top_p=0.9))
  for row in range(7):
    alone = quick_draw(logits[row : row + 1], uniforms[row : row + 1], SamplingConfig(top_p=0.9))
    assert together[0][row] == alone[0][0]
    np.testing.assert_allclose([x[row] for x in together[1:]], [x[0] for x in alone[1:]], atol=1e-6)


@pytest.mark.parametrize("vocab", [1, 2, 17, 255])
def test_every_token_of_every_vocabulary_size_can_be_drawn_and_nothing_else(vocab):
  """Draws from equal logits with uniforms on a grid finer than the vocabulary.

  All ids are drawn, also at block edges, and none from the padding.
  """
  blocks, inside = ((jnp.arange(points) + 0.5) / points for points in (vocab + 100, 64))
  uniforms = jnp.stack(jnp.meshgrid(blocks, inside), -1).reshape(-1, 2)
  logits = jnp.zeros((len(uniforms), vocab))
  tokens, logprobs, _ = jitted_draw(logits, uniforms, SamplingConfig())
  assert set(np.asarray(tokens)) == set(range(vocab))
  np.testing.assert_allclose(logprobs, -np.log(vocab), atol=1e-6)


@pytest.mark.parametrize("vocab", [8, 60, 1030])
@pytest.mark.parametrize("uniform", [0.0, 2.0**-23, 0.5, 1 - 2.0**-23, LARGEST])
def test_uniforms_at_their_ends_draw_tokens_of_positive_probability(vocab, uniform):
  """Sets probabilities of exactly 0 at the vocabulary's ends and on both sides of every block edge."""
  rng = np.random.default_rng(vocab)
  width = 1 << int(np.ceil(np.log2(vocab) / 2))
  logits = rng.normal(size=(200, vocab)).astype(np.float32)
  logits[:, ::width] = logits[:, width - 1 :: width] = -np.inf
  logits[:, [0, -1]] = -np.inf
  logits[100:, : 2 * width] = -np.inf  # whole blocks too
  logits[:100, -width:] = -np.inf
  logits[:, vocab // 2] = 0
  tokens, logprobs, _ = jitted_draw(logits, jnp.full((200, 2), uniform, jnp.float32), SamplingConfig())
  assert np.all(np.isfinite(logits[np.arange(200), tokens]))
  assert np.all(np.isfinite(logprobs))
  possible = np.isfinite(logits)
  if uniform == 0:
    np.testing.assert_array_equal(tokens, possible.argmax(-1))
  if uniform == LARGEST:
    np.testing.assert_array_equal(tokens, vocab - 1 - possible[:, ::-1].argmax(-1))


@pytest.mark.parametrize("width", [64, 512])
def test_no_target_picks_a_zero_weight(width):
  """Adds up 512 entries as a tree.

  Running sums may change where the weight is 0, and even fall.
  """
  rng = np.random.default_rng(2)
  weights = rng.random((2000, width)).astype(np.float32) * (rng.random((2000, width)) < 0.5)
  sums = np.asarray(jax.jit(lambda x: jnp.cumsum(x, 0))(weights.T)).T
  jitted_pick = jax.jit(pick)
  for entry in range(0, width, 37):
    share = sums[:, entry] / sums[:, -1]
    for uniform in (share, np.nextafter(share, np.float32(0)), np.nextafter(share, np.float32(1))):
      picked = np.asarray(jitted_pick(weights.T, np.clip(uniform, 0, LARGEST).astype(np.float32)))
      assert np.all(np.take_along_axis(weights, picked[:, None], 1) > 0)


@pytest.mark.parametrize("temperature", [1.0, 1e-3, 30.0])
def test_huge_logits(temperature):
  logits = np.array([[1e4, -1e4, 1e4, 0.0], [-1e4, -1e4, -1e4, -1e4 + 1]], np.float32)
  tokens, logprobs, _ = quick_draw(logits, jnp.full((2, 2), 0.6), SamplingConfig(temperature=temperature))
  reference = jax.nn.log_softmax(np.asarray(logits, np.float64) / temperature)
  np.testing.assert_allclose(logprobs, reference[np.arange(2), tokens], atol=1e-4)


def test_one_possible_token_is_certain():
  logits = np.full((3, 10), -np.inf, np.float32)
  logits[np.arange(3), [0, 5, 9]] = -7.0
  for config in (SamplingConfig(), SamplingConfig(top_k=3, top_p=0.5, min_p=0.5), SamplingConfig(temperature=0)):
    tokens, sampler_logprobs, drawn_logprobs = quick_draw(logits, uniforms_for(3), config)
    np.testing.assert_array_equal(tokens, [0, 5, 9])
    np.testing.assert_allclose(sampler_logprobs, 0, atol=1e-6)
    np.testing.assert_allclose(drawn_logprobs, 0, atol=1e-6)


def test_ties_with_the_last_kept_token_are_kept_and_greedy_takes_the_lowest_id():
  logits = np.log(np.array([0.1, 0.3, 0.3, 0.2, 0.1], np.float32))
  rows = jnp.broadcast_to(logits, (500, 5))
  for config, kept in (
    (SamplingConfig(top_k=1), {1, 2}),
    (SamplingConfig(top_k=4), {0, 1, 2, 3, 4}),
    (SamplingConfig(top_p=0.2), {1, 2}),
    (SamplingConfig(min_p=1.0), {1, 2}),
  ):
    assert set(np.asarray(quick_draw(rows, uniforms_for(500), config)[0])) == kept
  assert set(np.asarray(quick_draw(rows, uniforms_for(500), SamplingConfig(temperature=0))[0])) == {1}


def test_temperature_zero_reports_the_logprob_at_temperature_one():
  logits = np.random.default_rng(3).normal(size=(6, 13)).astype(np.float32)
  tokens, sampler_logprobs, drawn_logprobs = quick_draw(logits, uniforms_for(6), SamplingConfig(temperature=0))
  np.testing.assert_array_equal(tokens, logits.argmax(-1))
  np.testing.assert_allclose(sampler_logprobs, jax.nn.log_softmax(logits).max(-1), atol=1e-6)
  np.testing.assert_array_equal(drawn_logprobs, 0)


def test_both_uniforms_count():
  """Neither the block nor the place inside it is decided by the other's uniform."""
  logits = jnp.zeros((4, 16))
  uniforms = jnp.array([[0.1, 0.1], [0.1, 0.9], [0.9, 0.1], [0.9, 0.9]])
  np.testing.assert_array_equal(quick_draw(logits, uniforms, SamplingConfig())[0], [0, 3, 12, 15])


@pytest.mark.parametrize(
  ("field", "value"),
  [("temperature", -0.1), ("top_k", -1), ("top_p", 0.0), ("top_p", 1.1), ("min_p", -0.1), ("min_p", 1.5)],
)
def test_values_without_a_meaning_are_refused(field, value):
  with pytest.raises(InputError, match=rf"sampling\.{field}: {value}, expected"):
    SamplingConfig(**{field: value})


def test_truncates_says_whether_the_distribution_is_the_models_own():
  assert not functools.reduce(
    lambda any_, config: any_ or config.truncates, [SamplingConfig(temperature=t) for t in (0, 0.5, 1, 2)], False
  )
  assert all(config.truncates for config in (SamplingConfig(top_k=1), SamplingConfig(top_p=0.9)))
  assert not SamplingConfig(temperature=0, top_k=3).truncates


@pytest.mark.parametrize("config", [SamplingConfig(), SamplingConfig(temperature=0), SamplingConfig(top_p=0.9)])
def test_float32_logprobs_of_a_real_vocabulary_are_right(config):
  vocabulary = 151_936
  logits = (np.random.default_rng(0).normal(size=(1, vocabulary)) * 3).astype(np.float32)
  token, logprob, drawn = jitted_draw(logits, uniforms_for(1), config)
  log_p = logits[0] - np.log(np.exp(logits[0].astype(np.float64)).sum())
  np.testing.assert_allclose(logprob, log_p[token], atol=1e-5, rtol=0)
  if config.top_p < 1:
    falling = -np.sort(-log_p)
    before = np.cumsum(np.exp(falling)) - np.exp(falling)
    kept = np.exp(falling)[before < 0.9].sum()
    np.testing.assert_allclose(drawn, log_p[token] - np.log(kept), atol=1e-5, rtol=0)
