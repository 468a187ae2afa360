"""Defines the arrays that stay on the device between programs, and a dispatch's output.

S slots, K key/value heads, H head dimension.
"""

import dataclasses

import jax
import jax.numpy as jnp

from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.sampling.own_draw import TopTokens
from posttrain_jax.sampling.own_sampling import RowSampling, row_sampling

# Per layer keys and values, each [pages, K, page, H], or one array [pages, K, page, 2 H] (`models.paged_attention`).
Cache = list[tuple[jax.Array, ...]]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Slots:
  """Holds the state of the S slots.

  Attributes:
    token: int32 [S], the newest token, not yet in the cache.
    position: int32 [S], its position in prompt and answer.
    drawn: int32 [S], answer tokens drawn so far. It numbers the request's random draws. It is also the newest token's
      place in the answer's pages: the last prompt token has place 0, the tokens before it are in the prompt's pages.
    limit: int32 [S], answer tokens that the request may have.
    active: bool [S], False in an empty slot.
    key: uint32 [S, 2], the request's own random key.
    sampling: the requests' own; None if all draw alike.
  """

  token: jax.Array
  position: jax.Array
  drawn: jax.Array
  limit: jax.Array
  active: jax.Array
  key: jax.Array
  sampling: RowSampling | None = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Drawn:
  """Holds what one dispatch drew, up to n steps in S slots.

  Attributes:
    tokens: int32 [n, S].
    sampler_logprobs: float32 [n, S], untruncated, at the sampling temperature.
    drawn_logprobs: float32 [n, S], of the distribution drawn from.
    active: bool [n, S], True where the slot really drew.
    steps: int32 [], decode steps that were run; rows from there on are zeros.
    top: [n, S, K], the most likely tokens of slots that ask for them; None if the engine has none.
  """

  tokens: jax.Array
  sampler_logprobs: jax.Array
  drawn_logprobs: jax.Array
  active: jax.Array
  steps: jax.Array
  top: TopTokens | None = None


def empty_cache(config: TransformerConfig, pages: int, page: int, *, joined: bool = False) -> Cache:
  """Makes a cache of zeros.

  Args:
    config: the transformer's.
    pages: number of pages.
    page: tokens of a page.
    joined: whether keys and values lie in one array, as on TPU.

  Returns:
    For each layer keys and values [pages, K, page, H], or one array [pages, K, page, 2 H].
  """
  arrays, width = (1, 2 * config.head_dim) if joined else (2, config.head_dim)
  shape = (pages, config.num_kv_heads, page, width)
  zeros = lambda: tuple(jnp.zeros(shape, config.compute_dtype) for _ in range(arrays))  # noqa: E731
  return [zeros() for _ in range(config.num_layers)]


def empty_slots(slots: int, *, own_sampling: bool = False) -> Slots:
  """Makes the state of slots that are all empty.

  Args:
    slots: S.
    own_sampling: whether each request has its own.
  """
  zeros = jnp.zeros((slots,), jnp.int32)
  key = jnp.zeros((slots, 2), jnp.uint32)
  return Slots(
    token=zeros,
    position=zeros,
    drawn=zeros,
    limit=zeros,
    active=zeros.astype(bool),
    key=key,
    sampling=jax.tree.map(jnp.asarray, row_sampling([], slots)) if own_sampling else None,
  )
