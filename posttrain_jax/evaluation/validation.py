"""Measures the loss on held-out text, which the model was not trained on."""

from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from posttrain_jax import compiled_once, progress
from posttrain_jax.data.supervised import SupervisedBatches
from posttrain_jax.data.token_rows import TokenRows
from posttrain_jax.learner import supervised
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.transformer import abstract_transformer
from posttrain_jax.parallel.processes import spread
from posttrain_jax.parallel.sharding import batch_sharding, batch_shards


class Validation:
  """Measures the negative log-likelihood of held-out demonstrations, per learned token."""

  def __init__(
    self, model: TransformerConfig, batches: SupervisedBatches | TokenRows, mesh: Mesh, *, logprob_chunk: int
  ):
    """Makes the program.

    Args:
      model: the transformer, layers stacked.
      batches: the held-out demonstrations.
      mesh: where the parameters are.
      logprob_chunk: most tokens whose logits exist at a time on a device.
    """
    self._batches, self._mesh, self._sharding = batches, mesh, batch_sharding(mesh)
    graph, _ = abstract_transformer(model)
    self._sums = compiled_once.jit(
      supervised.make_sums(graph, logprob_chunk=logprob_chunk, shards=batch_shards(mesh)),
      in_shardings=(None, self._sharding),
    )

  def __call__(self, params: nnx.State) -> dict[str, Any]:
    """Returns the mean loss in nats a token, its exponential, and the number of tokens."""
    total, count = np.zeros(2), -(-self._batches.num_rows // self._batches.batch_size)
    for index, batch in enumerate(self._batches.in_order()):
      progress.report("batches", index, count)
      with jax.set_mesh(self._mesh):
        total += np.array([float(value) for value in self._sums(params, spread(batch, self._sharding))])
    loss = float(total[0] / max(total[1], 1))
    return {"loss": loss, "perplexity": float(np.exp(loss)), "tokens": int(total[1])}
