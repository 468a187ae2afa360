"""Tests one transformer in all its forms.

It is stacked or not, rematerialised or not, cached or whole, with every option.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from posttrain_jax.models import attention
from posttrain_jax.models.config import Remat, TransformerConfig
from posttrain_jax.models.forward import row_hidden
from posttrain_jax.models.paged_attention import paged
from posttrain_jax.models.transformer import RMSNorm, Transformer, abstract_transformer
from posttrain_jax.parallel.reshard import unstack_layers
from tests.models.own_pages import in_pages, own_pages
from tests.random_params import graph, names, random_params

CONFIG = TransformerConfig(
  vocab_size=19,
  num_layers=3,
  embed_dim=12,
  mlp_dim=16,
  num_heads=4,
  num_kv_heads=2,
  head_dim=6,
  qkv_bias=True,
  qk_norm=True,
)
TOKENS = np.random.default_rng(0).integers(0, 19, size=(3, 7))


@functools.cache
def params():
  return random_params(CONFIG)


@functools.partial(jax.jit, static_argnums=0)
def logits_and_gradient(config, params):
  def scalar(params):
    model = nnx.merge(graph(config), params)
    logits = row_hidden(model, TOKENS) @ model.unembedding()
    return jnp.sum(jnp.sin(logits.astype(jnp.float32))), logits

  (_, logits), gradient = jax.value_and_grad(scalar, has_aux=True)(params)
  return logits, gradient


@functools.cache
def reference():
  return logits_and_gradient(CONFIG, params())


def by_hand(params, config):
  """Computes logits [B, T, V] by the architecture's definition, in numpy float64, one token and head at a time."""
  p = {name: np.asarray(leaf, np.float64) for name, leaf in names(params).items()}
  heads, kv_heads, width = config.num_heads, config.num_kv_heads, config.head_dim

  def norm(x, scale):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + config.norm_epsilon) * scale

  def turn(x, position):
    angles = position * config.rope_theta ** (-np.arange(0, width, 2) / width)
    half = width // 2
    turned = (x[:half] + 1j * x[half:]) * np.exp(1j * angles)
    return np.concatenate([turned.real, turned.imag])

  rows = []
  for tokens in TOKENS:
    x = p["embed"][tokens]
    for i in range(config.num_layers):
      q = {name.removeprefix("blocks."): leaf[i] for name, leaf in p.items() if name.startswith("blocks.")}
      normed, attended = norm(x, q["attention_norm.scale"]), np.zeros_like(x)
      for head in range(heads):
        own = head // (heads // kv_heads)
        query = normed @ q["attention.query"][:, head] + q["attention.query_bias"][head]
        key = normed @ q["attention.key"][:, own] + q["attention.key_bias"][own]
        value = normed @ q["attention.value"][:, own] + q["attention.value_bias"][own]
        query, key = norm(query, q["attention.query_norm.scale"]), norm(key, q["attention.key_norm.scale"])
        query, key = (np.stack([turn(row, t) for t, row in enumerate(each)]) for each in (query, key))
        for t in range(len(tokens)):
          weights = np.exp(key[: t + 1] @ query[t] / math.sqrt(width))
          attended[t] += (weights / weights.sum()) @ value[: t + 1] @ q["attention.out"][head]
      x = x + attended
      normed = norm(x, q["mlp_norm.scale"])
      gate = normed @ q["mlp.gate"]
      x = x + (gate / (1 + np.exp(-gate)) * (normed @ q["mlp.up"])) @ q["mlp.down"]
    rows.append(norm(x, p["final_norm.scale"]) @ p["head"])
  return np.stack(rows)


def test_the_architecture_by_hand():
  np.testing.assert_allclose(reference()[0], by_hand(params(), CONFIG), atol=2e-5)


@pytest.mark.parametrize(
  "change",
  [{"remat": Remat.DOTS}, {"remat": Remat.FULL}, {"remat": Remat.HOST}, {"unroll": 3}],
  ids=lambda change: str(next(iter(change.items()))),
)
def test_what_is_recomputed_or_unrolled_changes_nothing(change):
  logits, gradient = logits_and_gradient(dataclasses.replace(CONFIG, **change), params())
  np.testing.assert_allclose(logits, reference()[0], atol=1e-5)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5), gradient, reference()[1])


@functools.cache
def saved(remat, stacked):
  graph, abstract = abstract_transformer(dataclasses.replace(CONFIG, remat=remat, stacked=stacked))

  def hidden(params):
    return row_hidden(nnx.merge(graph, params), TOKENS)

  backward = jax.eval_shape(lambda params: jax.vjp(hidden, params)[1], abstract)
  return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(backward))


@pytest.mark.parametrize("stacked", [True, False])
@pytest.mark.parametrize(("remat", "kept"), [(Remat.NONE, 3), (Remat.DOTS, 2), (Remat.FULL, 1)])
def test_remat_keeps_less(remat, kept, stacked):
  """Counts the bytes kept for the backward pass: fewer with dots, fewest with full (or attention)."""
  sizes = {each: saved(each, stacked) for each in Remat}
  assert sizes.pop(Remat.HOST) == sizes[Remat.FULL]  # in another memory
  assert sorted(sizes.values(), reverse=True).index(sizes[remat]) == 3 - kept
  assert len(set(sizes.values())) == 3 and sizes[Remat.ATTENTION] == sizes[Remat.FULL]


