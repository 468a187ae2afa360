"""Describes what the learners read of the batches that `data` makes.

The two parts do not import each other.
"""

from typing import Protocol

import jax


class SupervisedRows(Protocol):
  """Describes rows of one or several examples; `data.supervised.SupervisedBatch` is one.

  Attributes:
    tokens: int32 [B, T].
    mask: bool [B, T], True on tokens to be learned.
    segment_ids: int32 [B, T], 1, 2, ... by example within the row, 0 on padding.
    positions: int32 [B, T], of each token in its example.
    weights: float32 [B, T], of a token in the loss; 0 where the mask is False.
    draws: int32 [B], number of rows drawn before this one in the whole training; dropout depends on it.
  """

  tokens: jax.Array
  mask: jax.Array
  segment_ids: jax.Array
  positions: jax.Array
  weights: jax.Array
  draws: jax.Array


class ComparedAnswers(Protocol):
  """Describes prompts with up to K answers each; `data.comparison_batches.ComparisonBatch` is one.

  Attributes:
    index: int32 [N], −1 on rows that only fill up the batch.
    prompts: int32 [N, Tp].
    prompt_lengths: int32 [N].
    answers: int32 [N, K, Tc].
    lengths: int32 [N, K], tokens of an answer; 0 if the answer is missing.
    mask: bool [N, K, Tc], True on tokens whose logprobs count.
    preferred: bool [N, K, K], [n, i, j] True where answer i is better than answer j.
    margins: float32 [N, K, K], by how much answer i is to be better than answer j.
    probabilities: float32 [N, K, K], how likely it is that answer i is the better one; None: all are certain.
    desirable: bool [N], whether the first answer is good; None: answers are compared.
  """

  index: jax.Array
  prompts: jax.Array
  prompt_lengths: jax.Array
  answers: jax.Array
  lengths: jax.Array
  mask: jax.Array
  preferred: jax.Array
  margins: jax.Array
  probabilities: jax.Array | None
  desirable: jax.Array | None
