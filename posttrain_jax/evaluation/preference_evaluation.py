"""Evaluates a policy on held-out preferences: pairs, or single answers with a label."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from flax import nnx
from jax.sharding import Mesh

from posttrain_jax.data.comparison_batches import ComparisonBatches
from posttrain_jax.data.preferences import Comparison
from posttrain_jax.evaluation import metrics as bootstrap
from posttrain_jax.evaluation.reference_logprobs import compute_logprobs
from posttrain_jax.learner.division import Division
from posttrain_jax.learner.preference import PreferenceObjective, pair_metrics
from posttrain_jax.learner.scoring import plain_logprob_scorer
from posttrain_jax.learner.single_answers import answer_metrics
from posttrain_jax.models.config import TransformerConfig

_RESAMPLES = 1000


class PreferenceEvaluation:
  """Measures the implicit rewards of held-out pairs, or of single answers."""

  def __init__(
    self,
    model: TransformerConfig,
    pairs: Sequence[Comparison],
    objective: PreferenceObjective,
    reference: nnx.State,
    mesh: Mesh,
    division: Division,
    *,
    pad_id: int,
    count_end: bool,
  ):
    """Computes the reference's logprobs of the answers.

    Args:
      model: the transformer, layers stacked.
      pairs: the held-out pairs, chosen first, or single answers of both labels.
      objective: whose β scales the rewards.
      reference: the reference's parameters, in the learner's shardings.
      mesh: where parameters are.
      division: pairs of a batch, and tokens of a micro-batch.
      pad_id: fills up rows.
      count_end: whether end tokens count.
    """
    batch_size = division.prompts_per_update
    batches = ComparisonBatches(pairs, batch_size=batch_size, seed=0, pad_id=pad_id, count_end=count_end)
    self._batches = list(batches.in_order(batch_size))
    self._beta = objective.options.get("beta", 1.0)
    self._counts = np.concatenate([batch.mask.sum(-1)[batch.index >= 0] for batch in self._batches])
    self._desirable = np.array([pair.desirable for pair in pairs], bool) if pairs[0].is_single else None
    scorer = plain_logprob_scorer(model, mesh, division, chunk=objective.logprob_chunk)
    self._logprobs: Callable[[nnx.State], np.ndarray] = lambda params: compute_logprobs(
      scorer, params, self._batches, batches.num_rows
    )
    self._reference = self._logprobs(reference)

  def __call__(self, params: nnx.State) -> dict[str, Any]:
    """Averages the metrics over pairs, and adds the accuracy's 95 % interval.

    Of single answers the accuracy is the share of all couples of a good and a bad one in which the good one has the
    higher implicit reward, a tie counting half. Its interval resamples good and bad answers.
    """
    if self._desirable is not None:
      return self._of_labels(self._logprobs(params), self._desirable)
    found = pair_metrics(self._logprobs(params), self._reference, self._counts, beta=self._beta)
    accuracy = bootstrap.estimate(np.asarray(found["reward/accuracy"], np.float64))
    interval = {"reward/accuracy_low": accuracy.low, "reward/accuracy_high": accuracy.high}
    return {name: float(np.mean(values)) for name, values in found.items()} | interval | {"pairs": len(self._counts)}

  def _of_labels(self, logprobs: np.ndarray, desirable: np.ndarray) -> dict[str, Any]:
    given = (x[:, 0] for x in (logprobs, self._reference, self._counts))
    found = answer_metrics(*given, beta=self._beta)
    kinds = {"chosen": desirable, "rejected": ~desirable}
    means = {
      name.format(kind): float(np.mean(values[which]))
      for name, values in found.items()
      for kind, which in kinds.items()
    }
    good, bad = (found["reward/{}"][which] for which in kinds.values())
    ahead = (np.sign(good[:, None] - bad) + 1) / 2
    rng = np.random.default_rng(0)
    of_good, of_bad = (  # share of each answer in each resample
      rng.multinomial(count, np.full(count, 1 / count), size=_RESAMPLES) / count for count in ahead.shape
    )
    low, high = np.percentile(((of_good @ ahead) * of_bad).sum(axis=1), (2.5, 97.5))
    interval = {"reward/accuracy_low": float(low), "reward/accuracy_high": float(high)}
    return {
      **means,
      "reward/margin": means["reward/chosen"] - means["reward/rejected"],
      "reward/accuracy": float(ahead.mean()),
      **interval,
      "answers": len(desirable),
    }