def test_layers_as_a_list_equal_layers_as_a_stack():
  config = dataclasses.replace(CONFIG, stacked=False)
  unstacked = unstack_layers(params(), 3, "float32")

  @jax.jit
  def logits(params):
    model = nnx.merge(graph(config), params)
    return row_hidden(model, TOKENS) @ model.unembedding()

  np.testing.assert_allclose(logits(unstacked), reference()[0], atol=1e-5)


def test_decoding_with_a_cache_equals_the_whole_forward():
  """Decodes from an empty cache token by token, and from a prefill of another length in every row."""
  config = dataclasses.replace(CONFIG, stacked=False)
  model_params = unstack_layers(params(), 3, "float32")
  cut = np.array([2, 5, 4])

  @jax.jit
  def decode(params, token, position, cache):
    model = nnx.merge(graph(config), params)
    attend = paged(own_pages(3, 2), position, jnp.ones(3, bool))
    hidden, cache = model(token[:, None], position[:, None], attend, cache)
    return hidden[:, 0] @ model.unembedding(), cache

  @jax.jit
  def prefill(params):
    model = nnx.merge(graph(config), params)
    tokens = jnp.where(jnp.arange(7)[None] < cut[:, None], TOKENS, 0)  # the rest is padding, to be overwritten
    positions = jnp.broadcast_to(jnp.arange(7)[None], (3, 7))
    keeping = lambda query, key, value, cache: (attention.causal()(query, key, value, cache)[0], (key, value))  # noqa: E731
    _, kept = model(tokens, positions, keeping)
    return [tuple(in_pages(jnp.pad(x, ((0, 0), (0, 1), (0, 0), (0, 0))), 4) for x in layer) for layer in kept]

  expected = np.asarray(reference()[0])
  cache = [(jnp.zeros((6, 2, 4, 6)),) * 2] * 3  # two pages of four tokens for each row
  for t in range(7):
    logits, cache = decode(model_params, TOKENS[:, t], jnp.full(3, t), cache)
    np.testing.assert_allclose(logits, expected[:, t], atol=1e-5)
  cache = prefill(model_params)
  for step in range(2):
    logits, cache = decode(model_params, TOKENS[np.arange(3), cut + step], cut + step, cache)
    np.testing.assert_allclose(logits, expected[np.arange(3), cut + step], atol=1e-5)


@pytest.mark.parametrize("option", ["query_bias", "key_bias", "value_bias", "query_norm", "key_norm"])
def test_each_option_of_qwen_has_an_effect(option):
  """Neutral values in place of one parameter change the logits."""
  neutral = lambda path, leaf: leaf * 0 + ("norm" in option) if option in jax.tree_util.keystr(path) else leaf  # noqa: E731
  changed, _ = logits_and_gradient(CONFIG, jax.tree_util.tree_map_with_path(neutral, params()))
  assert np.abs(np.asarray(changed) - reference()[0]).max() > 1e-3


def test_options_decide_which_parameters_there_are():
  def kinds(**options):
    config = dataclasses.replace(CONFIG, **{"qkv_bias": False, "qk_norm": False, **options})
    return set(names(nnx.state(nnx.eval_shape(lambda: Transformer(config, nnx.Rngs(0))))))

  biases = {f"blocks.attention.{name}_bias" for name in ("query", "key", "value")}
  assert kinds(qkv_bias=True) - kinds() == biases
  assert kinds(qk_norm=True) - kinds() == {f"blocks.attention.{name}_norm.scale" for name in ("query", "key")}
  assert kinds() - kinds(tied=True) == {"head"}


def test_a_tied_head_is_the_table():
  config = dataclasses.replace(CONFIG, tied=True)
  tied = random_params(config)
  model = nnx.merge(graph(config), tied)
  np.testing.assert_array_equal(model.unembedding(), np.asarray(names(tied)["embed"]).T)
  _, gradient = logits_and_gradient(config, tied)
  unused = sorted(set(range(19)) - set(TOKENS.ravel().tolist()))
  assert unused and np.abs(np.asarray(names(gradient)["embed"])[unused]).min() > 0  # as rows of the head


def test_bfloat16_computes_in_bfloat16_from_float32_parameters():
  config = dataclasses.replace(CONFIG, compute_dtype="bfloat16")
  logits, gradient = logits_and_gradient(config, params())
  assert logits.dtype == jnp.bfloat16
  assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {jnp.dtype("float32")}
  error = np.abs(np.asarray(logits, np.float32) - reference()[0])
  assert 1e-4 < error.max() < 0.3


def test_norm_by_hand():
  norm = RMSNorm(3, "embed", epsilon=0.5)
  norm.scale[...] = jnp.array([1.0, 2.0, -1.0])
  x = np.array([[3.0, 0.0, 4.0]], np.float32)
  # mean square 25 / 3, plus 1/2
  np.testing.assert_allclose(norm(x), x / np.sqrt(25 / 3 + 0.5) * np.array([[1.0, 2.0, -1.0]]), rtol=1e-6)
  assert norm(jnp.asarray(x, jnp.bfloat16)).dtype == jnp.bfloat16
