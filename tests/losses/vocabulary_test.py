"""Tests a chunk's logits, reductions and gradient against plain formulas, and the cut into chunks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posttrain_jax.losses.vocabulary import Head, prepare, without_absent

S, R, C, WIDTH, VOCABULARY, TEMPERATURE = 2, 1, 3, 4, 7, 0.8


def chunk():
  rng = np.random.default_rng(0)
  hidden, unembedding = rng.normal(size=(S, R, C, WIDTH)), rng.normal(size=(WIDTH, VOCABULARY))
  return hidden, unembedding, rng.integers(0, VOCABULARY, size=(S, R, C))


def plain(hidden, unembedding, targets, softcap):
  """Computes (logits, logprobs, entropies) by their definitions."""
  logits = hidden @ unembedding
  if softcap is not None:
    logits = softcap * jnp.tanh(logits / softcap)
  logits = logits / TEMPERATURE
  p = jnp.exp(logits) / jnp.exp(logits).sum(-1, keepdims=True)
  return logits, jnp.log((p * jax.nn.one_hot(targets, VOCABULARY)).sum(-1)), -(p * jnp.log(p)).sum(-1)


@pytest.mark.parametrize("softcap", [None, 2.0])
def test_logits_reductions_and_gradient(softcap, x64):
  hidden, unembedding, targets = chunk()
  head = Head(jnp.dtype("float64"), softcap)
  logits, factor = head.logits(hidden, unembedding, TEMPERATURE)
  logprobs, entropies, normalizers = head.reduce(logits, targets)
  expected = plain(hidden, unembedding, targets, softcap)
  for found, wanted in zip((logits, logprobs, entropies), expected, strict=True):
    np.testing.assert_allclose(found, wanted, atol=1e-13)
  np.testing.assert_allclose(normalizers, jnp.log(jnp.exp(expected[0]).sum(-1)), atol=1e-13)

  to_logprobs, to_entropies = np.random.default_rng(1).normal(size=(2, S, R, C))

  def scalar(hidden, unembedding):
    _, logprobs, entropies = plain(hidden, unembedding, targets, softcap)
    return jnp.sum(to_logprobs * logprobs + to_entropies * entropies)

  to_hidden, to_unembedding = head.gradient(
    hidden, unembedding, targets, logits, factor, entropies, normalizers, to_logprobs, to_entropies
  )
  expected_hidden, expected_unembedding = jax.grad(scalar, (0, 1))(hidden, unembedding)
  np.testing.assert_allclose(to_hidden, expected_hidden, atol=1e-13)
  assert to_unembedding.shape == (S, WIDTH, VOCABULARY)  # each shard's own
  np.testing.assert_allclose(to_unembedding.sum(0), expected_unembedding, atol=1e-13)


def test_large_logits_reduce_without_overflow():
  logprobs, entropies, normalizers = Head(jnp.dtype("float32"), None).reduce(
    jnp.array([[[[1e4, -1e4]]]]), jnp.zeros((1, 1, 1), int)
  )
  assert logprobs == 0 and entropies == 0 and normalizers == 1e4


# Fewer tokens than a chunk holds, chunks that cut rows, chunks that hold several rows, one token a chunk.
@pytest.mark.parametrize("size", [100, 4, 1])
@pytest.mark.parametrize(("leading", "shards"), [((6,), 3), ((2, 3), 2), ((), 1)])
def test_a_cut_and_its_join_give_the_array_back(leading, shards, size):
  targets = 1 + np.arange(int(np.prod(leading)) * 7).reshape(*leading, 7)
  hidden = np.zeros((*targets.shape, WIDTH))
  _, cut = prepare(hidden, np.zeros((WIDTH, VOCABULARY)), targets, softcap=None, chunk=size, shards=shards)
  chunks = cut.split(targets)
  assert chunks.ndim == 4 and chunks.shape[1] == shards and chunks.shape[2] * chunks.shape[3] <= size
  np.testing.assert_array_equal(cut.join(chunks), targets)
  np.testing.assert_array_equal(np.sort(chunks[chunks > 0]), targets.ravel())  # all else is padding of zeros
  by_shard = targets.reshape(shards, -1)
  for shard in range(shards):  # no token leaves its device
    own = np.asarray(chunks[:, shard])
    np.testing.assert_array_equal(np.sort(own[own > 0]), by_shard[shard])
  assert cut.split(hidden).shape == (*chunks.shape, WIDTH)


@pytest.mark.parametrize(
  ("rows", "length", "size", "shape"),
  [
    (1, 9, 4, (3, 1, 1, 3)),  # 3 + 3 + 3 tokens and not 4 + 4 + 1 with padding
    (2, 10, 4, (5, 1, 2, 2)),  # both rows together
    (5, 10, 3, (20, 1, 3, 1)),  # rows in 3 + 2, the last filled up
  ],
)
def test_pieces_have_equal_lengths(rows, length, size, shape):
  targets = np.zeros((rows, length), int)
  _, cut = prepare(np.zeros((rows, length, 3)), np.zeros((3, 5)), targets, softcap=None, chunk=size, shards=1)
  assert cut.split(targets).shape == shape


def test_the_dtype_is_at_least_float32():
  for given, expected in ((jnp.bfloat16, jnp.float32), (jnp.float32, jnp.float32)):
    head, _ = prepare(
      jnp.zeros((1, 2, 3), given), jnp.zeros((3, 5), given), jnp.zeros((1, 2), int), softcap=None, chunk=4, shards=1
    )
    assert head.dtype == expected


@pytest.mark.parametrize(
  "change",
  [
    {"unembedding": np.zeros((4, 5))},
    {"unembedding": np.zeros(3)},
    {"targets": np.zeros((2, 5), int)},
    {"chunk": 0},
  ],
)
def test_arguments_that_do_not_fit_are_refused(change):
  arguments = dict(hidden=np.zeros((2, 6, 3)), unembedding=np.zeros((3, 5)), targets=np.zeros((2, 6), int), chunk=4)
  with pytest.raises(AssertionError):
    prepare(**arguments | change, softcap=None, shards=1)


def test_shards_have_to_divide_the_rows():
  with pytest.raises(ValueError, match=r"shards: expected a divisor of the 3 rows .* found 2"):
    prepare(np.zeros((3, 6, 3)), np.zeros((3, 5)), np.zeros((3, 6), int), softcap=None, chunk=4, shards=2)


@pytest.mark.parametrize("vocabulary", [49_152, 128_256, 151_936, 262_144])
def test_float32_reductions_of_real_vocabularies_are_right(vocabulary):
  # From flat (an entropy of 12 nats) to peaked (.03). Plain sums are off by up to 1e-3, always to the same side.
  rng, scales = np.random.default_rng(0), np.array([0.5, 3.0, 5.0, 12.0])
  logits = (rng.normal(size=(1, 1, 4, vocabulary)) * scales[:, None]).astype(np.float32)
  targets = np.array([[[0, vocabulary // 2, vocabulary - 1, logits[0, 0, 3].argmax()]]])
  head = Head(jnp.dtype("float32"), None)
  logprobs, entropies, normalizers = jax.jit(head.reduce)(logits, targets)

  exact = logits.astype(np.float64)
  log_total = np.log(np.exp(exact).sum(-1))
  log_p = exact - log_total[..., None]
  np.testing.assert_allclose(logprobs, np.take_along_axis(log_p, targets[..., None], -1)[..., 0], atol=1e-5, rtol=0)
  np.testing.assert_allclose(entropies, -(np.exp(log_p) * log_p).sum(-1), atol=5e-5, rtol=0)
  np.testing.assert_allclose(normalizers, log_total, atol=1e-5, rtol=0)


def test_absent_ids_have_no_probability_and_no_gradient(x64):
  hidden, unembedding, _ = chunk()
  absent, kept = ((1, 3), (6, 7)), [0, 3, 4, 5]
  targets = np.array([0, 3, 5]).reshape(1, 1, 3).repeat(S, 0)  # 0, 1 and 3 among those that are kept

  def reduced(head, unembedding, targets):
    logits, factor = head.logits(hidden, unembedding, TEMPERATURE)
    found = head.reduce(logits, targets)
    ones = jnp.ones(targets.shape)
    return found, head.gradient(hidden, unembedding, targets, logits, factor, found[1], found[2], ones, 2 * ones)

  found, (to_hidden, to_unembedding) = reduced(Head(jnp.dtype("float64"), 2.0, absent), unembedding, targets)
  plain_head, few = Head(jnp.dtype("float64"), 2.0), unembedding[:, kept]
  wanted, (to_few_hidden, to_few) = reduced(plain_head, few, np.searchsorted(kept, targets))
  for ours, other in zip((*found, to_hidden, to_unembedding[..., kept]), (*wanted, to_few_hidden, to_few), strict=True):
    np.testing.assert_allclose(ours, other, atol=1e-13)
  assert not np.any(to_unembedding[..., [1, 2, 6]])


def test_without_absent_ids_nothing_is_computed():
  logits = jnp.zeros((2, 3))
  assert without_absent(logits, ()) is logits
