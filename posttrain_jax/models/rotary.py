"""Computes rotary position embeddings (RoFormer, 2104.09864), in float32 for every compute dtype."""

import jax
import jax.numpy as jnp

from posttrain_jax.models.config import RopeScaling

# Cosines and sines, each float32 [B, T, 1, H / 2].
Rotation = tuple[jax.Array, jax.Array]


def rotary_frequencies(head_dim: int, theta: float, scaling: RopeScaling | None) -> jax.Array:
  """Returns the angular frequency of each pair of dimensions.

  RoFormer (2104.09864), section 3.2.2; for the scaling, Llama 3.1's model card.

  Args:
    head_dim: H, even.
    theta: base of the frequencies: pair i turns by theta^(-2i / H) for each position.
    scaling: how frequencies are stretched to longer contexts; None: not at all.

  Returns:
    float32 [H / 2].
  """
  frequencies = theta ** (-jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim)
  if scaling is None:
    return frequencies
  turns = scaling.original_length * frequencies / (2 * jnp.pi)  # full turns of a pair over the original context
  kept = (turns - scaling.low_frequency_factor) / (scaling.high_frequency_factor - scaling.low_frequency_factor)
  kept = jnp.clip(kept, 0.0, 1.0)
  return frequencies * (kept + (1 - kept) / scaling.factor)


def rotation_at(positions: jax.Array, frequencies: jax.Array) -> Rotation:
  """Computes the cosines and sines of position times frequency, for all layers and heads.

  The barrier makes them once. Without it the CPU's compiler computes them again for every head.

  Args:
    positions: int [B, T].
    frequencies: float32 [H / 2].

  Returns:
    (cosines, sines), each float32 [B, T, 1, H / 2].
  """
  angles = positions[..., None, None].astype(jnp.float32) * frequencies[None, None, None]
  return jax.lax.optimization_barrier((jnp.cos(angles), jnp.sin(angles)))


def rotate(x_BxTxNxH: jax.Array, rotation: Rotation) -> jax.Array:
  """Rotates dimension i of each head together with i + H / 2.

  Args:
    x_BxTxNxH: [B, T, N, H], queries or keys.
    rotation: the cosines and sines (`rotation_at`).

  Returns:
    [B, T, N, H] in the dtype of x, computed in float32.
  """
  cos, sin = rotation
  first, second = jnp.split(x_BxTxNxH.astype(jnp.float32), 2, axis=-1)
  return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], -1).astype(x_BxTxNxH.dtype)
