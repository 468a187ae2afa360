"""Cuts groups of answers over several rows.

This helps where one device cannot hold the activations of all answers to a prompt. Each row has the prompt again and
some of its answers. So micro-batches and batch shards can be smaller than a group, but the prompt is computed once a
row instead of once a group. Loss and gradient are those of the whole group, to rounding.
"""

import dataclasses
from typing import TypeVar

import jax
import numpy as np

from posttrain_jax.learner.policy_batch import PolicyBatch
from posttrain_jax.learner.value import ValueBatch

Batch = TypeVar("Batch", PolicyBatch, ValueBatch)


def split_rows(batch: Batch, rows_per_prompt: int) -> Batch:
  """Cuts each group over rows.

  Args:
    batch: host arrays: `prompts` [P, Tp], `prompt_lengths` [P], all others [P, G, ...].
    rows_per_prompt: R, divides G; 1 leaves the batch as it is.

  Returns:
    A batch of P R prompts with G / R answers each, the rows of a prompt next to each other. A `PolicyBatch` gets
    `prompt_tokens`.
  """
  if rows_per_prompt == 1:
    return batch
  answers = dataclasses.replace(batch, prompts=None, prompt_lengths=None)
  rows = dataclasses.replace(
    jax.tree.map(lambda x: _cut(x, rows_per_prompt), answers),
    prompts=np.repeat(batch.prompts, rows_per_prompt, axis=0),
    prompt_lengths=np.repeat(batch.prompt_lengths, rows_per_prompt),
  )
  if isinstance(batch, ValueBatch):
    return rows
  return dataclasses.replace(rows, prompt_tokens=np.repeat(batch.mask.sum((1, 2), dtype=np.int32), rows_per_prompt))


def _cut(x: np.ndarray, rows_per_prompt: int) -> np.ndarray:
  prompts, answers, *rest = x.shape
  return x.reshape(prompts * rows_per_prompt, answers // rows_per_prompt, *rest)
