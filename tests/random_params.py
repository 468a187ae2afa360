"""Draws parameters for tests with numpy: eager `jax.random` compiles a program for every shape."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.transformer import Transformer


def graph(config: TransformerConfig) -> nnx.GraphDef:
  return nnx.split(nnx.eval_shape(lambda: Transformer(config, nnx.Rngs(0))))[0]


def names(tree) -> dict[str, jax.Array]:
  """Maps dotted names, such as `blocks.attention.query`, to leaves."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {jax.tree_util.keystr(path, simple=True, separator=".").removesuffix(".value"): leaf for path, leaf in leaves}


def random_params(config: TransformerConfig, *, seed: int = 0, dtype=jnp.float32) -> nnx.State:
  """Draws weights and biases of standard deviation 1/4 and norm scales around 1, so each has an effect."""
  rng = np.random.default_rng(seed)

  def one(path, leaf):
    center = 1.0 if "norm" in jax.tree_util.keystr(path) else 0.0
    return jnp.asarray(center + 0.25 * rng.normal(size=leaf.shape), dtype)

  return jax.tree_util.tree_map_with_path(one, nnx.state(nnx.eval_shape(lambda: Transformer(config, nnx.Rngs(0)))))
