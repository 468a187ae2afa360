"""Losses of the value function."""

import chex
import jax
import jax.numpy as jnp

from posttrain_jax.losses import masking


def clipped_value_loss(
  values: chex.Array, old_values: chex.Array, returns: chex.Array, mask: chex.Array, *, clip: chex.Numeric = 0.2
) -> jax.Array:
  """PPO's clipped value loss.

  loss_t = ½ max((v_t − R_t)², (clip(v_t, v_old,t ± clip) − R_t)²)

  From OpenAI Baselines' PPO2 ("Implementation Matters in Deep Policy Gradients", arXiv:2005.12729, section 3). The
  bound is in units of the value, so it depends on the scale of the rewards.

  Args:
    values: [B, T], of the model being trained; values[t] is before token t. B stands for any leading axes.
    old_values: [B, T], the same model's at the start of the update; constants.
    returns: [B, T], targets (`losses.advantages.gae`); constants.
    mask: [B, T], bool or float, not 0 on counted tokens.
    clip: how far from its old value a value may move before the clipped square takes over.

  Returns:
    [B, T] losses in at least float32, 0 where the mask is 0.
  """
  mask, values, old_values, returns = masking.counted(mask, values, old_values, returns)
  old_values, returns = jax.lax.stop_gradient((old_values, returns))
  clipped = jnp.clip(values, old_values - clip, old_values + clip)
  return jnp.where(mask, jnp.maximum(jnp.square(values - returns), jnp.square(clipped - returns)) / 2, 0)
