import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jax.test_util import check_grads

from posttrain_jax.losses.logprobs import token_logprobs
from posttrain_jax.performance.compile.compiled import instructions
from tests.losses.logprobs_example import (
  CHUNK,
  LARGE_VOCABULARY,
  TOKENS,
  VOCABULARY,
  arguments,
  example,
  full,
  shapes_in,
)


def weighted(function, targets, **options):
  """Makes the jitted function to ((a scalar that weighs every output differently, the outputs), gradients)."""
  weights = np.random.default_rng(9).normal(size=(2, *targets.shape))

  def loss(hidden, unembedding):
    logprobs, entropies = function(hidden, unembedding, targets, **options)
    return jnp.sum(weights[0] * logprobs) + jnp.sum(weights[1] * entropies), (logprobs, entropies)

  return jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))


def assert_equals_full(shape, options, **chunking):
  hidden, unembedding, targets = example(shape)
  chunked = functools.partial(token_logprobs, entropy=True, **chunking)
  actual, expected = (weighted(f, targets, **options)(hidden, unembedding) for f in (chunked, full))
  assert jax.tree.structure(actual) == jax.tree.structure(expected)
  for ours, wanted in zip(jax.tree.leaves(actual), jax.tree.leaves(expected)):
    np.testing.assert_allclose(ours, wanted, atol=1e-11)


# Chunk 1: one token at a time. 2: less than the 3 rows. 5: does not divide. 21: exactly one chunk. 100: more than all.
@pytest.mark.parametrize("chunk", [1, 2, 5, 6, 21, 100])
def test_equals_the_full_softmax(chunk, x64):
  assert_equals_full((3, 7), {"temperature": 1.3, "softcap": 3.0}, chunk=chunk)


@pytest.mark.parametrize("options", [{}, {"temperature": 0.7}, {"softcap": 2.0}])
def test_options_equal_the_full_softmax(options, x64):
  assert_equals_full((3, 7), options, chunk=5)


@pytest.mark.parametrize("shape", [(7,), (1, 1), (2, 3, 5), (4, 1)])
def test_any_leading_axes(shape, x64):
  assert_equals_full(shape, {}, chunk=4)


@pytest.mark.parametrize(("shards", "chunk"), [(2, 1), (2, 2), (2, 64), (3, 8), (6, 3)])
def test_shards_do_not_change_the_numbers(shards, chunk, x64):
  assert_equals_full((6, 5), {}, shards=shards, chunk=chunk)


def test_only_needed_tokens_are_computed(x64):
  hidden, unembedding, targets = example((3, 7))

  @jax.jit
  def summed(hidden, unembedding, needed):
    logprobs = token_logprobs(hidden, unembedding, targets, chunk=6, needed=needed)
    return jnp.where(np.arange(7) < 4, logprobs, 0).sum(), logprobs

  of_all = lambda h, w: jnp.where(np.arange(7) < 4, full(h, w, targets)[0], 0).sum()  # noqa: E731
  gradients, logprobs = jax.grad(summed, (0, 1), has_aux=True)(hidden, unembedding, 4)
  for ours, wanted in zip(gradients, jax.grad(of_all, (0, 1))(hidden, unembedding)):
    np.testing.assert_allclose(ours, wanted, atol=1e-11)
  assert np.asarray(logprobs)[:, :4].all() and not np.asarray(logprobs)[:, 4:].any()  # chunks of 2 tokens of 3 rows


def test_entropy_is_optional(x64):
  arrays = example()
  np.testing.assert_allclose(token_logprobs(*arrays, chunk=4), full(*arrays)[0], atol=1e-12)


def test_temperature_may_be_traced_and_jit_changes_nothing(x64):
  arrays = example()
  jitted = jax.jit(lambda temperature: token_logprobs(*arrays, temperature=temperature, softcap=2.0, chunk=4))
  for temperature in (0.5, 2.0):
    np.testing.assert_allclose(jitted(temperature), full(*arrays, temperature, 2.0)[0], atol=1e-12)


