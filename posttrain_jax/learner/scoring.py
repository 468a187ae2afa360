"""Scores answers under given parameters: logprobs of a policy, reference or teacher; values."""

import functools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jax.typing import DTypeLike

from posttrain_jax import compiled_once, progress
from posttrain_jax.compiled_once import made_once
from posttrain_jax.learner.division import Division
from posttrain_jax.learner.objective import Objective
from posttrain_jax.learner.policy_batch import PolicyBatch
from posttrain_jax.learner.policy_gradient import answer_logprobs
from posttrain_jax.learner.rows import split_rows
from posttrain_jax.learner.update import micro_batches as cut
from posttrain_jax.learner.value import ValueBatch
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.transformer import abstract_transformer
from posttrain_jax.parallel.memory import Kept, keep
from posttrain_jax.parallel.processes import fetch, place, spread
from posttrain_jax.parallel.rounding import AS_WRITTEN
from posttrain_jax.parallel.sharding import LEARNER_RULES, batch_sharding, batch_shards, state_shardings

Batch = PolicyBatch | ValueBatch


class Scorer:
  """Holds one program that scores answers, for all parameters of a model's shape.

  Attributes:
    shardings: of the parameters.
    program: (parameters, part of a batch as `split` cuts it) to the function's values [M, P R / M, G / R, ...].
    freeze_program: parameters to a copy in compute dtype.
    batch_sharding: of a batch in micro-batches [M, P R / M, ...], and of the values.
  """

  def __init__(
    self,
    model: TransformerConfig,
    function: Callable[[nnx.GraphDef, nnx.State, Batch], jax.Array],
    mesh: Mesh,
    division: Division,
  ):
    """Makes the program; it is compiled when it is first used.

    Args:
      model: the transformer, layers stacked.
      function: (graph, parameters, batch of P R / M rows) to an array [P R / M, G / R, ...].
      mesh: where.
      division: P, M and R: prompts scored at a time, and how they are cut.
    """
    graph, abstract = abstract_transformer(model)
    self.shardings = state_shardings(abstract, mesh, LEARNER_RULES)
    self._mesh, self._division = mesh, division
    self.batch_sharding = batch_sharding(mesh, leading=1)

    self.program = compiled_once.jit(
      functools.partial(_score, function, graph),
      in_shardings=(self.shardings, self.batch_sharding),
      out_shardings=self.batch_sharding,
      compiler_options=AS_WRITTEN,
    )
    self.freeze_program = compiled_once.jit(functools.partial(_cast, model.compute_dtype), out_shardings=self.shardings)

  def split(self, batch: Batch) -> Iterator[Batch]:
    """Cuts a batch of host arrays into updates, each [M, P R / M, ...]."""
    division = self._division
    size = division.prompts_per_update * division.rows_per_prompt
    batch = split_rows(batch, division.rows_per_prompt)
    for start in range(0, len(batch.prompts), size):
      yield cut(jax.tree.map(lambda x, s=start: x[s : s + size], batch), division.micro_batches)

  def run(self, params: nnx.State, part: Batch) -> jax.Array:
    """Scores one part of `split`, on the devices; to be called inside `jax.set_mesh`."""
    return self.program(params, spread(part, self.batch_sharding))

  def __call__(self, params: nnx.State, batch: Batch) -> np.ndarray:
    """Scores a batch of host arrays with any number of prompts: [P, G, ...]."""
    params = jax.device_put(params, self.shardings)  # they may be kept in other memory
    parts, count = [], -(-len(batch.prompts) // self._division.prompts_per_update)
    with jax.set_mesh(self._mesh):
      for part in self.split(batch):
        parts.append(fetch(self.run(params, part)))
        progress.report("batches scored", len(parts), count)
    # [updates][M, P R / M, G / R, ...] back to the order of the prompts.
    values = np.concatenate([np.concatenate(list(part)) for part in parts])
    return values.reshape(*batch.answers.shape[:2], *values.shape[2:])

  def freeze(self, params: nnx.State, kept: Kept = Kept.DEVICE) -> nnx.State:
    """Copies parameters; no update donates the copy.

    It has the compute dtype and the learner's layout.

    Args:
      params: the parameters.
      kept: in which memory the copy is kept.
    """
    return jax.device_put(self.freeze_program(place(params, self.shardings)), keep(self.shardings, kept))


def _score(
  function: Callable[[nnx.GraphDef, nnx.State, Batch], jax.Array], graph: nnx.GraphDef, params: nnx.State, batch: Batch
) -> jax.Array:
  return jax.lax.map(lambda micro_batch: function(graph, params, micro_batch), batch)


def _cast(dtype: DTypeLike, params: nnx.State) -> nnx.State:
  return jax.tree.map(lambda x: jnp.copy(x).astype(dtype), params)


def logprob_scorer(model: TransformerConfig, objective: Objective, mesh: Mesh, division: Division) -> Scorer:
  """Makes the scorer that gives the logprobs of a `PolicyBatch`.

  They are float32 [P, G, Tc], arbitrary where the mask is False.

  Args:
    model: the transformer, layers stacked.
    objective: temperature and chunk size.
    mesh: where.
    division: prompts scored at a time, and how they are cut.
  """
  return Scorer(model, _logprobs(objective, batch_shards(mesh)), mesh, division)


@made_once
def _logprobs(objective: Objective, shards: int) -> Callable[[nnx.GraphDef, nnx.State, PolicyBatch], jax.Array]:
  return lambda graph, params, batch: answer_logprobs(graph, objective, params, batch, shards=shards)[0]
