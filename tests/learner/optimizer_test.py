import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from posttrain_jax.learner.optimizer import Schedule, learning_rate_schedule, make_optimizer
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.transformer import Transformer
from posttrain_jax.types import InputError
from tests.learner.settings import make_optimizer_config


def ones(config):
  abstract = nnx.state(nnx.eval_shape(lambda: Transformer(config, nnx.Rngs(0))))
  return jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype), abstract)


def rates(config, count):
  schedule = learning_rate_schedule(config)
  return [float(schedule(i)) for i in range(count)]


def test_warm_up_moves_from_the_first_update_on():
  config = make_optimizer_config(learning_rate=1.0, warmup_updates=4)
  np.testing.assert_allclose(rates(config, 6), [0.25, 0.5, 0.75, 1, 1, 1], rtol=1e-6)
  assert rates(make_optimizer_config(learning_rate=1.0, warmup_updates=1), 3) == [1, 1, 1]


def test_decays():
  linear = make_optimizer_config(learning_rate=1.0, schedule=Schedule.LINEAR, decay_updates=10, end_fraction=0.5)
  np.testing.assert_allclose(rates(linear, 12), [*np.linspace(1, 0.5, 11), 0.5], rtol=1e-6)
  cosine = make_optimizer_config(
    learning_rate=2.0, schedule=Schedule.COSINE, warmup_updates=2, decay_updates=12, end_fraction=0.1
  )
  found = rates(cosine, 14)
  # Half-way between peak 2 and end 0.2 in the middle of the 10 updates after the warm-up.
  np.testing.assert_allclose([found[1], found[2], found[7], found[12], found[13]], [2, 2, 1.1, 0.2, 0.2], rtol=1e-6)


def test_a_schedule_without_an_end_is_refused():
  with pytest.raises(InputError, match="decay_updates: 5, expected more than warmup_updates 5 for the cosine"):
    make_optimizer_config(schedule=Schedule.COSINE, warmup_updates=5, decay_updates=5).check()


def test_only_matrices_decay():
  config = TransformerConfig(
    vocab_size=7,
    num_layers=2,
    embed_dim=8,
    mlp_dim=8,
    num_heads=2,
    num_kv_heads=1,
    head_dim=4,
    qkv_bias=True,
    qk_norm=True,
  )
  params = ones(config)
  optimizer = make_optimizer(make_optimizer_config(learning_rate=1.0, weight_decay=0.5))
  changes, _ = optimizer.update(jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params)
  flat = {"/".join(map(str, path)): value for path, value in nnx.to_flat_state(changes)}
  decayed = {name for name, value in flat.items() if np.any(np.asarray(value.get_value()))}
  matrices = {name for name in flat if not name.endswith(("scale", "_bias"))}
  assert decayed == matrices and len(flat) > len(matrices) > 5


def test_clipping_is_by_the_global_norm():
  optimizer = make_optimizer(make_optimizer_config(learning_rate=1.0, clip_norm=1.0, b1=0.0, b2=0.0, epsilon=1e8))
  config = TransformerConfig(7, 1, 8, 8, 1, 1, 8)
  params = gradient = ones(config)
  changes, _ = optimizer.update(gradient, optimizer.init(params), params)
  # With such an epsilon Adam divides by it: what is left is the clipped gradient / 1e8, of norm 1e-8.
  norm = np.sqrt(sum(float((leaf**2).sum()) for leaf in jax.tree.leaves(changes)))
  assert norm == pytest.approx(1e-8, rel=1e-4)


def test_the_norm_of_a_large_gradient_is_right():
  # Four million numbers of one size: added one after the other in float32, their squares are off by 1e-3 and more.
  gradient = {"a": jnp.full((2048, 2048), 0.1), "b": jnp.full((3,), 0.1)}
  expected = float(np.float32(0.1)) * np.sqrt(2048**2 + 3)
  clipped, _ = optax.clip_by_global_norm(1.0).update(gradient, optax.EmptyState())
  assert jax.jit(optax.tree.norm)(gradient) == pytest.approx(expected, rel=2e-6)
  assert clipped["b"][0] == pytest.approx(0.1 / expected, rel=2e-6)


@pytest.mark.parametrize(
  ("field", "value"),
  [
    ("learning_rate", np.nan),
    ("learning_rate", -1e-3),
    ("learning_rate", np.inf),
    ("b1", 1.0),
    ("b2", 1.5),
    ("b2", 1 - 1e-9),  # 1 in float32, in which the moments' correction would be 0 / 0
    ("b2", -0.1),
    ("epsilon", 0.0),
    ("epsilon", 1e-60),
    ("weight_decay", -0.1),
    ("clip_norm", np.nan),
    ("end_fraction", -0.5),
    ("warmup_updates", -1),
  ],
)
def test_numbers_out_of_range_are_refused(field, value):
  with pytest.raises(InputError, match=rf"optimizer.{field}: .*, expected a finite number, "):
    make_optimizer_config(**{field: value})
