"""Trains PPO's value model, with a train state, optimiser and layout separate from the policy's."""

from collections.abc import Sequence

import numpy as np
from flax import nnx
from jax.sharding import Mesh

from posttrain_jax import progress
from posttrain_jax.learner import value
from posttrain_jax.learner.batch_learner import BatchLearner
from posttrain_jax.learner.division import Division
from posttrain_jax.learner.optimizer import OptimizerConfig
from posttrain_jax.learner.packing import Packing, Packings
from posttrain_jax.learner.policy_batch import PolicyBatch
from posttrain_jax.learner.scoring import Scorer
from posttrain_jax.learner.update import combine
from posttrain_jax.learner.value import ValueBatch, ValueObjective, pack_values
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.transformer import abstract_transformer
from posttrain_jax.parallel.memory import Kept


class ValueLearner(BatchLearner[tuple[ValueBatch, Packing]]):
  """Predicts what answers will earn, and learns it from their returns.

  An update trains on what `scorer.split` yields.

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
      optimizer: optimiser and learning-rate schedule.
      mesh: the devices that compute.
      division: P prompts of an update and of a forward pass, and tokens of a micro-batch of both.
      max_skipped_updates: training ends after this many updates in a row that are not finite.
      params: parameters to start from.
      abstract: make the programs and no array, as in `BatchLearner`; `params` may be abstract too.
      optimizer_kept: in which memory the optimiser's state is between updates.
    """
    graph, _ = abstract_transformer(model)
    super().__init__(
      model,
      value.make_loss(graph, objective),
      lambda update: pack_values(*update),
      optimizer,
      mesh,
      max_skipped_updates=max_skipped_updates,
      seed=0,  # not used: parameters are given
      params=params,
      abstract=abstract,
      optimizer_kept=optimizer_kept,
    )
    self._prompts_per_update = division.prompts_per_update
    self.scorer = Scorer(model, value.packed_values, mesh, division)

  def values(self, batch: PolicyBatch, packings: Packings | None = None) -> np.ndarray:
    """Returns values [P, G, Tc] under the current parameters, index t before token t.

    They are arbitrary where the mask is False.
    """
    return self.scorer(self.state.params, batch, packings)

  def fit(
    self,
    batch: PolicyBatch,
    *,
    old_values: np.ndarray,
    returns: np.ndarray,
    order: Sequence[np.ndarray],
    packings: Packings | None = None,
  ) -> dict[str, float]:
    """Runs the updates of a step.

    Args:
      batch: host arrays; its answers and its mask are used.
      old_values: float32 [P, G, Tc], the result of `values` at the start of the step.
      returns: float32 [P, G, Tc].
      order: for each epoch the indices of the prompts in their order. An update without a counted token is left out.
      packings: those of the batch, if it was scored before.

    Returns:
      Metrics named `value/...`, over the updates: means, largest values, and counts of skipped updates.

    Raises:
      Diverged: if too many updates in a row were not finite.
    """
    whole = ValueBatch(
      prompts=batch.prompts,
      prompt_lengths=batch.prompt_lengths,
      answers=batch.answers,
      mask=batch.mask,
      old_values=old_values,
      returns=returns,
    )
    found, rows = [], np.concatenate(order)
    for done, (part, packing) in enumerate(self.scorer.split(whole, packings, rows), 1):
      if part.mask.any():
        found.append(self.train((part, packing)))
      progress.report("updates of the values", done, len(rows) // self._prompts_per_update)
    return {f"value/{name}": metric for name, metric in combine(found).items()}
