"""Computes the loss of the value function, and its explained variance."""

import chex
import jax
import jax.numpy as jnp

from posttrain_jax.losses import masking


def clipped_value_loss(
  values: chex.Array, old_values: chex.Array, returns: chex.Array, mask: chex.Array, *, clip: chex.Numeric = 0.2
) -> jax.Array:
  """Computes PPO's clipped value loss.

  loss_t = ½ max((v_t − R_t)², (clip(v_t, v_old,t ± clip) − R_t)²)

  From OpenAI Baselines' PPO2 ("Implementation Matters in Deep Policy Gradients", arXiv:2005.12729, section 3). The clip
  is in units of the value, so its effect depends on the scale of the rewards.

  Args:
    values: float [B, T], of the model being trained; values[t] is before token t. B stands for any leading axes.
    old_values: float [B, T], the same model's at the start of the update; constants.
    returns: float [B, T], targets (`losses.advantages.gae`); constants.
    mask: [B, T], bool or float, not 0 on counted tokens.
    clip: the largest distance from its old value at which a value is not clipped.

  Returns:
    [B, T] losses in at least float32, 0 where the mask is 0.
  """
  mask, values, old_values, returns = masking.counted(mask, values, old_values, returns)
  old_values, returns = jax.lax.stop_gradient((old_values, returns))
  clipped = jnp.clip(values, old_values - clip, old_values + clip)
  return jnp.where(mask, jnp.maximum(jnp.square(values - returns), jnp.square(clipped - returns)) / 2, 0)


def explained_variance(values: chex.Array, returns: chex.Array, mask: chex.Array) -> jax.Array:
  """Computes the share of the returns' variance that the values explain.

  1 − var(R − V) / var(R), over all counted tokens

  It is 1 for a perfect prediction, 0 for a constant, and negative for a prediction that is worse than a constant.

  Args:
    values: float [B, T]; values[t] is before token t. B stands for any leading axes.
    returns: float [B, T].
    mask: [B, T], bool or float, not 0 on counted tokens.

  Returns:
    Scalar in at least float32. It is 0 if no token is counted, or if the returns are equal or differ by rounding alone
    (a standard deviation of at most 8 eps(dtype) max|R|).
  """
  mask, values, returns = masking.counted(mask, values, returns)
  count = jnp.sum(mask)

  def sum_of_squares(x):
    return jnp.sum(jnp.where(mask, jnp.square(x - masking.divide_or_zero(jnp.sum(x), count)), 0))

  total = sum_of_squares(returns)
  differs = total > count * jnp.square(8 * jnp.finfo(returns.dtype).eps * jnp.max(jnp.abs(returns), initial=0))
  return jnp.where(differs, 1 - masking.divide_or_zero(sum_of_squares(returns - values), total), 0)
