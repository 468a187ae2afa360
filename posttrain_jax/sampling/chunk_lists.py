"""Makes the arrays of a prefill from its chunks."""

from collections.abc import Sequence

import numpy as np

from posttrain_jax.models.chunk_attention import Chunks
from posttrain_jax.sampling.chunk_plan import Chunk
from posttrain_jax.sampling.sizes import Layout


def chunk_arrays(chunks: Sequence[Sequence[Chunk]], layout: Layout) -> Chunks:
  """Makes a prefill's arrays on the host, as `Chunks` describes them.

  Args:
    chunks: of each shard, at most `layout.width`.
    layout: the shapes.
  """
  shards, width, each = layout.shards, layout.width, layout.chunk // layout.page
  # The most chunks before one: those of the longest prompt and of the longest answer.
  most = width * (-(-layout.of_prompt // each) + -(-layout.of_answer // each))
  tokens = np.zeros((shards, width, layout.chunk), np.int32)
  counts, starts = np.zeros((2, shards, width), np.int32)
  written = np.full((shards, width, each), layout.pages, np.int32)  # out of range: not written
  earlier = np.zeros((shards, most, each), np.int32)
  owners, seen = np.zeros((2, shards, most), np.int32)
  total = np.zeros(shards, np.int32)
  for shard, rows in enumerate(chunks):
    for row, chunk in enumerate(rows):
      tokens[shard, row, : len(chunk.tokens)] = chunk.tokens
      counts[shard, row], starts[shard, row] = len(chunk.tokens), chunk.start
      written[shard, row, : len(chunk.written)] = chunk.written
      for pages, count in chunk.earlier:
        at = total[shard]
        owners[shard, at], seen[shard, at], earlier[shard, at, : len(pages)] = row, count, pages
        total[shard] += 1
  flat = lambda x: x.reshape(-1, *x.shape[2:])  # noqa: E731
  return Chunks(
    tokens=flat(tokens),
    counts=flat(counts),
    starts=flat(starts),
    written=flat(written),
    owners=flat(owners),
    earlier=flat(earlier),
    seen=flat(seen),
    count=total,
  )
