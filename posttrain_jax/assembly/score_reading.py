"""Reads the scores of judgements that a generative reward model has written.

Sampled: the score that is written. Expected: the mean of the scores under the probabilities of their tokens, after the
reasons that are written.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from posttrain_jax.assembly.judges import answer_text
from posttrain_jax.data.judgements import before_score, expected_score, parse_score
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.models.buckets import map_rows
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.forward import row_hidden
from posttrain_jax.models.transformer import abstract_transformer
from posttrain_jax.parallel.sharding import batch_sharding, batch_shards, constrain
from posttrain_jax.types import Group, InputError

TOKENS_PER_BATCH = 4096


# One program for all readers of a model.
@functools.partial(jax.jit, static_argnums=0)
def next_token_logits(
  config: TransformerConfig, params: nnx.State, tokens: jax.Array, lengths: jax.Array, columns: jax.Array
) -> jax.Array:
  """Computes the logits of some tokens after each row.

  Args:
    config: the transformer, layers not stacked.
    params: the sampler's parameters.
    tokens: int32 [B, T], padded on the right.
    lengths: int32 [B], at least 1.
    columns: int32 [S], the tokens that may come next.

  Returns:
    float32 [B, S].
  """
  graph, _ = abstract_transformer(config)
  transformer = nnx.merge(graph, params)
  hidden = row_hidden(transformer, tokens)
  last = jnp.take_along_axis(hidden, lengths[:, None, None] - 1, axis=1)[:, 0]
  unembedding = transformer.unembedding()[:, columns].astype(last.dtype)
  return constrain(jnp.matmul(last, unembedding, preferred_element_type=jnp.float32), None)


class ScoreReader:
  """Reads scores of one scale.

  Attributes:
    values: int [S], the scores.
    tokens: int32 [S], their tokens.
  """

  def __init__(self, model: TransformerConfig, tokenizer: Tokenizer, mesh: Mesh, *, low: int, high: int, mark: str):
    """Finds the tokens of the scores.

    Args:
      model: the judge.
      tokenizer: the judge's.
      mesh: where the sampler's parameters are.
      low: the worst score.
      high: the best score.
      mark: what stands before a score, such as "Score:".

    Raises:
      InputError: if the scores are not one token each.
    """
    self.values = np.arange(low, high + 1)
    self.tokens = score_tokens(tokenizer, low=low, high=high, mark=mark)
    self._model, self._tokenizer, self._mesh, self._mark = (
      dataclasses.replace(model, stacked=False),
      tokenizer,
      mesh,
      mark,
    )

  def with_texts(self, judged: Sequence[Group]) -> list[Group]:
    """Returns groups of judgements with their texts."""
    return [
      dataclasses.replace(group, texts=tuple(answer_text(self._tokenizer, answer.tokens) for answer in group.answers))
      for group in judged
    ]

  def sampled(self, judged: Sequence[Group]) -> np.ndarray:
    """Returns the scores that are written, float64 [N, k]; NaN where there is none.

    Args:
      judged: N questions with k judgements and their texts.
    """
    return np.array([[self._parsed(text) for text in group.texts] for group in judged], np.float64)

  def expected(self, params: nnx.State, judged: Sequence[Group]) -> np.ndarray:
    """Returns the expected scores, float64 [N, k]; NaN where the reasons lead to no score.

    Args:
      params: the sampler's parameters.
      judged: N questions with k judgements and their texts.
    """
    rows, places, found = [], [], np.full((len(judged), len(judged[0].answers)), np.nan)
    for number, group in enumerate(judged):
      for vote, (answer, text) in enumerate(zip(group.answers, group.texts)):
        if not math.isnan(self._parsed(text)):
          end = score_position(self._tokenizer, answer.tokens, self.tokens, mark=self._mark)
          rows += [] if end is None else [np.array([*group.prompt.tokens, *answer.tokens[:end]], np.int32)]
          places += [] if end is None else [(number, vote)]
    layout = batch_sharding(self._mesh)

    def logits(tokens, lengths):
      tokens, lengths = jax.device_put((tokens, lengths), layout)
      return next_token_logits(self._model, params, tokens, lengths, self.tokens)

    with jax.set_mesh(self._mesh):
      read = map_rows(logits, rows, tokens_per_batch=TOKENS_PER_BATCH, shards=batch_shards(self._mesh))
    for place, each in zip(places, read):
      found[place] = expected_score(each, self.values)
    return found

  def _parsed(self, text: str) -> float:
    score = parse_score(text, low=self.values[0], high=self.values[-1], mark=self._mark)
    return math.nan if score is None else score


def mean_of_votes(scores: np.ndarray) -> np.ndarray:
  """Averages the readings of each answer; a reading without a score abstains.

  Args:
    scores: float [N, k]; NaN: no score.

  Returns:
    float64 [N]; NaN where all abstain.
  """
  has_score = ~np.isnan(scores)
  count = np.where(has_score.any(axis=1), has_score.sum(axis=1), np.nan)
  return np.where(has_score, scores, 0).sum(axis=1) / count


def score_tokens(tokenizer: Tokenizer, *, low: int, high: int, mark: str) -> np.ndarray:
  """Returns the ids of the scores after the mark and a space, int32 [S].

  Args:
    tokenizer: the judge's.
    low: the worst score.
    high: the best score.
    mark: what stands before a score.

  Raises:
    InputError: if they are not one token each, all different, after the same tokens.
  """
  found = [tokenizer.encode(f" {mark} {score}") for score in range(low, high + 1)]
  tokens = {ids[-1] for ids in found}
  if len({tuple(ids[:-1]) for ids in found}) > 1 or len(tokens) < len(found):
    raise InputError(f"judgements: scores from {low} to {high} are not one token each; expected a range that is")
  return np.array([ids[-1] for ids in found], np.int32)


def score_position(tokenizer: Tokenizer, answer: np.ndarray, tokens: np.ndarray, *, mark: str) -> int | None:
  """Returns the position of a judgement's last score token after the mark; None without one.

  Args:
    tokenizer: the judge's.
    answer: int32 [n], the judgement.
    tokens: of the scores.
    mark: what stands before a score.
  """
  pattern = re.compile(rf"{before_score(mark).pattern}[ \t]*$")
  for position in reversed(np.flatnonzero(np.isin(answer, tokens)).tolist()):
    if pattern.search(tokenizer.decode(answer[:position])):
      return position
  return None
