"""Tests residual dropout.

Tested are rates by layer, masks that belong to a row, the expectation, and the same program without dropout.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from posttrain_jax.models.config import Remat, TransformerConfig
from posttrain_jax.models.dropout import ResidualDropout, SubBlock, at_layer
from posttrain_jax.models.forward import row_hidden
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.parallel.reshard import unstack_layers
from posttrain_jax.parallel.sharding import LEARNER_RULES, batch_sharding, state_shardings
from posttrain_jax.types import InputError
from tests.random_params import graph, random_params

CONFIG = TransformerConfig(
  vocab_size=20, num_layers=3, embed_dim=8, mlp_dim=12, num_heads=2, num_kv_heads=2, head_dim=4
)
TOKENS = np.random.default_rng(0).integers(0, 20, size=(4, 6))
params = functools.cache(lambda: random_params(CONFIG))
row_keys = lambda count, seed=0: jax.random.split(jax.random.key(seed), count)  # noqa: E731


@functools.partial(jax.jit, static_argnums=0)
def hidden(config, params, tokens, dropout=None):
  return row_hidden(nnx.merge(graph(config), params), tokens, dropout=dropout)


@functools.partial(jax.jit, static_argnums=0)
def gradient(config, params, dropout):
  return jax.grad(lambda params: jnp.sum(jnp.sin(hidden(config, params, TOKENS, dropout))))(params)


@pytest.mark.parametrize(
  "first, last, layers, expected",
  [
    (0.0, 0.3, 4, [0, 0.1, 0.2, 0.3]),
    (0.2, 0.2, 3, [0.2, 0.2, 0.2]),
    (0.0, 0.3, 1, [0.3]),
    (0.4, 0.0, 2, [0.4, 0.0]),
  ],
)
def test_rates_rise_linearly_with_depth(first, last, layers, expected):
  np.testing.assert_allclose(ResidualDropout(row_keys(1), first, last).rates(layers), expected, atol=1e-7)


@pytest.mark.parametrize("first, last", [(0.0, 1.0), (-0.1, 0.3), (1.5, 0.0)])
def test_a_rate_that_is_none_is_refused(first, last):
  with pytest.raises(InputError, match=r"dropout: rates .* expected \[0, 1\)"):
    ResidualDropout(row_keys(1), first, last)


def test_a_branch_is_untouched_at_rate_0_and_kept_in_expectation():
  keys, branch = row_keys(400), jnp.asarray(np.random.default_rng(1).normal(size=(1, 3, 5)), jnp.float32)
  branch = jnp.broadcast_to(branch, (400, 3, 5))
  drop = lambda rate: at_layer(ResidualDropout(keys, 0.0, 0.5), (jnp.int32(1), jnp.float32(rate)))  # noqa: E731
  np.testing.assert_array_equal(drop(0.0)(branch, SubBlock.MLP), branch)
  dropped = np.asarray(drop(0.25)(branch, SubBlock.MLP))
  kept = dropped != 0
  np.testing.assert_allclose(dropped[kept], np.asarray(branch)[kept] / 0.75, rtol=1e-6)
  assert kept.mean() == pytest.approx(0.75, abs=4 * np.sqrt(0.75 * 0.25 / 6000))  # four standard errors
  np.testing.assert_allclose(dropped.mean(0), branch[0], atol=5 * np.sqrt(0.25 / 0.75 / 400) * np.abs(branch).max())
  assert at_layer(ResidualDropout(keys, 0.0, 0.5), (0, 0.25))(branch.astype(jnp.bfloat16), 0).dtype == jnp.bfloat16


def test_layers_branches_rows_and_keys_have_masks_of_their_own():
  def mask(layer, sub_block, keys):
    drop = at_layer(ResidualDropout(keys, 0.5, 0.5), (jnp.int32(layer), jnp.float32(0.5)))
    return np.asarray(drop(jnp.ones((2, 4, 8)), sub_block)) != 0

  first = mask(0, SubBlock.ATTENTION, row_keys(2))
  np.testing.assert_array_equal(first, mask(0, SubBlock.ATTENTION, row_keys(2)))
  others = [
    mask(0, SubBlock.MLP, row_keys(2)),
    mask(1, SubBlock.ATTENTION, row_keys(2)),
    mask(0, SubBlock.ATTENTION, row_keys(2, seed=1)),
    first[::-1],
  ]
  assert all((first != other).any() for other in others)


def test_both_branches_of_every_layer_but_the_first_are_dropped():
  """Checks a single layer, which has the last layer's rate.

  At rate 0 it returns the same as without dropout. At rate 0.5 each of its two branches is dropped.
  """
  one = dataclasses.replace(CONFIG, num_layers=1)
  alone = jax.tree.map(lambda x: x, params())
  alone["blocks"] = jax.tree.map(lambda x: x[:1], params()["blocks"])
  np.testing.assert_array_equal(
    hidden(one, alone, TOKENS, ResidualDropout(row_keys(4), 0.5, 0.0)), hidden(one, alone, TOKENS)
  )
  for silent in ("mlp", "attention"):  # one branch is zero: a difference comes from the other
    branch = alone["blocks"][silent]
    output = "down" if silent == "mlp" else "out"
    quiet = nnx.State({**alone, "blocks": nnx.State({**alone["blocks"], silent: nnx.State(
      {name: branch[name].replace(branch[name][...] * (name != output)) for name in branch})})})  # fmt: skip
    dropped = hidden(one, quiet, TOKENS, ResidualDropout(row_keys(4), 0.0, 0.5))
    assert np.abs(np.asarray(dropped) - hidden(one, quiet, TOKENS)).max() > 0.1, silent


DROPOUT = ResidualDropout(row_keys(4), 0.1, 0.5)


def test_a_row_does_not_know_what_batch_it_is_in():
  together = hidden(CONFIG, params(), TOKENS, DROPOUT)
  # The rows in another order, among others: the batch has as many rows, so not a bit may differ.
  rows, others = np.array([3, 1]), row_keys(2, seed=1)
  keys = jnp.concatenate([others[:1], DROPOUT.keys[rows], others[1:]])
  tokens = np.concatenate([TOKENS[:1] + 1, TOKENS[rows], TOKENS[:1] + 2]) % 20
  found = hidden(CONFIG, params(), tokens, ResidualDropout(keys, 0.1, 0.5))
  np.testing.assert_array_equal(found[1:3], together[rows])
  assert np.abs(np.asarray(together) - hidden(CONFIG, params(), TOKENS)).max() > 0.1


def test_a_mesh_changes_nothing(capfd):
  mesh = make_mesh(dict(data=2, fsdp=2, tensor=2))
  placed = jax.device_put(params(), state_shardings(params(), mesh, LEARNER_RULES))
  tokens, keys = jax.device_put((TOKENS, DROPOUT.keys), batch_sharding(mesh))
  with jax.set_mesh(mesh):
    sharded = np.asarray(hidden(CONFIG, placed, tokens, ResidualDropout(keys, 0.1, 0.5)))
  np.testing.assert_allclose(sharded, hidden(CONFIG, params(), TOKENS, DROPOUT), atol=2e-6)
  assert "Involuntary full rematerialization" not in capfd.readouterr().err


@pytest.mark.parametrize("remat", [Remat.DOTS, Remat.FULL])
def test_what_is_recomputed_is_dropped_alike(remat):
  found = gradient(dataclasses.replace(CONFIG, remat=remat), params(), DROPOUT)
  expected = gradient(CONFIG, params(), DROPOUT)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected)


def test_layers_as_a_list_are_dropped_as_in_the_stack():
  unstacked = unstack_layers(params(), 3, "float32")
  found = hidden(dataclasses.replace(CONFIG, stacked=False), unstacked, TOKENS, DROPOUT)
  np.testing.assert_allclose(found, hidden(CONFIG, params(), TOKENS, DROPOUT), atol=1e-6)


def test_without_dropout_the_program_draws_nothing():
  text = lambda dropout: str(jax.make_jaxpr(functools.partial(hidden, CONFIG))(params(), TOKENS, dropout))  # noqa: E731
  assert "random" not in text(None) and "iota[dimension=0 dtype=int32 shape=(3,)" not in text(None)
  assert "random" in text(DROPOUT)
