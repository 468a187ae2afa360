"""Lets tokens of packed rows attend to their own answer and to its prompt.

A packed row has answers of several prompts, one after the other, and their prompts behind all answers. A prompt stands
once for its answers in the row. Segment ids cannot say so, since the answers to a prompt do not see each other.

On TPU the kernels of `models.tile_kernels` are used, on other platforms the loop of `models.tiles`.

R rows, N tokens, A query heads, K key/value heads, H head dimension.
"""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from posttrain_jax.models import tile_kernels
from posttrain_jax.models.attention import Attend
from posttrain_jax.models.tile_plan import Spans, TilePlan, plan_tiles
from posttrain_jax.models.tiles import Tiling, attend_tiles
from posttrain_jax.parallel.mesh import platform
from posttrain_jax.parallel.sharding import LEARNER_RULES, partition_spec, ways

# On a CPU, small tiles leave little that is masked. On others, large ones keep the units of products busy.
_TILINGS = {"cpu": Tiling(tile=64, together=4), "tpu": Tiling(tile=256, together=1)}
_ELSEWHERE = Tiling(tile=256, together=8)


def packed(spans: Spans) -> Attend:
  """Lets each token of packed rows attend to what `spans` allows.

  The list of tiles is made here, once for all layers. On a mesh, each device lists and computes its own rows and heads.

  Args:
    spans: of R rows; int32 [R, N].

  Returns:
    The `attend` for query [R, N, A, H], key and value [R, N, K, H]; it keeps None.
  """
  length = spans.own.shape[1]
  tiling = _TILINGS.get(platform(), _ELSEWHERE)
  # A short row is one tile; a TPU's registers have 128 lanes.
  least = 128 if platform() == "tpu" else 8
  tiling = Tiling(min(tiling.tile, -(-length // least) * least), tiling.together)
  extra = -length % tiling.tile
  spans = Spans(
    own=_padded(spans.own, extra, fill=length + extra),
    prefix_start=_padded(spans.prefix_start, extra),
    prefix_end=_padded(spans.prefix_end, extra),
  )
  rows = None if spans.own.shape[0] % ways("batch") else "batch"
  by_row = partition_spec((rows,), LEARNER_RULES)
  by_head = partition_spec((rows, None, "heads"), LEARNER_RULES)
  plan = _on_devices(functools.partial(plan_tiles, tile=tiling.tile), (by_row,), by_row)(spans)

  def attend(query, key, value, cache):
    del cache

    def one(query, key, value, spans: Spans, plan: TilePlan):
      if platform() == "tpu":
        return tile_kernels.attend_tiles(query, key, value, spans, plan, tiling.tile)
      return attend_tiles(query, key, value, spans, plan, tiling)

    compute = _on_devices(one, (by_head, by_head, by_head, by_row, by_row), by_head)
    attended = compute(*(_padded(x, extra) for x in (query, key, value)), spans, plan)
    return attended[:, :length] if extra else attended, None

  return attend


def _on_devices(function, in_specs: tuple[PartitionSpec, ...], out_specs: PartitionSpec):
  """Lets each device run a function on its own parts.

  The loops of devices differ in length.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1:
    return function
  return jax.shard_map(function, in_specs=in_specs, out_specs=out_specs, check_vma=False)


def _padded(x: jax.Array, extra: int, fill: int = 0) -> jax.Array:
  return jnp.pad(x, [(0, 0), (0, extra), *((0, 0) for _ in x.shape[2:])], constant_values=fill) if extra else x
