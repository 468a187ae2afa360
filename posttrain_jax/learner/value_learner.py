"""The value model's learner: its train state, its optimiser and its layout are its own, not the policy's."""

from collections.abc import Sequence

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from posttrain_jax.learner import value
from posttrain_jax.learner.batch_learner import BatchLearner
from posttrain_jax.learner.division import Division
from posttrain_jax.learner.optimizer import OptimizerConfig
from posttrain_jax.learner.policy_batch import PolicyBatch
from posttrain_jax.learner.scoring import Scorer
from posttrain_jax.learner.update import combine
from posttrain_jax.learner.value import ValueBatch, ValueObjective
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.transformer import abstract_transformer
from posttrain_jax.parallel.memory import Kept


class ValueLearner(BatchLearner):
  """Says what answers will earn, and learns it from their returns.

  Attributes:
    scorer: computes values.
  """

  def __init__(
    self,
    model: TransformerConfig,
    objective: ValueObjective,
    optimizer: OptimizerConfig,
    mesh: Mesh,
    division: Division,
    *,
    max_skipped_updates: int,
    params: nnx.State,
    abstract: bool = False,
    optimizer_kept: Kept = Kept.DEVICE,
  ):
    """Makes the state and the programs.

    Args:
      model: a transformer with a scalar head, layers stacked.
      objective: what to minimise.
      optimizer: how.
      mesh: where.
      division: P prompts of an update and of a forward pass, and M micro-batches of both.
      max_skipped_updates: updates in a row that are not finite which end the training.
      params: parameters to start from.
      abstract: make the programs and no array, as in `BatchLearner`; `params` may be abstract too.
      optimizer_kept: in whose memory the optimiser's state is between updates.
    """
    graph, _ = abstract_transformer(model)
    super().__init__(
      model,
      value.make_loss(graph, objective),
      value.total_tokens,
      optimizer,
      mesh,
      micro_batches=division.micro_batches,
      max_skipped_updates=max_skipped_updates,
      seed=0,  # of nothing: parameters are given
      params=params,
      abstract=abstract,
      optimizer_kept=optimizer_kept,
    )
    self._prompts_per_update = division.prompts_per_update
    self.scorer = Scorer(model, value.answer_values, mesh, division)

  def values(self, batch: PolicyBatch) -> np.ndarray:
    """Values [P, G, Tc] under the present parameters, index t before token t; arbitrary where the mask is False."""
    return self.scorer(self.state.params, batch)

  def fit(
    self, batch: PolicyBatch, *, old_values: np.ndarray, returns: np.ndarray, order: Sequence[np.ndarray]
  ) -> dict[str, float]:
    """Runs the updates of a step.

    Args:
      batch: host arrays; the answers and which of their tokens count.
      old_values: float32 [P, G, Tc], what `values` gave at the start of the step.
      returns: float32 [P, G, Tc].
      order: for each epoch the indices of the prompts in their order. An update without a counted token is left out.

    Returns:
      Metrics named `value/...`, over the updates: means, largest values, and counts of skipped updates.

    Raises:
      Diverged: too many updates in a row were not finite.
    """
    whole = ValueBatch(
      prompts=batch.prompts,
      prompt_lengths=batch.prompt_lengths,
      answers=batch.answers,
      mask=batch.mask,
      old_values=old_values,
      returns=returns,
    )
    found = []
    for indices in order:
      for rows in indices.reshape(-1, self._prompts_per_update):
        part = jax.tree.map(lambda x, rows=rows: x[rows], whole)
        if part.mask.any():
          found.append(self.train(part))
    return {f"value/{name}": metric for name, metric in combine(found).items()}
