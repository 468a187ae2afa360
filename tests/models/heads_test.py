"""Tests scalar heads: read at the last real token, in float32, for any padding."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from posttrain_jax.learner.digest import params_sha256
from posttrain_jax.learner.optimizer import make_optimizer
from posttrain_jax.learner.state import make_train_state
from posttrain_jax.models import heads
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.forward import row_hidden
from posttrain_jax.models.transformer import abstract_transformer
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.parallel.reshard import unstack_layers
from tests.learner.settings import make_optimizer_config
from tests.random_params import graph, names, random_params

CONFIG = TransformerConfig(
  vocab_size=20, num_layers=2, embed_dim=8, mlp_dim=12, num_heads=2, num_kv_heads=2, head_dim=4, scalar_head=True
)
LANGUAGE = dataclasses.replace(CONFIG, scalar_head=False)
rng = np.random.default_rng(0)
PROMPTS, PROMPT_LENGTHS = rng.integers(0, 20, size=(4, 5)), np.array([5, 1, 3, 4])
ANSWERS, LENGTHS = rng.integers(0, 20, size=(4, 2, 4)), np.array([[4, 1], [0, 3], [2, 4], [1, 1]])
params = functools.cache(lambda: random_params(CONFIG))


@functools.partial(jax.jit, static_argnums=0)
def row_scores(config, params, tokens, lengths):
  return heads.row_scores(nnx.merge(graph(config), params), tokens, lengths)


def joined(fill=0, answers=ANSWERS):
  """Puts every prompt with each of its answers in a row [8, 9] of its own; returns rows and lengths."""
  rows, lengths = np.full((8, 9), fill), []
  for i, (prompt, count) in enumerate(zip(PROMPTS, PROMPT_LENGTHS)):
    for j in range(2):
      row = [*prompt[:count], *answers[i, j, : LENGTHS[i, j]]]
      rows[2 * i + j, : len(row)] = row
      lengths.append(len(row))
  return rows, np.array(lengths)


def test_a_row_has_the_score_of_its_last_token():
  """Computes scores by hand in numpy, from hidden states of rows cut to their length."""
  score, bias = np.asarray(params()["score"][...], np.float64), float(params()["score_bias"][...])
  rows, lengths = joined()
  hidden = jax.jit(lambda rows: [row_hidden(nnx.merge(graph(CONFIG), params()), row[None])[0, -1] for row in rows])
  alone = hidden([row[:n] for row, n in zip(rows, lengths)])
  expected = [np.asarray(each, np.float64) @ score + bias for each in alone]
  np.testing.assert_allclose(row_scores(CONFIG, params(), rows, lengths), expected, atol=1e-5)


@pytest.mark.parametrize("fill", [3, 19])
def test_padding_has_no_influence(fill):
  """Padding with the token that ends answers changes nothing: lengths decide what is real."""
  rows, lengths = joined(fill)
  np.testing.assert_array_equal(
    row_scores(CONFIG, params(), rows, lengths), row_scores(CONFIG, params(), joined()[0], lengths)
  )


def test_the_last_token_is_seen():
  changed = ANSWERS.copy()
  changed[0, 1, 0] = (changed[0, 1, 0] + 1) % 20  # the only token of that answer
  moved = row_scores(CONFIG, params(), *joined(answers=changed)) != row_scores(CONFIG, params(), *joined())
  np.testing.assert_array_equal(moved, np.arange(8) == 1)


def test_every_parameter_has_a_gradient():
  weights = rng.normal(size=8).astype(np.float32)
  gradient = jax.jit(jax.grad(lambda p: jnp.sum(row_scores(CONFIG, p, *joined()) * weights)))(params())
  assert all(np.abs(leaf).max() > 1e-3 for leaf in names(gradient).values())
  np.testing.assert_allclose(gradient["score_bias"][...], weights.sum(), rtol=1e-5)


def test_scores_are_float32_in_a_bfloat16_model():
  config = dataclasses.replace(CONFIG, compute_dtype="bfloat16")
  found = row_scores(config, params(), *joined())
  assert found.dtype == jnp.float32
  model = nnx.merge(graph(config), params())
  hidden = jnp.asarray(rng.normal(size=(3, 8)), jnp.bfloat16)
  exact = np.asarray(hidden, np.float64) @ np.asarray(params()["score"][...], np.float64) + float(model.score_bias[...])
  np.testing.assert_allclose(heads.token_scores(model, hidden), exact, atol=1e-6)  # bfloat16 would be off by 1e-2


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("stacked", [False, True])
def test_a_language_model_becomes_a_reward_model(tied, stacked):
  language = dataclasses.replace(LANGUAGE, tied=tied, stacked=stacked)
  before = random_params(language)
  config, after = heads.to_scalar_head(language, before, seed=1)
  assert config == dataclasses.replace(language, scalar_head=True)
  assert jax.tree.structure(after) == jax.tree.structure(abstract_transformer(config)[1])
  found, kept = names(after), names(before)
  assert set(found) == set(kept) - {"head"} | {"score", "score_bias"}
  assert all(found[name] is kept[name] for name in set(found) & set(kept))
  assert found["score_bias"] == 0 and found["score"].dtype == jnp.float32
  assert heads.to_scalar_head(config, after, seed=2) == (config, after)
  assert np.asarray(row_scores(config, after, *joined())).std() > 0
  config, after = heads.to_scalar_head(language, before, seed=1, zero=True)
  np.testing.assert_array_equal(row_scores(config, after, *joined()), np.zeros(8))
  # A reward model's head goes the same way, its bias too.
  reward_model = dataclasses.replace(CONFIG, tied=tied, stacked=stacked)
  same, zero = heads.to_scalar_head(reward_model, random_params(reward_model), seed=1, zero=True)
  assert same == reward_model
  np.testing.assert_array_equal(row_scores(same, zero, *joined()), np.zeros(8))


def test_the_head_is_drawn_with_variance_one_over_width_plus_one():
  wide = dataclasses.replace(LANGUAGE, embed_dim=4096)
  drawn = [
    np.asarray(names(heads.to_scalar_head(wide, random_params(wide), seed=seed)[1])["score"]) for seed in (0, 0, 1)
  ]
  np.testing.assert_array_equal(drawn[0], drawn[1])
  assert (drawn[0] != drawn[2]).all()
  assert drawn[0].var() * 4097 == pytest.approx(1, abs=4 * np.sqrt(2 / 4096))  # four standard errors


def test_shifting_moves_every_score_alike():
  before = np.asarray(row_scores(CONFIG, params(), *joined()))
  shifted = heads.shift_scores(params(), -before.mean())
  np.testing.assert_allclose(row_scores(CONFIG, shifted, *joined()), before - before.mean(), atol=1e-6)
  np.testing.assert_array_equal(row_scores(CONFIG, params(), *joined()), before)
  assert jax.tree.structure(shifted) == jax.tree.structure(params())


def test_a_reward_model_has_no_logits():
  with pytest.raises(TypeError, match="no logits"):
    nnx.merge(graph(CONFIG), params()).unembedding()


def test_unstacked_layers_keep_the_head():
  unstacked = unstack_layers(params(), 2, "float32")
  config = dataclasses.replace(CONFIG, stacked=False)
  expected = row_scores(CONFIG, params(), *joined())
  np.testing.assert_allclose(row_scores(config, unstacked, *joined()), expected, atol=1e-6)


def test_a_train_state_on_a_mesh(capfd):
  """Checks a scalar parameter's shardings, optimiser state, decay and digest on the mesh.

  Scores and gradients are checked, too.
  """
  mesh = make_mesh(dict(data=2, fsdp=2, tensor=2))
  optimizer = make_optimizer(make_optimizer_config(learning_rate=0.1, epsilon=1.0, weight_decay=0.5))
  state, shardings = make_train_state(CONFIG, optimizer, mesh, seed=0, params=random_params(CONFIG))
  assert shardings.params["score"].get_value().spec == jax.sharding.PartitionSpec("fsdp")
  assert shardings.params["score_bias"].get_value().spec == jax.sharding.PartitionSpec()
  assert params_sha256(state.params) == params_sha256(params())
  assert params_sha256(heads.shift_scores(params(), 1.0)) != params_sha256(params())

  loss = lambda p: jnp.sum(row_scores(CONFIG, p, *joined()) ** 2)  # noqa: E731
  with jax.set_mesh(mesh):
    found = jax.jit(jax.grad(loss), out_shardings=shardings.params)(state.params)
  assert "Involuntary full rematerialization" not in capfd.readouterr().err
  expected = jax.jit(jax.grad(loss))(params())
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected)

  @functools.partial(jax.jit, out_shardings=shardings.params)
  def changes(gradient):
    return optimizer.update(gradient, state.opt_state, state.params)[0]

  decay = names(changes(jax.tree.map(jnp.zeros_like, found)))
  assert not decay["score"].any() and not decay["score_bias"] and decay["embed"].any()
  moved = names(changes(found))
  assert moved["score"].all() and moved["score_bias"]


def test_random_parameters_begin_at_bias_0():
  optimizer = make_optimizer(make_optimizer_config())
  state, _ = make_train_state(CONFIG, optimizer, make_mesh({}, jax.devices()[:1]), seed=0)
  assert state.params["score_bias"][...] == 0 and state.params["score"][...].std() > 0
