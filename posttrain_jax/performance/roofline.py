"""What this machine could do at most: each matrix product at the fastest rate seen for its very shape, or the bytes.

A decode step multiplies S rows with every weight; an update multiplies N tokens with every weight three times (forward,
gradient of the input, gradient of the weight). A shape's rate is the best of several ways to compute it, measured in
the same process on the same data type. A decode step also has to read every weight and the cache: at the fastest
rate at which memory was seen to be read. The larger of both times is the least that the step can take.

Attention's own products are left out, and so are norms, softmaxes and draws: the limit is a little too good.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from posttrain_jax.models import flops
from posttrain_jax.models.config import TransformerConfig

_LEAST_SECONDS = 0.02  # of one measurement: calls are repeated within it
_TRIES = 5
_READ_BYTES = 2**28  # larger than any cache


@dataclasses.dataclass(frozen=True)
class Product:
  """`count` products of [m, k] with [k, n]."""

  m: int
  k: int
  n: int
  count: float

  @property
  def flops(self) -> float:
    """Of all of them."""
    return 2 * self.m * self.k * self.n * self.count


def weight_shapes(model: TransformerConfig) -> list[tuple[int, int, int]]:
  """(inputs, outputs, how many) of every weight that hidden states are multiplied with, the unembedding last."""
  return [*flops.kernels(model), (model.embed_dim, model.vocab_size, 1)]


def decode_products(model: TransformerConfig, rows: int) -> list[Product]:
  """Of one decode step."""
  return [Product(rows, k, n, count) for k, n, count in weight_shapes(model)]


def decode_bytes(model: TransformerConfig, rows: int, length: int) -> int:
  """That one decode step reads: every weight once and the cache."""
  weights = sum(k * n * count for k, n, count in weight_shapes(model))
  cache = 2 * model.num_layers * rows * length * model.num_kv_heads * model.head_dim
  return (weights + cache) * jnp.dtype(model.compute_dtype).itemsize


def update_products(model: TransformerConfig, tokens: int, answer_tokens: int, chunk: int) -> list[Product]:
  """Of one optimiser update: all tokens run through the layers, answers' tokens through the unembedding in chunks."""
  *layers, (width, vocab, _) = weight_shapes(model)
  chunk = min(chunk, answer_tokens)
  sizes = [(tokens, k, n, count) for k, n, count in layers] + [(chunk, width, vocab, answer_tokens / chunk)]
  return [
    Product(*size, count)
    for m, k, n, count in sizes
    for size in ((m, k, n), (m, n, k), (k, m, n))  # forward, gradients of the input and of the weight
  ]


def limit_seconds(products: Sequence[Product], dtype: str) -> float:
  """Least time for products of a dtype, each at the fastest rate measured for its shape."""
  return sum(product.flops / _rate(product, dtype) for product in products)


def bytes_per_second() -> float:
  """The fastest rate at which memory was seen to be read."""
  x = jnp.ones((_READ_BYTES // 4,), jnp.float32)
  ways = [jax.jit(jnp.sum), jax.jit(jnp.max), jax.jit(lambda x: jnp.sum(x.reshape(64, -1), axis=1))]
  return max(_READ_BYTES / _fastest(lambda way=way: way(x)) for way in ways)


def _rate(product: Product, dtype: str) -> float:
  """FLOPs a second of the fastest of several ways to compute one product."""
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
  """Seconds of one call, the best of several tries."""
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