def test_the_soft_cap_comes_before_the_temperature():
  # One hidden unit, logits ±100 capped to ±2, then divided by 1/2: ±4. The other way around they would be ±2.
  logprob = token_logprobs(
    np.ones((1, 1)), np.array([[100.0, -100.0]]), np.array([1]), temperature=0.5, softcap=2.0, chunk=1
  )
  np.testing.assert_allclose(logprob, [-8.0 - np.log1p(np.exp(-8.0))], rtol=1e-6)


def test_gradients(x64):
  hidden, unembedding, targets = example()
  function = functools.partial(token_logprobs, targets=targets, chunk=4, temperature=0.8, softcap=3.0, entropy=True)
  check_grads(lambda h, w: function(h, w), (hidden, unembedding), order=1, modes=["rev"])


def test_large_logits_do_not_overflow():
  logprob, entropy = token_logprobs(
    np.full((1, 1), 1e4, np.float32), np.array([[1.0, -1.0]], np.float32), np.array([0]), chunk=1, entropy=True
  )
  assert logprob == 0 and entropy == 0


def test_bfloat16_gives_float32_logits():
  hidden, unembedding, targets = example((2, 9), width=64, vocabulary=32, dtype=np.float32)
  low = jnp.asarray(hidden, jnp.bfloat16), jnp.asarray(unembedding, jnp.bfloat16)
  logprobs = token_logprobs(*low, targets, chunk=4)
  assert logprobs.dtype == jnp.float32
  exact = full(low[0].astype(jnp.float32), low[1].astype(jnp.float32), targets)[0]
  np.testing.assert_allclose(logprobs, exact, atol=1e-4)  # logits rounded to bfloat16 would be off by 0.06


def test_the_unembeddings_gradient_is_summed_in_float32():
  # Every chunk adds ½ to each of two columns. In bfloat16 the sum would stall at 128: 128 + ½ is 128.
  tokens = 1000
  hidden, targets = jnp.ones((1, tokens, 1), jnp.bfloat16), jnp.zeros((1, tokens), jnp.int32)
  for dtype, tolerance in ((jnp.float32, 1e-6), (jnp.bfloat16, 4e-3)):
    gradient = jax.grad(lambda w: jnp.sum(token_logprobs(hidden, w, targets, chunk=1)))(jnp.zeros((1, 2), dtype))
    assert gradient.dtype == dtype
    np.testing.assert_allclose(gradient.astype(jnp.float32), [[500, -500]], rtol=tolerance)


def test_bad_shapes():
  hidden, unembedding, targets = example()
  for arrays in [
    (hidden, unembedding.T, targets),
    (hidden, unembedding, targets[:2]),
    (hidden, unembedding[0], targets),
  ]:
    with pytest.raises(AssertionError):
      token_logprobs(*arrays, chunk=4)
  with pytest.raises(AssertionError):
    token_logprobs(hidden, unembedding, targets, chunk=0)
  with pytest.raises(ValueError, match=r"shards: expected a divisor of the 3 rows .* found 2"):
    token_logprobs(hidden, unembedding, targets, chunk=4, shards=2)


# ---- Memory: what must never exist.


def logprobs_and_gradients(chunk=CHUNK, shards=1):
  def loss(hidden, unembedding, targets):
    logprobs, entropies = token_logprobs(hidden, unembedding, targets, chunk=chunk, entropy=True, shards=shards)
    return jnp.mean(logprobs) + 0.1 * jnp.mean(entropies)

  return jax.value_and_grad(loss, argnums=(0, 1))


@pytest.mark.parametrize("rows", [1, 16, 64, 512])  # fewer, as many, and more rows than a chunk holds
def test_no_more_logits_than_a_chunks_exist(rows):
  jaxpr = jax.make_jaxpr(logprobs_and_gradients())(*arguments(rows, TOKENS)).jaxpr
  assert max(np.prod(shape) for shape in shapes_in(jaxpr)) == CHUNK * LARGE_VOCABULARY


def test_compiled_memory_is_some_chunks_however_many_tokens_there_are():
  few, many = (
    jax.jit(logprobs_and_gradients()).lower(*arguments(16, tokens)).compile().memory_analysis().temp_size_in_bytes
    for tokens in (TOKENS, 4 * TOKENS)
  )
  # A chunk's logits, softmax and their gradients: at most a quarter of the 32 chunks that hold all tokens' logits.
  chunk_logits = CHUNK * LARGE_VOCABULARY * 4
  assert few < 8 * chunk_logits
  # 96 more chunks cost what their hidden states cost.
  assert many - few < chunk_logits


