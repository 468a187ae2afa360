"""Runs attention on TPU with the Pallas splash kernel.

The kernel keeps scores in the chip's vector memory. It skips blocks that the causal mask empties, supports grouped
heads without repeating keys, and keeps a log-sum-exp for its backward pass. The partitioner cannot look into a Pallas
kernel, so the kernel runs under `shard_map`, on a device's own rows and heads. Lengths that are not a multiple of the
block are padded here: the padding comes last, and causal attention does not see later keys.

B rows, T tokens, N query heads, K key/value heads, H head dimension.
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
  # Padding attends to itself: without any key it would be NaN.
  ids = () if segment_ids is None else (_padded(segment_ids, -length % block, fill=-1),)
  attended = _attend(*(_padded(x, -length % block) for x in (query, key, value)), ids, block=block, interpret=interpret)
  return attended[:, :length]


def _padded(x: jax.Array, extra: int, fill: int = 0) -> jax.Array:
  return jnp.pad(x, [(0, 0), (0, extra), *((0, 0) for _ in x.shape[2:])], constant_values=fill) if extra else x


def _attend(
  query: jax.Array, key: jax.Array, value: jax.Array, ids: tuple[jax.Array, ...], *, block: int, interpret: bool
) -> jax.Array:
  """Runs the kernel on whole blocks.

  Args:
    query: [B, T, N, H].
    key: [B, T, K, H].
    value: [B, T, K, H].
    ids: segments, int [B, T]; empty for one segment a row.
    block: divides T.
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
    mask = masks.CausalMask((query.shape[2], key.shape[2]))
    kernel = kernels.make_splash_mha(
      masks.MultiHeadMask([mask] * query.shape[1]),
      block_sizes=sizes,
      head_shards=1,
      q_seq_shards=1,
      residual_checkpoint_name=ATTENDED,
      interpret=interpret,
    )
    segments = kernels.SegmentIds(*ids, *ids) if ids else None
    return jax.vmap(kernel)(query, key, value, segments)

  mesh = jax.sharding.get_abstract_mesh()
  if not mesh.empty and mesh.size > 1:
    rows = None if query.shape[0] % ways("batch") else "batch"  # few rows are replicated
    heads = partition_spec((rows, "heads"), LEARNER_RULES)
    on_a_device = jax.shard_map(
      on_a_device,
      in_specs=(heads, heads, heads, PartitionSpec(heads[0])),
      out_specs=heads,
      check_vma=False,  # a kernel's outputs do not declare the axes over which they vary
    )
  heads_first = functools.partial(jnp.moveaxis, source=2, destination=1)
  return heads_first(on_a_device(heads_first(query), heads_first(key), heads_first(value), ids))
