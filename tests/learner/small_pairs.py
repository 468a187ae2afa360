"""Makes pairs of answers, and their logprobs row by row under a transformer of two thousand parameters."""

import functools

import jax
import numpy as np
from flax import nnx

from posttrain_jax.data.comparison_batches import ComparisonBatch, ComparisonBatches
from posttrain_jax.data.mismatched import with_mismatched
from posttrain_jax.data.preferences import Comparison
from posttrain_jax.learner.division import Division
from posttrain_jax.learner.preference_batch import ReferencedBatch, pack_pairs
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.forward import row_hidden
from posttrain_jax.parallel.mesh import make_mesh
from tests.random_params import graph, random_params

CONFIG = TransformerConfig(24, num_layers=1, embed_dim=16, mlp_dim=24, num_heads=4, num_kv_heads=2, head_dim=4)
ONE = make_mesh({}, jax.devices()[:1])
LONGEST_PROMPT, LONGEST_ANSWER = 4, 5
WIDEST = LONGEST_PROMPT - 1 + 2 * LONGEST_ANSWER  # tokens of the longest prompt with its longest answers


@functools.cache
def pairs() -> list[Comparison]:
  rng = np.random.default_rng(0)
  return [
    Comparison(
      tuple(rng.integers(3, 24, rng.integers(1, 5)).tolist()),
      tuple(np.append(rng.integers(3, 24, rng.integers(1, 5)), 2).astype(np.int32) for _ in range(2)),
      (0, 1),
    )
    for _ in range(8)
  ]


def lengths_of(comparisons) -> np.ndarray:
  """Counts the tokens of answers, int [N, K]."""
  return np.array([[len(answer) for answer in each.answers] for each in comparisons])


def batch_of(comparisons, size=8, **options) -> ComparisonBatch:
  (batch,) = ComparisonBatches(comparisons, batch_size=size, seed=0, **options).in_order(size)
  return batch


def packed(batch: ReferencedBatch, tokens=8 * WIDEST, mesh=ONE):
  return pack_pairs(Division(len(batch.reference), tokens), mesh, batch)


@jax.jit
def logits(params, tokens):
  model = nnx.merge(graph(CONFIG), params)
  return row_hidden(model, tokens) @ model.unembedding()


def row_logprobs(comparisons, seed=0) -> np.ndarray:
  """Computes logprobs of answers in float64 [N, K], each row alone, from all of its logits."""

  def one(prompt, answer):
    row = np.concatenate([prompt, answer]).astype(np.int32)
    padded = np.pad(row, (0, 12 - len(row)))[None]  # one shape for all rows
    found = np.asarray(logits(random_params(CONFIG, seed=seed), padded), np.float64)[0, : len(row)]
    logprobs = found - np.log(np.exp(found).sum(-1, keepdims=True))
    return logprobs[np.arange(len(prompt) - 1, len(row) - 1), answer].sum()

  return np.array([[one(each.prompt, answer) for answer in each.answers] for each in comparisons])


@functools.cache
def singles() -> list[Comparison]:
  """Makes eight answers, five good and three bad, each beside one to another prompt."""
  labels = (True, False, True, True, False, True, False, True)
  return with_mismatched(
    [
      Comparison(each.prompt, each.answers[:1], (0,), desirable=label)
      for each, label in zip(pairs(), labels, strict=True)
    ]
  )
