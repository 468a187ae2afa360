"""Loads PPO's initial value model: by path, from the reward model, or from the policy."""

import dataclasses
from collections.abc import Iterable

from flax import nnx

from posttrain_jax.assembly.model import Policy
from posttrain_jax.assembly.readers import load_reader
from posttrain_jax.models import heads
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.sampling.engine import Engine


def load_value_model(
  path: str, policy: Policy, where: str, *, reward_model: Policy | None = None, engines: Iterable[Engine] = ()
) -> tuple[Policy, dict[str, str]]:
  """Loads a model that values will start from.

  Args:
    path: PATH_OR_NAME of a reward model or of a language model; empty for `reward_model`, or for the policy if that is
      None. The policy's parameters are not known before its warm-up, so None stands for them.
    policy: whose tokens the value model is given, and which says how to compute.
    where: the config field that has the path.
    reward_model: the run's, which is loaded already; its parameters are shared with the result, not copied.
    engines: draw the answers that it reads; its context must hold them.

  Returns:
    (model and parameters, `where` to the digest of the weights that were read here).

  Raises:
    InputError: if there is no such model, if its tokeniser is another one, or if answers may outgrow its context.
  """
  if path:
    found, read = load_reader(path, policy.tokenizer, where, engines=engines)
  elif reward_model is not None:
    found, read = reward_model, {}
  else:
    return dataclasses.replace(policy, params=None), {}
  how = policy.model
  model = dataclasses.replace(found.model, compute_dtype=how.compute_dtype, remat=how.remat, unroll=how.unroll)
  return dataclasses.replace(found, model=model), read


def with_value_head(
  start: Policy, policy_params: nnx.State, *, seed: int, zero: bool
) -> tuple[TransformerConfig, nnx.State]:
  """Makes the value model before its training.

  Args:
    start: what `load_value_model` found.
    policy_params: the policy's before training; taken if `start` has none.
    seed: of the weights of a new head.
    zero: a head of zeros, also where there is one already, so that every value is 0.
  """
  params = policy_params if start.params is None else start.params
  return heads.to_scalar_head(start.model, params, seed=seed, zero=zero)
