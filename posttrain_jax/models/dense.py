"""Multiplies hidden states with a kernel, with a gradient that CPUs compute faster."""

import jax
import jax.numpy as jnp


@jax.custom_vjp
def dense(x_BxTxI: jax.Array, kernel_IxO: jax.Array) -> jax.Array:
  """Returns x · kernel, [B, T, O].

  The kernel's gradient is written as xᵀ · dy. Autodiff writes it as (dyᵀ · x)ᵀ, for which the CPU's compiler transposes
  dy. In a layer that widens, dy is the larger array, and this takes a fifth of the time of an MLP's backward pass.

  Args:
    x_BxTxI: [B, T, I] hidden states.
    kernel_IxO: [I, O], in the dtype of x.
  """
  return jnp.einsum("bti,io->bto", x_BxTxI, kernel_IxO)


def _forward(x_BxTxI, kernel_IxO):
  return dense(x_BxTxI, kernel_IxO), (x_BxTxI, kernel_IxO)


def _backward(kept, to_y_BxTxO):
  x_BxTxI, kernel_IxO = kept
  return jnp.einsum("bto,io->bti", to_y_BxTxO, kernel_IxO), jnp.einsum("bti,bto->io", x_BxTxI, to_y_BxTxO)


dense.defvjp(_forward, _backward)
