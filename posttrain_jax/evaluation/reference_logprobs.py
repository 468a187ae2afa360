"""Computes logprobs of a frozen reference on fixed comparisons once, and keeps them on disk.

The file's name holds the digests of the parameters, and of the model's config and the comparisons. So a cache may be
shared between runs and never answers for another model or other data.
"""

import dataclasses
import hashlib
import pathlib
from collections.abc import Iterable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax import nnx
from jax.sharding import Mesh

from posttrain_jax import atomic_files, progress
from posttrain_jax.learner.data_batches import ComparedAnswers
from posttrain_jax.learner.digest import params_sha256
from posttrain_jax.learner.division import Division, division_of
from posttrain_jax.learner.preference_batch import counted_answers
from posttrain_jax.learner.scoring import Scorer, plain_logprob_scorer
from posttrain_jax.models.buckets import bucket
from posttrain_jax.models.config import Remat, TransformerConfig
from posttrain_jax.parallel.processes import exchange, is_main, several
from posttrain_jax.rollouts.sampled_pairs import stack_answers
from posttrain_jax.types import Group

_TENSOR = "reference_logprobs"


def reference_logprobs(
  model: TransformerConfig,
  params: nnx.State,
  batches: Iterable[ComparedAnswers],
  num_rows: int,
  mesh: Mesh,
  division: Division,
  *,
  chunk: int,
  cache: pathlib.Path | None,
) -> np.ndarray:
  """Returns the reference's logprob sums, read from the cache or computed.

  Args:
    model: the reference, layers stacked.
    params: its parameters, in the learner's shardings.
    batches: `ComparisonBatch`es of one shape that cover the rows; index −1 on filling.
    num_rows: R, number of rows.
    mesh: where the parameters are.
    division: comparisons of a batch, and tokens of a micro-batch.
    chunk: most tokens whose logits exist at a time on a device.
    cache: directory of cached files; None keeps nothing.

  Returns:
    float32 [R, K], sums over the counted tokens of each answer.
  """
  batches = list(batches)
  path = None
  if cache is not None:
    path = cache / f"{params_sha256(params)[:32]}-{_digest(batches, model)[:32]}.safetensors"
    found = _read(path, (num_rows, batches[0].answers.shape[1])) if is_main() else None
    if several():
      sent = exchange(b"" if found is None else found.tobytes())[0]
      found = np.frombuffer(sent, np.float32).reshape(num_rows, -1) if sent else None
    if found is not None:
      return found
  scorer = plain_logprob_scorer(model, mesh, division, chunk=chunk)
  values = compute_logprobs(scorer, params, batches, num_rows)
  if path is not None and is_main():
    cache.mkdir(parents=True, exist_ok=True)
    atomic_files.write_bytes(path, safetensors.numpy.save({_TENSOR: values}))
  return values


def compute_logprobs(
  scorer: Scorer, params: nnx.State, batches: Iterable[ComparedAnswers], num_rows: int
) -> np.ndarray:
  """Computes the same without a cache.

  Args:
    scorer: from `plain_logprob_scorer`; scores as many comparisons at a time as a batch has.
    params: the parameters.
    batches: as for `reference_logprobs`, like `num_rows`.
    num_rows: R.
  """
  batches, values, done = list(batches), None, 0
  packings = (packing for batch in batches for _, packing in scorer.split(counted_answers(batch)))
  for batch, logprobs in zip(batches, scorer.each(params, packings)):
    sums = np.where(batch.mask, logprobs, 0).sum(-1, dtype=np.float64)
    if values is None:
      values = np.full((num_rows, sums.shape[1]), np.nan, np.float32)
    real = batch.index >= 0
    values[batch.index[real]] = sums[real]
    done += int(real.sum())
    progress.report("comparisons", done, num_rows)
  assert values is not None and np.isfinite(values).all()
  return values


