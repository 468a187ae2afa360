"""Scores answers under given parameters: logprobs of a policy, reference or teacher; values."""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

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
from posttrain_jax.learner.packed_logprobs import packed_logprobs
from posttrain_jax.learner.packed_rows import Packed, PackedRows, packed_shardings
from posttrain_jax.learner.packing import Answers, Packing, Packings, sizes_of
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.transformer import abstract_transformer
from posttrain_jax.parallel.memory import Kept, keep
from posttrain_jax.parallel.processes import fetch, place, spread
from posttrain_jax.parallel.rounding import AS_WRITTEN
from posttrain_jax.parallel.sharding import LEARNER_RULES, batch_shards, state_shardings


class Scorer:
  """Holds one program that scores answers, for all parameters of a model's shape.

  Attributes:
    shardings: of the parameters.
    program: (parameters, `Packed` rows) to the function's values [M, R, N], 0 in micro-batches not in use.
    freeze_program: parameters to a copy in compute dtype.
    batch_shardings: of a `Packed`.
  """

  def __init__(
    self,
    model: TransformerConfig,
    function: Callable[[nnx.GraphDef, nnx.State, PackedRows], jax.Array],
    mesh: Mesh,
    division: Division,
    *,
    whole_answers: bool = False,
  ):
    """Makes the program; it is compiled when it is first used.

    Args:
      model: the transformer, layers stacked.
      function: (graph, parameters, rows of one micro-batch) to a float32 array [R, N].
      mesh: the devices that compute.
      division: prompts scored at a time, and tokens of a micro-batch.
      whole_answers: whether updates with the same packing look at whole answers (`packing.sizes_of`).
    """
    graph, abstract = abstract_transformer(model)
    self.shardings = state_shardings(abstract, mesh, LEARNER_RULES)
    self._mesh, self._division, self._whole_answers = mesh, division, whole_answers
    self.batch_shardings = packed_shardings(mesh)

    self.program = compiled_once.jit(
      functools.partial(_score, function, graph),
      in_shardings=(self.shardings, self.batch_shardings),
      out_shardings=self.batch_shardings.parts,
      compiler_options=AS_WRITTEN,
    )
    self.freeze_program = compiled_once.jit(functools.partial(_cast, model.compute_dtype), out_shardings=self.shardings)

  def split(
    self, batch: Answers, packings: Packings | None = None, order: np.ndarray | None = None
  ) -> Iterator[tuple[Any, Packing]]:
    """Cuts a batch of host arrays into updates; yields each with its packing.

    Args:
      batch: any number of prompts.
      packings: of the batch, where those made before are found; None keeps none.
      order: int, indices of the prompts in the order in which they are taken; None: all, as they stand.
    """
    tokens, shards = self._division.row_tokens(self._mesh), self._division.shards(self._mesh)
    packings, rows = packings or Packings(), np.arange(len(batch.prompts)) if order is None else order
    for start in range(0, len(rows), self._division.prompts_per_update):
      place = slice(start, start + self._division.prompts_per_update)
      chosen = place if order is None else rows[place]  # a slice copies nothing
      part = jax.tree.map(lambda x, chosen=chosen: x[chosen], batch)
      sizes = sizes_of(part, tokens=tokens, shards=shards, whole_answers=self._whole_answers)
      yield part, packings.of(part, sizes, rows[place])

  def run(self, params: nnx.State, packing: Packing) -> jax.Array:
    """Scores the answers of one update, on the devices; to be called inside `jax.set_mesh`."""
    return self.program(params, spread(packing.forward(), self.batch_shardings))

  def __call__(self, params: nnx.State, batch: Answers, packings: Packings | None = None) -> np.ndarray:
    """Scores a batch of host arrays with any number of prompts.

    Args:
      params: the parameters.
      batch: the answers.
      packings: as for `split`.

    Returns:
      [P, G, Tc], arbitrary where the mask is False.
    """
    parts, count = [], -(-len(batch.prompts) // self._division.prompts_per_update)
    for values in self.each(params, (packing for _, packing in self.split(batch, packings))):
      parts.append(values)
      progress.report("batches scored", len(parts), count)
    return np.concatenate(parts)

  def each(self, params: nnx.State, packings: Iterable[Packing]) -> Iterator[np.ndarray]:
    """Scores the answers of one update after the other; yields [P, G, Tc] of each."""
    params = jax.device_put(params, self.shardings)  # they may be kept in other memory
    for packing in packings:
      with jax.set_mesh(self._mesh):
        values = fetch(self.run(params, packing))
      yield packing.unpack(values)

  def freeze(self, params: nnx.State, kept: Kept = Kept.DEVICE) -> nnx.State:
    """Copies parameters; no update donates the copy.

    It has the compute dtype and the learner's layout.

    Args:
      params: the parameters.
      kept: in which memory the copy is kept.
    """
    return jax.device_put(self.freeze_program(place(params, self.shardings)), keep(self.shardings, kept))


def _score(
  function: Callable[[nnx.GraphDef, nnx.State, PackedRows], jax.Array],
  graph: nnx.GraphDef,
  params: nnx.State,
  batch: Packed[PackedRows, None],
) -> jax.Array:
  def one(i, values):
    return values.at[i].set(function(graph, params, jax.tree.map(lambda x: x[i], batch.parts)))

  values = jnp.zeros(batch.parts.tokens.shape, jnp.float32)
  return jax.lax.fori_loop(0, batch.count, one, values)


def _cast(dtype: DTypeLike, params: nnx.State) -> nnx.State:
  return jax.tree.map(lambda x: jnp.copy(x).astype(dtype), params)


def logprob_scorer(model: TransformerConfig, objective: Objective, mesh: Mesh, division: Division) -> Scorer:
  """Makes the scorer that gives the logprobs of a `PolicyBatch`.

  They are float32 [P, G, Tc], arbitrary where the mask is False.

  Args:
    model: the transformer, layers stacked.
    objective: temperature and chunk size, and what of a row is needed at once.
    mesh: the devices that compute.
    division: prompts scored at a time, and tokens of a micro-batch.
  """
  # With entropies the forward pass is that of an update, so the logprobs have the same bits.
  logprobs = _logprobs(objective.temperature, objective.logprob_chunk, batch_shards(mesh), entropy=True)
  return Scorer(model, logprobs, mesh, division, whole_answers=not objective.is_sum_over_tokens)


def plain_logprob_scorer(model: TransformerConfig, mesh: Mesh, division: Division, *, chunk: int) -> Scorer:
  """Makes a scorer of logprobs at temperature 1, such as those of compared answers.

  Args:
    model: the transformer, layers stacked.
    mesh: the devices that compute.
    division: prompts scored at a time, and tokens of a micro-batch.
    chunk: most tokens whose logits exist at a time on a device.
  """
  return Scorer(model, _logprobs(1.0, chunk, batch_shards(mesh), entropy=False), mesh, division)


@made_once
def _logprobs(
  temperature: float, chunk: int, shards: int, *, entropy: bool
) -> Callable[[nnx.GraphDef, nnx.State, PackedRows], jax.Array]:
  options = dict(temperature=temperature, chunk=chunk, shards=shards, entropy=entropy)

  def logprobs(graph, params, rows):
    found = packed_logprobs(graph, params, rows, **options)
    return found[0] if entropy else found

  return logprobs
