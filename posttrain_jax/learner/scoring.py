"""Numbers for a batch's answers under given parameters: logprobs of a policy, a reference, a teacher; values."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from posttrain_jax.learner.objective import Objective
from posttrain_jax.learner.policy_gradient import PolicyBatch, answer_logprobs
from posttrain_jax.learner.rows import split_rows
from posttrain_jax.learner.update import micro_batches as cut
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.transformer import abstract_transformer
from posttrain_jax.parallel.memory import Kept, keep
from posttrain_jax.parallel.processes import fetch, place, spread
from posttrain_jax.parallel.sharding import LEARNER_RULES, batch_sharding, batch_shards, state_shardings


class Scorer:
  """One program that scores answers, for all parameters of a model's shape.

  Attributes:
    shardings: of the parameters.
    program: (parameters, part of a batch as `split` cuts it) to the function's values [M, P / M, ...].
    freeze_program: parameters to a copy in compute dtype.
    batch_sharding: of a batch in micro-batches [M, P / M, ...], and of what is computed.
  """

  def __init__(
    self,
    model: TransformerConfig,
    function: Callable[[nnx.GraphDef, nnx.State, Any], jax.Array],
    mesh: Mesh,
    *,
    prompts_per_update: int,
    micro_batches: int,
    rows_per_prompt: int = 1,
  ):
    """Makes the program; it is compiled at its first use.

    Args:
      model: the transformer, layers stacked.
      function: (graph, parameters, batch of P R / M rows) to an array [P R / M, G / R, ...].
      mesh: where.
      prompts_per_update: P, prompts scored at a time.
      micro_batches: M, parts in which they are scored.
      rows_per_prompt: R, rows over which the G answers to a prompt are cut.
    """
    graph, abstract = abstract_transformer(model)
    self.shardings = state_shardings(abstract, mesh, LEARNER_RULES)
    self._mesh, self._size, self._parts, self._rows = mesh, prompts_per_update, micro_batches, rows_per_prompt
    self.batch_sharding = batch_sharding(mesh, leading=1)

    def score(params: nnx.State, batch: Any) -> jax.Array:
      return jax.lax.map(lambda micro_batch: function(graph, params, micro_batch), batch)

    self.program = jax.jit(score, in_shardings=(self.shardings, self.batch_sharding), out_shardings=self.batch_sharding)
    self.freeze_program = jax.jit(
      lambda params: jax.tree.map(lambda x: jnp.copy(x).astype(model.compute_dtype), params),
      out_shardings=self.shardings,
    )

  def split(self, batch: Any) -> Iterator[Any]:
    """Cuts a batch into updates, and each into micro-batches [M, P R / M, ...]."""
    size = self._size * self._rows
    batch = split_rows(batch, self._rows)
    for start in range(0, len(batch.prompts), size):
      yield cut(jax.tree.map(lambda x, s=start: x[s : s + size], batch), self._parts)

  def run(self, params: nnx.State, part: Any) -> jax.Array:
    """The function's values [M, P / M, ...] of one of the parts of `split`, on the devices; inside `jax.set_mesh`."""
    return self.program(params, spread(part, self.batch_sharding))

  def __call__(self, params: nnx.State, batch: Any) -> np.ndarray:
    """The function's values [P, G, ...] of a batch of host arrays, whatever its number of prompts."""
    params = jax.device_put(params, self.shardings)  # from where they are kept
    with jax.set_mesh(self._mesh):
      parts = [fetch(self.run(params, part)) for part in self.split(batch)]
    # [updates][M, P R / M, G / R, ...] back to the order of the prompts.
    values = np.concatenate([np.concatenate(list(part)) for part in parts])
    return values.reshape(*batch.answers.shape[:2], *values.shape[2:])

  def freeze(self, params: nnx.State, kept: Kept = Kept.DEVICE) -> nnx.State:
    """A copy that no update donates, kept as what is computed with: compute dtype, learner's layout."""
    return jax.device_put(self.freeze_program(place(params, self.shardings)), keep(self.shardings, kept))


def logprob_scorer(
  model: TransformerConfig,
  objective: Objective,
  mesh: Mesh,
  *,
  prompts_per_update: int,
  micro_batches: int,
  rows_per_prompt: int = 1,
) -> Scorer:
  """Scores a `PolicyBatch` with float32 log probabilities [P, G, Tc] of its tokens, arbitrary where masked.

  Args:
    model: the transformer, layers stacked.
    objective: temperature and chunk size.
    mesh: where.
    prompts_per_update: P, prompts scored at a time.
    micro_batches: M, parts in which they are scored.
    rows_per_prompt: R, rows over which the answers to a prompt are cut.
  """

  def logprobs(graph: nnx.GraphDef, params: nnx.State, batch: PolicyBatch) -> jax.Array:
    return answer_logprobs(graph, objective, params, batch, shards=batch_shards(mesh))[0]

  division = dict(prompts_per_update=prompts_per_update, micro_batches=micro_batches, rows_per_prompt=rows_per_prompt)
  return Scorer(model, logprobs, mesh, **division)
