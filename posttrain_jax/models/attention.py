"""Decides which tokens attend to which: each function returns an `attend` for `Transformer.__call__`.

`attend(query, key, value, cache) -> (attended, kept)` gets one layer's rotated projections, query [B, T, N, H], key and
value [B, T, K, H] with N a multiple of K, and that layer's cache. It returns the attended values [B, T, N, H] and what
the layer keeps: its new cache, or None. Scores and softmax are float32.

The kernels of the platform (`parallel.mesh.platform`) are used: `splash` on TPU, `flash` on GPU. On CPU, the formulas
below are used. Single tokens attend to cached keys and values by `models.paged_attention`.

B rows, T tokens, N query heads, K key/value heads, H head dimension.
"""

from collections.abc import Callable

import jax

from posttrain_jax.models import flash, splash
from posttrain_jax.parallel.mesh import platform

# One layer's keys and values; None: nothing is kept.
Cache = tuple[jax.Array, ...] | None
Attend = Callable[[jax.Array, jax.Array, jax.Array, Cache], tuple[jax.Array, Cache]]

_KERNELS = {"tpu": splash, "gpu": flash}


def causal(segment_ids: jax.Array | None = None) -> Attend:
  """Lets each token attend to itself and to earlier tokens of its segment.

  Args:
    segment_ids: int [B, T] for packed rows; tokens of different segments do not see each other. None: one segment a
      row, which is also right for rows padded on the right, since no token sees a later one.

  Returns:
    The `attend`; it keeps None.
  """

  def attend(query, key, value, cache):
    del cache
    if kernels := _KERNELS.get(platform()):
      return kernels.causal(query, key, value, segment_ids), None
    mask = flash.same_segment(segment_ids)
    return jax.nn.dot_product_attention(query, key, value, mask=mask, is_causal=True), None

  return attend
