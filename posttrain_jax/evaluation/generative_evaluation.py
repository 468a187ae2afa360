"""Evaluates a generative reward model on held-out answers, its score read in two ways.

Sampled: the model writes its reasons and a score, which is parsed; several judgements of an answer are averaged.
Expected: after the likeliest reasons, the mean of the scores under the probabilities of their tokens.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from posttrain_jax.assembly.judges import answer_text
from posttrain_jax.data.judgements import expected_score, parse_score
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.evaluation import metrics as bootstrap
from posttrain_jax.models.buckets import map_rows
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.forward import row_hidden
from posttrain_jax.models.transformer import abstract_transformer
from posttrain_jax.parallel.sharding import batch_sharding, batch_shards
from posttrain_jax.sampling.engine import Engine
from posttrain_jax.types import Group, InputError, Prompt

_TOKENS_PER_BATCH = 4096
_BEFORE_SCORE = re.compile(r"(?<!\w)Score:[ \t]*$")


@dataclasses.dataclass(frozen=True)
class JudgedAnswers:
  """Holds answers whose true scores are known.

  Attributes:
    prompts: N prompts, which ask the judge for its score of an answer.
    labels: float64 [N], the true scores.
    problems: N names of the problems that the answers belong to.
  """

  prompts: Sequence[Prompt]
  labels: np.ndarray
  problems: Sequence[Hashable]


class GenerativeEvaluation:
  """Evaluates a judge on held-out answers.

  `pipelines.sft.fit` takes it in place of an `Evaluator`.
  """

  def __init__(
    self,
    model: TransformerConfig,
    tokenizer: Tokenizer,
    answers: JudgedAnswers,
    engine: Engine,
    greedy: Engine,
    mesh: Mesh,
    *,
    samples: int,
    low: int,
    high: int,
  ):
    """Makes the program.

    Args:
      model: the judge, layers stacked.
      tokenizer: the judge's.
      answers: what is judged.
      engine: draws judgements.
      greedy: draws the likeliest ones.
      mesh: where the parameters are.
      samples: judgements drawn of each answer.
      low: the worst score.
      high: the best score.

    Raises:
      InputError: if the scores are not one token each.
    """
    self._tokenizer, self._answers, self._mesh, self._samples = tokenizer, answers, mesh, samples
    self._engine, self._greedy, self._low, self._high = engine, greedy, low, high
    self._values = np.arange(low, high + 1)
    self._tokens = score_tokens(tokenizer, low=low, high=high)
    graph, _ = abstract_transformer(dataclasses.replace(model, stacked=False))
    rows = batch_sharding(mesh)

    def logits(params: nnx.State, tokens: jax.Array, lengths: jax.Array) -> jax.Array:
      transformer = nnx.merge(graph, params)
      hidden = row_hidden(transformer, tokens)
      last = jnp.take_along_axis(hidden, lengths[:, None, None] - 1, axis=1)[:, 0]
      columns = transformer.unembedding()[:, self._tokens].astype(last.dtype)
      return jnp.matmul(last, columns, preferred_element_type=jnp.float32)

    self._logits = jax.jit(logits, in_shardings=(None, rows, rows), out_shardings=rows)

  def __call__(self, params: nnx.State, version: int) -> tuple[dict[str, Any], Mapping[str, list[Group]]]:
    """Evaluates parameters on the held-out answers.

    Args:
      params: the sampler's parameters.
      version: their version.

    Returns:
      (metrics, judgements). The metrics are those of `verdict_metrics` under `eval/sampled/` and `eval/expected/`, and
      `eval/labels/majority`, the accuracy of always giving the more common verdict. The judgements are the groups
      "sampled" and "greedy".
    """
    groups = {}
    for name, engine, count in (("sampled", self._engine, self._samples), ("greedy", self._greedy, 1)):
      engine.load(params, version)
      groups[name] = [
        dataclasses.replace(group, texts=tuple(answer_text(self._tokenizer, answer.tokens) for answer in group.answers))
        for group in engine.generate(self._answers.prompts, count)
      ]
      engine.unload()
    scores = {
      "sampled": np.array([[self._parsed(text) for text in group.texts] for group in groups["sampled"]]),
      "expected": self._expected(params, groups["greedy"])[:, None],
    }
    labels, problems, middle = self._answers.labels, self._answers.problems, (self._low + self._high) / 2
    metrics = {
      f"eval/{reading}/{name}": value
      for reading, found in scores.items()
      for name, value in verdict_metrics(found, labels, problems, middle=middle).items()
    }
    good = (labels > middle).mean()
    return metrics | {"eval/labels/majority": float(max(good, 1 - good))}, groups

  def _parsed(self, text: str) -> float:
    score = parse_score(text, low=self._low, high=self._high)
    return math.nan if score is None else score

  def _expected(self, params: nnx.State, judged: Sequence[Group]) -> np.ndarray:
    """Returns float64 [N], NaN where the reasons lead to no score."""
    ends = [
      score_position(self._tokenizer, group.answers[0].tokens, self._tokens)
      if not math.isnan(self._parsed(group.texts[0]))
      else None
      for group in judged
    ]
    rows = [
      np.array([*group.prompt.tokens, *group.answers[0].tokens[:end]], np.int32)
      for group, end in zip(judged, ends)
      if end is not None
    ]

    def logits(tokens, lengths):
      return self._logits(params, tokens, lengths)

    with jax.set_mesh(self._mesh):
      found = iter(map_rows(logits, rows, tokens_per_batch=_TOKENS_PER_BATCH, shards=batch_shards(self._mesh)))
    return np.array([math.nan if end is None else expected_score(next(found), self._values) for end in ends])


def score_tokens(tokenizer: Tokenizer, *, low: int, high: int) -> np.ndarray:
  """Returns the ids of the score tokens `low` to `high`, int32 [S], after " Score: ".

  Raises:
    InputError: if they are not one token each, all different, after the same tokens.
  """
  found = [tokenizer.encode(f" Score: {score}") for score in range(low, high + 1)]
  tokens = {ids[-1] for ids in found}
  if len({tuple(ids[:-1]) for ids in found}) > 1 or len(tokens) < len(found):
    raise InputError(f"judgements: scores from {low} to {high} are not one token each; expected a range that is")
  return np.array([ids[-1] for ids in found], np.int32)


def score_position(tokenizer: Tokenizer, answer: np.ndarray, tokens: np.ndarray) -> int | None:
  """Returns the position of a judgement's last score token after "Score:"; None without one.

  Args:
    tokenizer: the judge's.
    answer: int32 [n], the judgement.
    tokens: of the scores.
  """
  for position in reversed(np.flatnonzero(np.isin(answer, tokens)).tolist()):
    if _BEFORE_SCORE.search(tokenizer.decode(answer[:position])):
      return position
  return None


def verdict_metrics(
  scores: np.ndarray, labels: np.ndarray, problems: Sequence[Hashable], *, middle: float
) -> dict[str, float]:
  """Computes how often a judge is right.

  Args:
    scores: float [N, k], k readings of each answer; NaN: no score.
    labels: float [N], the true scores.
    problems: N names; intervals are over problems.
    middle: scores above it call an answer good, below it bad; it is no verdict itself.

  Returns:
    "accuracy" of single readings, none is wrong; "pair_accuracy": of two answers to one problem with different labels
    the better one has the higher mean score, ½ where these are equal or one has none, each problem weighing the same;
    both with `_low` and `_high`, 95 % over problems. "unparsed": share of readings without a score; "pairs": how many.
  """
  right = (np.sign(scores - middle) == np.sign(labels - middle)[:, None]).mean(axis=1)
  has_score = ~np.isnan(scores)
  means = np.where(has_score, scores, 0).sum(axis=1) / np.where(has_score.any(axis=1), has_score.sum(axis=1), np.nan)
  members = collections.defaultdict(list)
  for index, problem in enumerate(problems):
    members[problem].append(index)
  accuracies, pair_accuracies, pairs = [], [], 0
  for indices in members.values():
    accuracies.append(right[indices].mean())
    gaps = [means[i] - means[j] for i in indices for j in indices if labels[i] > labels[j]]
    pairs += len(gaps)
    if gaps:
      pair_accuracies.append((1 + np.sign(np.nan_to_num(gaps)).mean()) / 2)
  found: dict[str, float] = {}
  for name, values in (("accuracy", accuracies), ("pair_accuracy", pair_accuracies)):
    estimate = bootstrap.estimate(np.array(values))
    found |= {name: estimate.mean, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
  return found | {"unparsed": float(1 - has_score.mean()), "pairs": pairs}
