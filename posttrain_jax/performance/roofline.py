"""Computes the least time of a decode step and of an update on this machine.

A decode step multiplies S rows with every weight. An update multiplies N tokens with every weight three times (forward,
gradient of the input, gradient of the weight). Each matrix product is counted at the fastest rate measured for its
shape: the best of several ways to compute it, in the same process and data type. A decode step also has to read every
weight and the cache, which is counted at the fastest measured rate of reading memory. The larger of the two times is
the least that the step can take.

Attention's own products are left out, and so are norms, softmaxes and draws, so the limit is a little too optimistic.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from posttrain_jax.models import flops
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.performance.chips import Chip

_LEAST_SECONDS = 0.02  # of one measurement; a short call is repeated to fill it
_TRIES = 5
_LARGE = (2048, 1024, 2048)  # [m, k] with [k, n]; a product that reaches the peak
_READ_BYTES = 2**28  # larger than any cache


@dataclasses.dataclass(frozen=True)
class Product:
  """Describes `count` products of [m, k] with [k, n]."""

  m: int
  k: int
  n: int
  count: float

  @property
  def flops(self) -> float:
    """Returns the FLOPs of all `count` products."""
    return 2 * self.m * self.k * self.n * self.count


def weight_shapes(model: TransformerConfig) -> list[tuple[int, int, int]]:
  """Returns (inputs, outputs, count) of every weight of a matrix product, the unembedding last."""
  return [*flops.kernels(model), (model.embed_dim, model.vocab_size, 1)]


def decode_products(model: TransformerConfig, rows: int) -> list[Product]:
  """Returns the products of one decode step over `rows` slots."""
  return [Product(rows, k, n, count) for k, n, count in weight_shapes(model)]


def decode_bytes(model: TransformerConfig, rows: int, length: int) -> int:
  """Returns the bytes that one decode step reads: every weight once, and the cache.

  Args:
    model: the transformer.
    rows: slots.
    length: tokens in the cache of each slot.
  """
  weights = sum(k * n * count for k, n, count in weight_shapes(model))
  cache = 2 * model.num_layers * rows * length * model.num_kv_heads * model.head_dim
  return (weights + cache) * jnp.dtype(model.compute_dtype).itemsize


def update_products(model: TransformerConfig, tokens: int, answer_tokens: int, chunk: int) -> list[Product]:
  """Returns the products of one optimiser update.

  Args:
    model: the transformer.
    tokens: tokens that run through the layers.
    answer_tokens: tokens that run through the unembedding.
    chunk: most tokens that run through the unembedding at once.
  """
  *layers, (width, vocab, _) = weight_shapes(model)
  chunk = min(chunk, answer_tokens)
  sizes = [(tokens, k, n, count) for k, n, count in layers] + [(chunk, width, vocab, answer_tokens / chunk)]
  return [
    Product(*size, count)
    for m, k, n, count in sizes
    for size in ((m, k, n), (m, n, k), (k, m, n))  # forward, gradients of the input and of the weight
  ]


def limit_seconds(products: Sequence[Product], dtype: str) -> float:
  """Returns the least seconds for the products, at the rates measured for their shapes."""
  return sum(product.flops / _rate(product, dtype) for product in products)


def bytes_per_second() -> float:
  """Measures the fastest rate of reading memory."""
  x = jnp.ones((_READ_BYTES // 4,), jnp.float32)
  ways = [jax.jit(jnp.sum), jax.jit(jnp.max), jax.jit(lambda x: jnp.sum(x.reshape(64, -1), axis=1))]
  return max(_READ_BYTES / _fastest(lambda way=way: way(x)) for way in ways)


def machine(dtype: str) -> Chip:
  """Measures this machine's peaks: of a large product in `dtype`, and of reading memory."""
  rate = _rate(Product(*_LARGE, count=1), dtype)
  return Chip("this machine", flops_per_second=rate, bytes_per_second=bytes_per_second(), memory_bytes=math.inf)


def _rate(product: Product, dtype: str) -> float:
  """Returns the FLOPs a second of the fastest of several ways to compute one product."""
  m, k, n = product.m, product.k, product.n
  random = np.random.default_rng(0)
  a, b = random.standard_normal((m, k), np.float32), random.standard_normal((k, n), np.float32)
  ways: list[Callable[[], object]] = []
  x, y = jnp.asarray(a, dtype), jnp.asarray(b, dtype)
  for left, right, spec in ((x, y, "mk,kn->mn"), (x, y.T.copy(), "mk,nk->mn"), (x.T.copy(), y, "km,kn->mn")):
    program = jax.jit(lambda left, right, spec=spec: jnp.einsum(spec, left, right))
    ways.append(lambda program=program, left=left, right=right: program(left, right))
  if dtype == "float32" and jax.default_backend() == "cpu":
    ways.append(lambda: a @ b)  # NumPy's own BLAS
  return 2 * m * k * n / min(map(_fastest, ways))


def _fastest(call: Callable[[], object]) -> float:
  """Returns the seconds of one call, the best of several tries."""
  jax.block_until_ready(call())
  start = time.perf_counter()
  jax.block_until_ready(call())
  repeats = max(1, int(_LEAST_SECONDS / (time.perf_counter() - start)))
  best = float("inf")
  for _ in range(_TRIES):
    start = time.perf_counter()
    for _ in range(repeats):
      result = call()
    jax.block_until_ready(result)
    best = min(best, (time.perf_counter() - start) / repeats)
  return best
