"""Hands parameters over to the sampler: a learner's, or those of a fixed policy."""

from collections.abc import Callable
from typing import Protocol

from flax import nnx
from jax.sharding import Mesh

from posttrain_jax.assembly.model import Policy
from posttrain_jax.learner.state import TrainState, abstract_like
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.parallel.processes import local_mesh
from posttrain_jax.parallel.reshard import make_handover

HandOver = Callable[[nnx.State], nnx.State]  # the learner's parameters to the sampler's


class HasState(Protocol):
  """Names what is read of a learner: `PolicyLearner` and `BatchLearner` have it."""

  state: TrainState
  shardings: TrainState


def hand_over_of_learner(learner: HasState, model: TransformerConfig, mesh: Mesh) -> HandOver:
  """Makes the hand-over of a learner's parameters.

  Args:
    learner: whose parameters they are; their shapes and shardings are read, no array is.
    model: the transformer.
    mesh: the learner's. With several processes the sampler's parameters are on this one's part of it.
  """
  return _make(abstract_like(learner.state, learner.shardings).params, model, mesh)


def sampler_params(policy: Policy, mesh: Mesh) -> nnx.State:
  """Returns the sampler's parameters of a policy that is not trained.

  Args:
    policy: with parameters, on the host or on devices.
    mesh: where the sampler is. With several processes its parameters are on this one's part of it.
  """
  return _make(policy.params, policy.model, mesh)(policy.params)


def _make(params: nnx.State, model: TransformerConfig, mesh: Mesh) -> HandOver:
  return make_handover(params, num_layers=model.num_layers, dtype=model.compute_dtype, mesh=local_mesh(mesh))