def _digest(batches: list[ComparedAnswers], model: TransformerConfig) -> str:
  function = dataclasses.replace(model, remat=Remat.NONE, unroll=1)  # how it is computed is left out
  digest = hashlib.sha256(repr(function).encode())
  for batch in batches:
    for array in (batch.index, batch.prompts, batch.prompt_lengths, batch.answers, batch.lengths, batch.mask):
      digest.update(str(array.shape).encode() + np.ascontiguousarray(array).tobytes())
  return digest.hexdigest()


def _read(path: pathlib.Path, shape: tuple[int, int]) -> np.ndarray | None:
  try:
    found = safetensors.numpy.load_file(path)[_TENSOR]
  except (OSError, KeyError, safetensors.SafetensorError):  # absent or damaged: it is computed again
    return None
  return found if found.shape == shape and np.isfinite(found).all() else None


_ROWS = 16  # groups a batch


def frozen_copy(params: nnx.State) -> nnx.State:
  """Returns a copy that no update donates, in the same shardings."""
  return _copy(params)


# Made once: a function made anew for every copy would be compiled anew.
_copy = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))


class KLToReference:
  """Measures the KL of a policy to a reference, on answers that the policy sampled."""

  def __init__(self, model: TransformerConfig, reference: nnx.State, mesh: Mesh, *, chunk: int):
    """Keeps the reference.

    Args:
      model: the transformer, layers stacked.
      reference: its parameters; no program may donate them.
      mesh: the devices that hold them.
      chunk: most tokens whose logits exist at a time on a device.
    """
    self._model, self._reference, self._mesh, self._chunk = model, reference, mesh, chunk

  def of_sets(self, sets: Mapping[str, Sequence[Group]], name: str) -> dict[str, float]:
    """Returns the KL on each evaluation set's answers, as the metrics `eval/<set>/<name>`."""
    return {f"eval/{each}/{name}": self(groups) for each, groups in sets.items()}

  def __call__(self, groups: Sequence[Group]) -> float:
    """Estimates KL(π ‖ π_ref) in nats an answer.

    The estimate is the mean over answers of Σ_t log π − log π_ref.

    It is unbiased if the answers were drawn at temperature 1 without truncation. The logprobs of π are the sampler's.
    """
    size = len(groups[0].answers)
    # Powers of two, so that the next answers, a little longer, do not compile anew.
    prompt_width = bucket(max(len(group.prompt.tokens) for group in groups))
    answer_width = bucket(max(int(group.lengths.max()) for group in groups))
    division = division_of(0, prompts=_ROWS, group=size, prompt=prompt_width, answer=answer_width)
    scorer = plain_logprob_scorer(self._model, self._mesh, division, chunk=self._chunk)
    batches = []
    for start in range(0, len(groups), _ROWS):
      part = [(group, range(size)) for group in groups[start : start + _ROWS]]
      batch = stack_answers(part, count=_ROWS, answers=size, prompt_width=prompt_width, answer_width=answer_width)
      batch.index[: len(part)] += start
      batches.append(batch)
    reference = compute_logprobs(scorer, self._reference, batches, len(groups))  # [N, G]
    policy = [[answer.sampler_logprobs.sum(dtype=np.float64) for answer in group.answers] for group in groups]
    return float(np.mean(np.array(policy) - reference))


def kl_to_start(
  wanted: bool, model: TransformerConfig, params: nnx.State, mesh: Mesh, *, chunk: int
) -> KLToReference | None:
  """Keeps a copy of what training starts from, to measure the KL to it.

  Args:
    wanted: the config's `eval.kl`.
    model: the policy, layers stacked.
    params: the learner's parameters before its first update.
    mesh: the devices that hold them.
    chunk: most tokens whose logits exist at a time on a device.

  Returns:
    The measurement; None, and no copy, if the config does not ask for it.
  """
  return KLToReference(model, frozen_copy(params), mesh, chunk=chunk) if wanted else None
