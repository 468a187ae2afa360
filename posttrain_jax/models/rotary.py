"""Rotary position embeddings (RoFormer, 2104.09864), in float32 whatever the compute dtype."""

import jax
import jax.numpy as jnp

from posttrain_jax.models.config import RopeScaling

# Cosines and sines.
Rotation = tuple[jax.Array, jax.Array]


def rotary_frequencies(head_dim: int, theta: float, scaling: RopeScaling | None) -> jax.Array:
  """Angular frequency of each pair of dimensions, float32 [H / 2] (RoFormer, 2104.09864; Llama 3.1 for the scaling)."""
  frequencies = theta ** (-jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim)
  if scaling is None:
    return frequencies
  turns = scaling.original_length * frequencies / (2 * jnp.pi)  # how often a pair turns over the original context
  kept = (turns - scaling.low_frequency_factor) / (scaling.high_frequency_factor - scaling.low_frequency_factor)
  kept = jnp.clip(kept, 0.0, 1.0)
  return frequencies * (kept + (1 - kept) / scaling.factor)


def rotation_at(positions: jax.Array, frequencies: jax.Array) -> Rotation:
  """Cosines and sines of position times frequency, each float32 [B, T, 1, H / 2], the same for all layers and heads.

  They are made once: left to itself the CPU's compiler computes them anew for every head that they turn.
  """
  angles = positions[..., None, None].astype(jnp.float32) * frequencies[None, None, None]
  return jax.lax.optimization_barrier((jnp.cos(angles), jnp.sin(angles)))


def rotate(x_BxTxNxH: jax.Array, rotation: Rotation) -> jax.Array:
  """Turns dimension i of each head together with i + H / 2, in float32."""
  cos, sin = rotation
  first, second = jnp.split(x_BxTxNxH.astype(jnp.float32), 2, axis=-1)
  return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], -1).astype(x_BxTxNxH.dtype)
