"""Makes a small train state in any layout, for tests of checkpoints."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from posttrain_jax.learner import checkpoint_folder


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
  step: jax.Array
  params: nnx.State
  opt_state: optax.OptState


class Block(nnx.Module):
  def __init__(self, rngs):
    self.up = nnx.Param(jax.random.normal(rngs.params(), (16, 32), jnp.bfloat16), logical_axes=("embed", "mlp"))


class Model(nnx.Module):
  def __init__(self, rngs):
    self.embed = nnx.Param(jax.random.normal(rngs.params(), (8, 16)), logical_axes=("vocab", "embed"))
    self.blocks = nnx.vmap(Block)(rngs.split(4))


OPTIMISER = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(optax.linear_schedule(0.0, 1e-3, 10)))


def make_state(seed=0):
  params = nnx.state(Model(nnx.Rngs(params=seed)))
  return State(jnp.int32(seed), params, OPTIMISER.init(params))


def shardings(shape):
  mesh = Mesh(np.array(jax.devices()[: math.prod(shape)]).reshape(shape), ("fsdp", "tensor"))

  def one(leaf):
    spec = [None] * (leaf.ndim - 2) + ["fsdp", "tensor"] if leaf.ndim > 1 else []
    return NamedSharding(mesh, PartitionSpec(*spec))

  return jax.tree.map(one, jax.eval_shape(make_state))


def place(seed=0, shape=(2, 4)):
  return jax.device_put(make_state(seed), shardings(shape))


def target(shape=(2, 4)):
  def one(leaf, sharding):
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

  return jax.tree.map(one, jax.eval_shape(make_state), shardings(shape))


def finished(directory):
  return checkpoint_folder.finished_steps(directory)


def flip_one_bit(path):
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 8
  path.write_bytes(content)


def largest_file(step_directory):
  return max((path for path in step_directory.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
