"""Makes the learner of preference pairs, given (`pipelines.dpo`) or sampled (`pipelines.online_dpo`).

It learns from single answers with a label, too.
"""

import functools

from jax.sharding import Mesh

from posttrain_jax.assembly.model import Policy
from posttrain_jax.learner import preference, single_answers
from posttrain_jax.learner.batch_learner import BatchLearner
from posttrain_jax.learner.division import Division
from posttrain_jax.learner.optimizer import OptimizerConfig
from posttrain_jax.learner.preference import PreferenceObjective
from posttrain_jax.learner.preference_batch import pack_pairs
from posttrain_jax.models.transformer import abstract_transformer
from posttrain_jax.parallel.memory import Kept
from posttrain_jax.parallel.sharding import batch_shards
from posttrain_jax.runs.random_streams import Stream, stream_seed


def pair_learner(
  policy: Policy,
  objective: PreferenceObjective,
  optimizer: OptimizerConfig,
  mesh: Mesh,
  division: Division,
  *,
  seed: int,
  max_skipped_updates: int,
  single: bool = False,
  optimizer_kept: Kept = Kept.DEVICE,
  abstract: bool = False,
) -> BatchLearner:
  """Makes a learner that minimises a preference loss on a policy.

  Args:
    policy: what to start from.
    objective: the loss.
    optimizer: how to minimise it.
    mesh: the devices that compute.
    division: pairs of an update, and tokens of a micro-batch.
    seed: the config's, for random parameters.
    max_skipped_updates: updates in a row that are not finite which end the training.
    single: whether it is given single answers with a label in place of pairs.
    optimizer_kept: in whose memory the optimiser's state is between updates.
    abstract: make the programs and no array, to be compiled only.
  """
  graph, _ = abstract_transformer(policy.model)
  make_loss = single_answers.make_loss if single else preference.make_loss
  return BatchLearner(
    policy.model,
    make_loss(graph, objective, shards=batch_shards(mesh)),
    functools.partial(pack_pairs, division, mesh),
    optimizer,
    mesh,
    max_skipped_updates=max_skipped_updates,
    seed=stream_seed(seed, Stream.PARAMS),
    params=policy.params,
    abstract=abstract,
    optimizer_kept=optimizer_kept,
  )
