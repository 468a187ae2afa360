"""Makes random hidden states and targets, and computes their logprobs by the definition."""

import jax
import jax.numpy as jnp
import numpy as np

WIDTH, VOCABULARY = 8, 13


def example(shape=(3, 7), width=WIDTH, vocabulary=VOCABULARY, seed=0, dtype=np.float64):
  rng = np.random.default_rng(seed)
  hidden = rng.normal(size=(*shape, width)).astype(dtype)
  unembedding = rng.normal(size=(width, vocabulary)).astype(dtype)
  return hidden, unembedding, rng.integers(0, vocabulary, size=shape).astype(np.int32)


def full(hidden, unembedding, targets, temperature=1.0, softcap=None):
  """Computes (logprobs, entropies) by the definition, with all logits at once."""
  logits = hidden @ unembedding
  if softcap is not None:
    logits = softcap * jnp.tanh(logits / softcap)
  logprobs = jax.nn.log_softmax(logits / temperature)
  picked = jnp.take_along_axis(logprobs, targets[..., None], axis=-1)[..., 0]
  return picked, -jnp.sum(jnp.exp(logprobs) * logprobs, axis=-1)


TOKENS, LARGE_VOCABULARY, CHUNK = 2048, 8192, 64


def shapes_in(jaxpr):
  """Yields the shape of every value in a jaxpr and in the jaxprs inside it."""
  for equation in jaxpr.eqns:
    yield from (variable.aval.shape for variable in equation.outvars)
    for parameter in jax.tree.leaves(equation.params, is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")):
      inner = getattr(parameter, "jaxpr", parameter)
      if hasattr(inner, "eqns"):
        yield from shapes_in(inner)


def arguments(rows, tokens, width=16):
  return (
    jax.ShapeDtypeStruct((rows, tokens // rows, width), jnp.float32),
    jax.ShapeDtypeStruct((width, LARGE_VOCABULARY), jnp.float32),
    jax.ShapeDtypeStruct((rows, tokens // rows), jnp.int32),
  )
