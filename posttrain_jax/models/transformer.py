"""Defines a decoder-only transformer for training, prefill and decoding.

It has pre-norm blocks, RMSNorm, rotary positions, grouped-query attention and a gated MLP. `TransformerConfig` selects
Llama, SmolLM2, Qwen2.5 (biases on q, k, v) or Qwen3 (norms on q and k). The Flax NNX modules are split once into
(graphdef, params); everything jitted is a function of params. The attention is an argument (`models.attention`), so
training, prefill and decoding run the same code.

Shapes: B rows, T tokens, D width, N query heads, K key/value heads, H head dimension, F hidden width of the MLP, V
vocabulary. Every parameter carries its logical axis names (`parallel.sharding`).
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from posttrain_jax.losses.vocabulary import without_absent
from posttrain_jax.models.attention import Attend, Cache
from posttrain_jax.models.config import Remat, TransformerConfig
from posttrain_jax.models.dense import dense
from posttrain_jax.models.dropout import Drop, ResidualDropout, SubBlock, at_layer
from posttrain_jax.models.rotary import Rotation, rotary_frequencies, rotate, rotation_at
from posttrain_jax.models.splash import ATTENDED
from posttrain_jax.parallel.memory import PINNED
from posttrain_jax.parallel.sharding import constrain, ways

_INPUT = "layer_input"  # its name in remat policies

# Of all layers: stacked on a leading layer axis, or a list for unstacked layers.
Caches = Cache | list[Cache]

_SAVED = {
  Remat.DOTS: jax.checkpoint_policies.save_from_both_policies(
    jax.checkpoint_policies.dots_with_no_batch_dims_saveable, jax.checkpoint_policies.save_only_these_names(ATTENDED)
  ),
  Remat.ATTENTION: jax.checkpoint_policies.save_only_these_names(ATTENDED),
  Remat.FULL: jax.checkpoint_policies.nothing_saveable,
  Remat.HOST: jax.checkpoint_policies.save_and_offload_only_these_names(
    names_which_can_be_saved=[],
    names_which_can_be_offloaded=[_INPUT, ATTENDED],
    offload_src="device",
    offload_dst=PINNED,
  ),
}


def _param(rngs: nnx.Rngs, shape: tuple[int, ...], axes: tuple[str, ...], scale: float) -> nnx.Param:
  return nnx.Param(jax.random.normal(rngs.params(), shape, jnp.float32) * scale, logical_axes=axes)


class RMSNorm(nnx.Module):
  """Normalises by the root mean square (1910.07467).

  x / sqrt(mean(x²) + ε) · scale over the last axis, computed in float32.
  """

  def __init__(self, size: int, axis: str, epsilon: float):
    self.scale = nnx.Param(jnp.ones((size,), jnp.float32), logical_axes=(axis,))
    self.epsilon = epsilon

  def __call__(self, x: jax.Array) -> jax.Array:
    x32 = x.astype(jnp.float32)
    x32 *= jax.lax.rsqrt(jnp.mean(x32 * x32, axis=-1, keepdims=True) + self.epsilon)
    scale = self.scale[...].astype(jnp.float32)
    return (x32 * scale.reshape((1,) * (x.ndim - 1) + scale.shape)).astype(x.dtype)


class Attention(nnx.Module):
  """Applies projections, biases, head norms and rotation; the attention itself is passed in."""

  def __init__(self, config: TransformerConfig, rngs: nnx.Rngs):
    d, n, k, h = config.embed_dim, config.num_heads, config.num_kv_heads, config.head_dim
    self.query = _param(rngs, (d, n, h), ("embed", "heads", "head_dim"), d**-0.5)
    self.key = _param(rngs, (d, k, h), ("embed", "kv_heads", "head_dim"), d**-0.5)
    self.value = _param(rngs, (d, k, h), ("embed", "kv_heads", "head_dim"), d**-0.5)
    out_scale = (n * h * 2 * config.num_layers) ** -0.5
    self.out = _param(rngs, (n, h, d), ("heads", "head_dim", "embed"), out_scale)
    if config.qkv_bias:
      self.query_bias = _param(rngs, (n, h), ("heads", "head_dim"), 0.0)
      self.key_bias = _param(rngs, (k, h), ("kv_heads", "head_dim"), 0.0)
      self.value_bias = _param(rngs, (k, h), ("kv_heads", "head_dim"), 0.0)
    if config.qk_norm:
      self.query_norm = RMSNorm(h, "head_dim", config.norm_epsilon)
      self.key_norm = RMSNorm(h, "head_dim", config.norm_epsilon)
    self.config = config

  def __call__(self, x_BxTxD: jax.Array, rotation: Rotation, attend: Attend, cache: Cache) -> tuple[jax.Array, Cache]:
    config, dtype = self.config, x_BxTxD.dtype

    def project(kernel, name):
      projected = jnp.einsum("btd,dnh->btnh", x_BxTxD, kernel[...].astype(dtype))
      if config.qkv_bias:
        projected += getattr(self, f"{name}_bias")[...].astype(dtype)[None, None]
      return projected

    query, key, value = project(self.query, "query"), project(self.key, "key"), project(self.value, "value")
    if config.qk_norm:
      query, key = self.query_norm(query), self.key_norm(key)
    query, key = rotate(query, rotation), rotate(key, rotation)
    query = constrain(query, "batch", "length", "heads", "head_dim")
    key = constrain(key, "batch", "length", "kv_heads", "head_dim")
    value = constrain(value, "batch", "length", "kv_heads", "head_dim")
    attended, kept = attend(query, key, value, cache)
    return jnp.einsum("btnh,nhd->btd", attended, self.out[...].astype(dtype)), kept


class MLP(nnx.Module):
  """Computes down(silu(gate(x)) · up(x)) (SwiGLU, 2002.05202)."""

  def __init__(self, config: TransformerConfig, rngs: nnx.Rngs):
    d, f = config.embed_dim, config.mlp_dim
    self.gate = _param(rngs, (d, f), ("embed", "mlp"), d**-0.5)
    self.up = _param(rngs, (d, f), ("embed", "mlp"), d**-0.5)
    self.down = _param(rngs, (f, d), ("mlp", "embed"), (f * 2 * config.num_layers) ** -0.5)

  def __call__(self, x_BxTxD: jax.Array) -> jax.Array:
    hidden_BxTxF = self.hidden(x_BxTxD)
    return dense(hidden_BxTxF, self.down[...].astype(hidden_BxTxF.dtype))

  def hidden(self, x_BxTxD: jax.Array) -> jax.Array:
    """Computes silu(gate(x)) · up(x) [B, T, F], what `down` multiplies."""
    dtype = x_BxTxD.dtype
    hidden_BxTxF = jax.nn.silu(dense(x_BxTxD, self.gate[...].astype(dtype)))
    hidden_BxTxF *= dense(x_BxTxD, self.up[...].astype(dtype))
    return constrain(hidden_BxTxF, "batch", "length", "mlp")


def _rows_are_split(x_BxTxD: jax.Array) -> bool:
  """Tells whether the residual stream is split along rows.

  It is if the mesh has several devices for it and their number divides the length; single tokens are not split.
  """
  return ways("residual_length") > 1 and x_BxTxD.shape[1] % ways("residual_length") == 0


def _residual(x_BxTxD: jax.Array) -> jax.Array:
  """Constrains the residual stream between the blocks to its sharding."""
  return constrain(x_BxTxD, "batch", "residual_length" if _rows_are_split(x_BxTxD) else "length", "hidden")


def _whole(x_BxTxD: jax.Array) -> jax.Array:
  """Gathers whole rows for the devices, each of which computes some heads or MLP units."""
  return constrain(x_BxTxD, "batch", "length", "hidden") if _rows_are_split(x_BxTxD) else x_BxTxD


class Block(nnx.Module):
  """Adds attention and then the MLP, each of a normalised input, to the residual stream."""

  def __init__(self, config: TransformerConfig, rngs: nnx.Rngs):
    self.attention_norm = RMSNorm(config.embed_dim, "embed", config.norm_epsilon)
    self.attention = Attention(config, rngs)
    self.mlp_norm = RMSNorm(config.embed_dim, "embed", config.norm_epsilon)
    self.mlp = MLP(config, rngs)

  def __call__(
    self, x_BxTxD: jax.Array, rotation: Rotation, attend: Attend, cache: Cache, drop: Drop
  ) -> tuple[jax.Array, Cache]:
    attended, kept = self.attention(_whole(self.attention_norm(x_BxTxD)), rotation, attend, cache)
    x_BxTxD = _residual(x_BxTxD + drop(attended, SubBlock.ATTENTION))
    transformed = self.mlp(_whole(self.mlp_norm(x_BxTxD)))
    return _residual(x_BxTxD + drop(transformed, SubBlock.MLP)), kept


class Transformer(nnx.Module):
  """Turns token ids into hidden states.

  `unembedding` is the matrix that turns hidden states into logits. With `config.scalar_head` there are no logits:
  `models.heads` turns hidden states into scores.
  """

  def __init__(self, config: TransformerConfig, rngs: nnx.Rngs):
    d, v = config.embed_dim, config.vocab_size
    # A separate table starts at unit scale; a tied one is also the head, whose logits start at unit scale.
    self.embed = _param(rngs, (v, d), ("vocab", "embed"), d**-0.5 if config.tied else 1.0)
    if config.stacked:
      self.blocks = nnx.vmap(functools.partial(Block, config))(rngs.split(config.num_layers))
    else:
      self.blocks = nnx.List([Block(config, rngs) for _ in range(config.num_layers)])
    self.final_norm = RMSNorm(d, "embed", config.norm_epsilon)
    if config.scalar_head:
      self.score = _param(rngs, (d,), ("embed",), (d + 1) ** -0.5)  # Stiennon et al., 2009.01325
      self.score_bias = nnx.Param(jnp.zeros((), jnp.float32), logical_axes=())
    elif not config.tied:
      self.head = _param(rngs, (d, v), ("embed", "vocab"), d**-0.5)
    self.config = config

  def __call__(
    self,
    tokens: jax.Array,
    positions: jax.Array,
    attend: Attend,
    cache: Caches = None,
    dropout: ResidualDropout | None = None,
  ) -> tuple[jax.Array, Caches]:
    """Runs all layers.

    Args:
      tokens: int [B, T].
      positions: int [B, T], position of each token in its own sequence.
      attend: the attention; it decides which tokens attend to which (`models.attention`).
      cache: each layer's cache for `attend`: stacked on a leading layer axis, or a list for unstacked layers.
      dropout: dropout of what the layers add to the residual stream; None for no dropout.

    Returns:
      (hidden states [B, T, D] after the final norm, in compute dtype; what each layer kept, arranged like `cache`).
    """
    config = self.config
    # The constraints gather the table over fsdp and split the looked-up rows along the batch. Without them the
    # partitioner rematerialises the whole activation on meshes with fsdp and tensor, or gathers the whole table.
    table = constrain(self.embed[...].astype(config.compute_dtype), "vocab", "hidden")
    x_BxTxD = _residual(_whole(table[tokens]))

    frequencies = rotary_frequencies(config.head_dim, config.rope_theta, config.rope_scaling)
    rotation = rotation_at(positions, frequencies)
    layers = None if dropout is None else (jnp.arange(config.num_layers), dropout.rates(config.num_layers))

    def layer(graph, x, inputs):
      params, layer_cache, layer_rate = inputs
      x = checkpoint_name(x, _INPUT)
      return nnx.merge(graph, params)(x, rotation, attend, layer_cache, at_layer(dropout, layer_rate))

    if config.remat != Remat.NONE:
      layer = jax.checkpoint(layer, policy=_SAVED[config.remat], static_argnums=0)
    if config.stacked:
      graph, stack = nnx.split(self.blocks)
      one = functools.partial(layer, graph)
      x_BxTxD, kept = jax.lax.scan(one, x_BxTxD, (stack, cache, layers), unroll=config.unroll)
    else:
      kept = []
      for i, block in enumerate(self.blocks):
        graph, params = nnx.split(block)
        rate = jax.tree.map(lambda x, i=i: x[i], layers)
        x_BxTxD, left = layer(graph, x_BxTxD, (params, None if cache is None else cache[i], rate))
        kept.append(left)
    return _whole(self.final_norm(x_BxTxD)), kept

  def unembedding(self) -> jax.Array:
    """Returns the output projection [D, V] in compute dtype.

    Raises:
      TypeError: if the model has a scalar head, and so no output projection.
    """
    if self.config.scalar_head:
      raise TypeError("a model with a scalar head has scores (models.heads) and no logits")
    kernel = self.embed[...].T if self.config.tied else self.head[...]
    return constrain(kernel.astype(self.config.compute_dtype), "hidden", "vocab")

  def logits(self, hidden_SxD: jax.Array) -> jax.Array:
    """Computes the float32 logits [S, V] of a few hidden states.

    Ids that the tokeniser does not have (`absent_ids`) get -1e30.

    A tied table is multiplied in its stored order [V, D]; transposing it would cost more than the other products of a
    decode step. The barrier keeps the compiler from fusing the product with the transposition of its result, which
    would slow the product down.

    Args:
      hidden_SxD: [S, D], in compute dtype.

    Raises:
      TypeError: if the model has a scalar head, and so no output projection.
    """
    product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
    if not self.config.tied:
      logits = jax.lax.optimization_barrier(product("sd,dv->sv", hidden_SxD, self.unembedding()))
    else:
      table = constrain(self.unembedding().T, "vocab", "hidden")
      logits = jax.lax.optimization_barrier(product("vd,sd->vs", table, hidden_SxD)).T
    return without_absent(logits, self.config.absent_ids)


def abstract_transformer(config: TransformerConfig) -> tuple[nnx.GraphDef, nnx.State]:
  """Returns a transformer's graph, for `nnx.merge`, and its parameters' shapes, without making arrays."""
  return nnx.split(nnx.eval_shape(lambda: Transformer(config, nnx.Rngs(0))))
