"""What the engine keeps on the device from program to program, and what a dispatch gives back.

S slots, K key/value heads, H head dimension.
"""

import dataclasses

import jax
import jax.numpy as jnp

from posttrain_jax.models.config import TransformerConfig

# Per layer a pair: keys and values, each [rows, K, length, H] (`models.attention.cache_layout`).
Cache = list[tuple[jax.Array, jax.Array]]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Slots:
  """What each of the S slots is doing.

  Attributes:
    token: int32 [S], the newest token, not yet in the cache.
    position: int32 [S], its position in prompt and answer.
    drawn: int32 [S], answer tokens drawn so far; numbers the request's random draws, and is the newest token's place in
      the cache: the last token of the prompt has place 0, those before it are the prefix.
    lane: int32 [S], from which place of which prefix it reads (`models.attention.Prefixes`).
    limit: int32 [S], answer tokens that the request may have.
    active: bool [S], False in an empty slot.
    key: uint32 [S, 2], the request's own random key.
  """

  token: jax.Array
  position: jax.Array
  drawn: jax.Array
  lane: jax.Array
  limit: jax.Array
  active: jax.Array
  key: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Drawn:
  """What one dispatch drew, n steps by S slots; rows from `steps` on were not run.

  Attributes:
    tokens: int32 [n, S].
    sampler_logprobs: float32 [n, S], untruncated, at the sampling temperature.
    drawn_logprobs: float32 [n, S], of the distribution drawn from.
    active: bool [n, S], True where the slot really drew.
    steps: int32 [], decode steps that were run.
  """

  tokens: jax.Array
  sampler_logprobs: jax.Array
  drawn_logprobs: jax.Array
  active: jax.Array
  steps: jax.Array


def empty_cache(config: TransformerConfig, rows: int, length: int) -> Cache:
  """Zeros of the cache's shape, [rows, K, length, H] twice a layer."""
  shape = (rows, config.num_kv_heads, length, config.head_dim)
  return [
    (jnp.zeros(shape, config.compute_dtype), jnp.zeros(shape, config.compute_dtype)) for _ in range(config.num_layers)
  ]


def empty_slots(slots: int) -> Slots:
  """No slot at work."""
  zeros = jnp.zeros((slots,), jnp.int32)
  key = jnp.zeros((slots, 2), jnp.uint32)
  return Slots(token=zeros, position=zeros, drawn=zeros, lane=zeros, limit=zeros, active=zeros.astype(bool), key=key)
