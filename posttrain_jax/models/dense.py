"""The product of hidden states with a kernel, with the gradient of the kernel in the order that costs least."""

import jax
import jax.numpy as jnp


@jax.custom_vjp
def dense(x_BxTxI: jax.Array, kernel_IxO: jax.Array) -> jax.Array:
  """x · kernel, [B, T, O].

  Its kernel's gradient is xᵀ · dy. Autodiff writes it (dyᵀ · x)ᵀ, for which the CPU's compiler transposes dy, the wider
  of the two where a layer widens: a fifth of the time of an MLP's backward pass.
  """
  return jnp.einsum("bti,io->bto", x_BxTxI, kernel_IxO)


def _forward(x_BxTxI, kernel_IxO):
  return dense(x_BxTxI, kernel_IxO), (x_BxTxI, kernel_IxO)


def _backward(kept, to_y_BxTxO):
  x_BxTxI, kernel_IxO = kept
  return jnp.einsum("bto,io->bti", to_y_BxTxO, kernel_IxO), jnp.einsum("bti,bto->io", x_BxTxI, to_y_BxTxO)


dense.defvjp(_forward, _backward)