def test_an_answer_of_20480_tokens_and_a_vocabulary_of_152064():
  """Reads the compiled program, forward and backward.

  Its largest array is a chunk's logits or the unembedding.
  """
  tokens, vocabulary, width, chunk = 20_480, 152_064, 16, 1024
  shapes = (1, tokens, width), (width, vocabulary), (1, tokens)
  given = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in zip(shapes, (jnp.bfloat16, jnp.float32, jnp.int32))]
  program = jax.jit(logprobs_and_gradients(chunk)).lower(*given).compile()
  largest = max(array.size for each in instructions(program.as_text()) for array in each.arrays)
  assert largest == chunk * vocabulary
  assert program.memory_analysis().temp_size_in_bytes < 4 * tokens * vocabulary / 4  # a quarter of all logits


def test_the_memory_test_sees_full_logits():
  hidden, unembedding, targets = example((1, 20))
  sizes = [np.prod(shape) for shape in shapes_in(jax.make_jaxpr(jax.jit(full))(hidden, unembedding, targets).jaxpr)]
  assert max(sizes) >= 20 * VOCABULARY


# ---- Eight devices: batch over 4, vocabulary over 2.

ROWS, LENGTH, MESH_WIDTH, MESH_VOCABULARY, MESH_CHUNK = 16, 64, 32, 1024, 16
COLLECTIVE = re.compile(r"= (.*?) (?:all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\(")


def compile_on_mesh(shards):
  mesh = Mesh(np.array(jax.devices()[:8]).reshape(4, 2), ("fsdp", "tensor"), axis_types=(AxisType.Auto,) * 2)
  rows, kernel, scalar = (NamedSharding(mesh, spec) for spec in (P("fsdp"), P(None, "tensor"), P()))
  step = jax.jit(
    logprobs_and_gradients(MESH_CHUNK, shards),
    in_shardings=(rows, kernel, rows),
    out_shardings=(scalar, (rows, kernel)),
  )
  arrays = example((ROWS, LENGTH), MESH_WIDTH, MESH_VOCABULARY, dtype=np.float32)
  return step.lower(*arrays).compile(), tuple(map(jax.device_put, arrays, (rows, kernel, rows)))


def collectives(text):
  """Returns (elements, inside a loop?) of each array that a compiled program sends between devices."""
  computation = ""
  for line in text.splitlines():
    if header := re.match(r"^(ENTRY )?%?\S+ .*\{$", line):
      computation = header[1]
    if match := COLLECTIVE.search(line):
      for shape in re.findall(r"\w+\[([\d,]*)\]", match[1]):
        yield int(np.prod([int(n) for n in shape.split(",") if n])), computation is None


@pytest.mark.parametrize("shards", [1, 4])
def test_no_logits_travel_between_devices(shards):
  compiled, arrays = compile_on_mesh(shards)
  sent = list(collectives(compiled.as_text()))
  assert any(in_loop for _, in_loop in sent)  # normalizers of chunks are summed over the vocabulary's shards
  # What may travel: a number or a hidden state a token, and the unembedding's gradient [D, V / 2].
  kernel = MESH_WIDTH * MESH_VOCABULARY // 2
  chunk_states = MESH_CHUNK * MESH_WIDTH
  assert all(size <= chunk_states or size == kernel for size, _ in sent), sent
  assert MESH_CHUNK * MESH_VOCABULARY // 2 not in (chunk_states, kernel)  # a chunk's logits would be seen
  if shards == 4:
    assert sum(size == kernel for size, _ in sent) == 1  # summed over the batch once,
    assert (kernel, True) not in sent  # not once a chunk
  logits = ROWS * LENGTH * MESH_VOCABULARY * 4 // 8
  assert compiled.memory_analysis().temp_size_in_bytes < logits
  one_device = logprobs_and_gradients(MESH_CHUNK)(
    *example((ROWS, LENGTH), MESH_WIDTH, MESH_VOCABULARY, dtype=np.float32)
  )
  for actual, wanted in zip(jax.tree.leaves(compiled(*arrays)), jax.tree.leaves(one_device)):
    np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-6)
