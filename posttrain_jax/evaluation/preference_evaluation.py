"""Evaluates a policy on held-out preferences."""

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
from posttrain_jax.models.config import TransformerConfig


class PreferenceEvaluation:
  """Measures the implicit rewards of held-out pairs."""

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
    """Computes the reference's logprobs of the pairs.

    Args:
      model: the transformer, layers stacked.
      pairs: the held-out pairs, chosen first.
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
    scorer = plain_logprob_scorer(model, mesh, division, chunk=objective.logprob_chunk)
    self._logprobs: Callable[[nnx.State], np.ndarray] = lambda params: compute_logprobs(
      scorer, params, self._batches, batches.num_rows
    )
    self._reference = self._logprobs(reference)

  def __call__(self, params: nnx.State) -> dict[str, Any]:
    """Averages the metrics over pairs; adds the accuracy's 95 % interval."""
    found = pair_metrics(self._logprobs(params), self._reference, self._counts, beta=self._beta)
    accuracy = bootstrap.estimate(np.asarray(found["reward/accuracy"], np.float64))
    interval = {"reward/accuracy_low": accuracy.low, "reward/accuracy_high": accuracy.high}
    return {name: float(np.mean(values)) for name, values in found.items()} | interval | {"pairs": len(self._counts)}
