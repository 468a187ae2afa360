"""Evaluates a generative reward model on held-out answers, its score read in two ways.

Sampled: the model writes its reasons and a score, which is parsed; several judgements of an answer are averaged.
Expected: after the likeliest reasons, the mean of the scores under the probabilities of their tokens.
"""

import collections
import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from flax import nnx
from jax.sharding import Mesh

from posttrain_jax.assembly.score_reading import ScoreReader, mean_of_votes
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.evaluation import metrics as bootstrap
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.sampling.engine import Engine
from posttrain_jax.types import Group, Prompt


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
    mark: str,
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
      mark: what stands before a score.

    Raises:
      InputError: if the scores are not one token each.
    """
    self._answers, self._samples, self._engine, self._greedy = answers, samples, engine, greedy
    self._reader = ScoreReader(model, tokenizer, mesh, low=low, high=high, mark=mark)
    self._middle = (low + high) / 2

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
      groups[name] = self._reader.with_texts(engine.generate(self._answers.prompts, count))
      engine.unload()
    scores = {
      "sampled": self._reader.sampled(groups["sampled"]),
      "expected": self._reader.expected(params, groups["greedy"]),
    }
    labels, problems, middle = self._answers.labels, self._answers.problems, self._middle
    metrics = {
      f"eval/{reading}/{name}": value
      for reading, found in scores.items()
      for name, value in verdict_metrics(found, labels, problems, middle=middle).items()
    }
    good = (labels > middle).mean()
    return metrics | {"eval/labels/majority": float(max(good, 1 - good))}, groups


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
  means = mean_of_votes(scores)
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
