"""Runs attention on TPU with the Pallas splash kernel.

The kernel keeps scores in the chip's vector memory. It skips blocks that the causal mask empties, supports grouped
heads without repeating keys, and keeps a log-sum-exp for its backward pass. The partitioner cannot look into a Pallas
kernel, so the kernel runs under `shard_map`, on a device's own rows and heads. Lengths that are not a multiple of the
block are padded here: the padding comes last, and causal attention does not see later keys.

B rows, T tokens, N query heads, K key/value heads, H head dimension, Tp tokens of a prefix.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernels
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks
from jax.sharding import PartitionSpec

from posttrain_jax.parallel.sharding import LEARNER_RULES, partition_spec, ways

# Name of the kernel's output and log-sum-exp in remat policies.
ATTENDED = "attended"

# Tokens of a block of queries or keys, from most arithmetic per byte to least padding.
_BLOCKS = (512, 256, 128)
_MOST_PADDING = 1 / 8  # share of a length; the smallest block may need more


def _block(length: int) -> int:
  """Returns the largest block with little padding, else the smallest block."""
  return next((b for b in _BLOCKS if -length % b <= length * _MOST_PADDING), _BLOCKS[-1])


def causal(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  segment_ids: jax.Array | None = None,
  *,
  interpret: bool = False,
) -> jax.Array:
  """Lets each token attend to itself and to earlier tokens of its segment.

  Args:
    query: [B, T, N, H].
    key: [B, T, K, H] with N a multiple of K.
    value: [B, T, K, H].
    segment_ids: int [B, T], not negative; None: one segment a row.
    interpret: interprets the kernel step by step, slowly, on any platform (tests).

  Returns:
    [B, T, N, H].
  """
  length = query.shape[1]
  block = _block(length)
  ids = ()
  if segment_ids is not None:
    own = _padded(segment_ids, -length % block, fill=-1)  # padding attends to itself: without any key it would be NaN
    ids = (own, own)
  attended = _attend(*(_padded(x, -length % block) for x in (query, key, value)), ids, block=block, interpret=interpret)
  return attended[:, :length]


def after_prefix(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  prefix_key: jax.Array,
  prefix_value: jax.Array,
  prefix_lengths: jax.Array,
  *,
  interpret: bool = False,
) -> jax.Array:
  """Lets each token attend to its row's prefix, to itself and to earlier tokens.

  Padding of the prefix is not attended to.

  Args:
    query: [B, T, N, H].
    key: [B, T, K, H] with N a multiple of K.
    value: [B, T, K, H].
    prefix_key: [B, Tp, K, H].
    prefix_value: [B, Tp, K, H].
    prefix_lengths: int [B], tokens of the prefix that are real; the rest is padding.
    interpret: as in `causal`.

  Returns:
    [B, T, N, H].
  """
  length, prefix = query.shape[1], prefix_key.shape[1]
  block = _block(length)
  query, key, value = (_padded(x, -length % block) for x in (query, key, value))
  prefix_key, prefix_value = (_padded(x, -prefix % block) for x in (prefix_key, prefix_value))
  behind = jnp.arange(prefix_key.shape[1])[None] >= prefix_lengths[:, None]  # the prefix's padding: another segment
  query_ids = jnp.zeros(query.shape[:2], jnp.int32)
  ids = (query_ids, jnp.concatenate([behind.astype(jnp.int32), query_ids], axis=1))
  key, value = jnp.concatenate([prefix_key, key], axis=1), jnp.concatenate([prefix_value, value], axis=1)
  return _attend(query, key, value, ids, block=block, interpret=interpret)[:, :length]


def _padded(x: jax.Array, extra: int, fill: int = 0) -> jax.Array:
  return jnp.pad(x, [(0, 0), (0, extra), *((0, 0) for _ in x.shape[2:])], constant_values=fill) if extra else x


def _attend(
  query: jax.Array, key: jax.Array, value: jax.Array, ids: tuple[jax.Array, ...], *, block: int, interpret: bool
) -> jax.Array:
  """Runs the kernel on whole blocks.

  The T' keys are those of a prefix, followed by the T queries' own: query t attends to keys up to t + T' - T.

  Args:
    query: [B, T, N, H].
    key: [B, T', K, H].
    value: [B, T', K, H].
    ids: segments of queries int [B, T] and of keys int [B, T'], or empty for one segment.
    block: divides T and T'.
    interpret: as in `causal`.
  """
  sizes = kernels.BlockSizes(
    block_q=block,
    block_kv=block,
    block_q_dkv=block,
    block_kv_dkv=block,
    block_q_dq=block,
    block_kv_dq=block,
  )
  # The kernel does not scale. The product is in the queries' dtype, to which their rotation was rounded already.
  query = query * jnp.asarray(query.shape[-1] ** -0.5, query.dtype)

  def on_a_device(query, key, value, ids):
    mask = masks.CausalMask((query.shape[2], key.shape[2]), offset=key.shape[2] - query.shape[2])
    kernel = kernels.make_splash_mha(
      masks.MultiHeadMask([mask] * query.shape[1]),
      block_sizes=sizes,
      head_shards=1,
      q_seq_shards=1,
      residual_checkpoint_name=ATTENDED,
      interpret=interpret,
    )
    return jax.vmap(lambda q, k, v, ids: kernel(q, k, v, kernels.SegmentIds(*ids) if ids else None))(
      query, key, value, ids
    )

  mesh = jax.sharding.get_abstract_mesh()
  if not mesh.empty and mesh.size > 1:
    rows = None if query.shape[0] % ways("batch") else "batch"  # a prefill of few prompts is replicated
    heads = partition_spec((rows, "heads"), LEARNER_RULES)
    on_a_device = jax.shard_map(
      on_a_device,
      in_specs=(heads, heads, heads, PartitionSpec(heads[0])),
      out_specs=heads,
      check_vma=False,  # a kernel's outputs do not declare the axes over which they vary
    )
  heads_first = functools.partial(jnp.moveaxis, source=2, destination=1)
  return heads_first(on_a_device(heads_first(query), heads_first(key), heads_first(value), ids))
