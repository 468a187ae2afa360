"""Computes how likely a model finds given answers to prompts."""

from collections.abc import Iterator, Sequence

import numpy as np
from flax import nnx
from jax.sharding import Mesh

from posttrain_jax.data.comparison_batches import ComparisonBatch
from posttrain_jax.evaluation.reference_logprobs import compute_logprobs
from posttrain_jax.learner.division import division_of
from posttrain_jax.learner.scoring import plain_logprob_scorer
from posttrain_jax.models.buckets import bucket
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.parallel.sharding import batch_shards

_ROWS = 32  # prompts of a batch
_CHUNK = 4096  # most tokens whose logits exist at a time on a device

Tokens = Sequence[int] | np.ndarray


def choice_logprobs(
  model: TransformerConfig,
  params: nnx.State,
  prompts: Sequence[Tokens],
  choices: Sequence[Sequence[Tokens]],
  mesh: Mesh,
) -> np.ndarray:
  """Computes the sum of logprobs of each choice after its prompt.

  Args:
    model: the transformer, layers stacked.
    params: its parameters, layers stacked.
    prompts: N prompts as token ids, each with at least one.
    choices: K answers to each prompt as token ids, K the same for all.
    mesh: where the parameters are.

  Returns:
    float32 [N, K].
  """
  size = -(-_ROWS // batch_shards(mesh)) * batch_shards(mesh)
  # Widths in steps, so that other prompts of about this length do not compile anew.
  prompt_width = bucket(max(map(len, prompts)))
  answer_width = bucket(max(len(answer) for answers in choices for answer in answers))
  division = division_of(0, prompts=size, group=len(choices[0]), prompt=prompt_width, answer=answer_width)
  scorer = plain_logprob_scorer(model, mesh, division, chunk=_CHUNK)
  batches = _batches(prompts, choices, size, prompt_width, answer_width)
  return compute_logprobs(scorer, params, batches, len(prompts))


def _batches(
  prompts: Sequence[Tokens], choices: Sequence[Sequence[Tokens]], size: int, prompt_width: int, answer_width: int
) -> Iterator[ComparisonBatch]:
  count = len(choices[0])
  for start in range(0, len(prompts), size):
    batch = ComparisonBatch(
      index=np.full(size, -1, np.int32),
      prompts=np.zeros((size, prompt_width), np.int32),
      prompt_lengths=np.ones(size, np.int32),
      answers=np.zeros((size, count, answer_width), np.int32),
      lengths=np.zeros((size, count), np.int32),
      mask=np.zeros((size, count, answer_width), bool),
      preferred=np.zeros((size, count, count), bool),
      margins=np.zeros((size, count, count), np.float32),
    )
    rows = zip(prompts[start : start + size], choices[start : start + size], strict=True)
    for row, (prompt, answers) in enumerate(rows):
      batch.index[row], batch.prompt_lengths[row] = start + row, len(prompt)
      batch.prompts[row, : len(prompt)] = prompt
      for k, answer in enumerate(answers):
        batch.lengths[row, k] = len(answer)
        batch.answers[row, k, : len(answer)] = answer
        batch.mask[row, k, : len(answer)] = True
    yield batch
