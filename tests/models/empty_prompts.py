"""Makes caches whose prompts have no tokens.

They are for tests in which all tokens are in the rows' own cache.
"""

import jax
import jax.numpy as jnp

from posttrain_jax.models.attention import Prefixes


def no_prompts(rows: int) -> Prefixes:
  return Prefixes(lengths=jnp.zeros(rows, jnp.int32), lanes=jnp.arange(rows), share=1)


def beside_no_prompts(keys: jax.Array, values: jax.Array) -> tuple[jax.Array, ...]:
  """Makes a layer's cache [S, K, L, H] with prompts of one position.

  No row attends to that position: its large values would show.
  """
  prompts = jnp.full_like(keys[:, :, :1], 100.0)
  return keys, values, prompts, prompts
