"""Computes the advantages of a step by the estimator that the config names.

An estimator is a public function of `losses.advantages`. The names of its parameters say which arrays it gets:
`rewards`, `accuracy`, `lengths` and `valid` are [P, G]; `mask`, `old_logprobs`, `reference_logprobs` and
`teacher_logprobs` are [P, G, Tc]; `greedy_rewards` is [P]. All other parameters are options of the config
(`advantage_options`). So a new estimator is a function that `losses/advantages.py` imports, its test, and a config that
names it.
"""

import functools
import inspect
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from posttrain_jax import compiled_once, losses
from posttrain_jax.pipelines.policy_batches import Logprobs
from posttrain_jax.types import InputError, Rollout

_PROMPTS, _ANSWERS, _TOKENS = (2,), (2, 3), (2, 3, 4)  # shapes by which a function is tried: P = 2, G = 3, Tc = 4
_GIVEN = {
  "rewards": (_ANSWERS, jnp.float32),
  "accuracy": (_ANSWERS, jnp.float32),
  "lengths": (_ANSWERS, jnp.int32),
  "valid": (_ANSWERS, jnp.bool_),
  "mask": (_TOKENS, jnp.bool_),
  "old_logprobs": (_TOKENS, jnp.float32),
  "reference_logprobs": (_TOKENS, jnp.float32),
  "teacher_logprobs": (_TOKENS, jnp.float32),
  "greedy_rewards": (_PROMPTS, jnp.float32),
}

_VERDICTS = ("rewards", "accuracy", "teacher_logprobs")  # an estimator takes at least one of them


class Estimator:
  """Calls an estimator by its name.

  Attributes:
    name: the function's name.
    inputs: names of the arrays that the function takes.
    per_token: True if each token has its own advantage, False if each answer has one.
  """

  def __init__(self, name: str, options: Mapping[str, Any]):
    """Finds the function and compiles it.

    Args:
      name: of a function of `losses.advantages`.
      options: its keyword arguments that are not arrays of the rollout.

    Raises:
      InputError: if there is no such estimator, or if it does not take these options.
    """
    named = getattr(losses.advantages, name, None)
    if not _is_estimator(named):
      known = sorted(key for key, value in vars(losses.advantages).items() if _is_estimator(value))
      raise InputError(f"advantage: {name!r}, expected one of {', '.join(known)}")
    parameters = inspect.signature(named).parameters
    self.name = name
    self.inputs = tuple(parameter for parameter in parameters if parameter in _GIVEN)
    free = [parameter for parameter in parameters if parameter not in _GIVEN]
    for option in options:
      if option not in free:
        raise InputError(f"advantage_options.{option}: {name} has no such option, expected {', '.join(free) or 'none'}")
    for option in free:
      if parameters[option].default is inspect.Parameter.empty and option not in options:
        raise InputError(f"advantage_options.{option}: missing, {name} needs it")
    function = functools.partial(named, **options)
    try:
      shape = jax.eval_shape(function, **{each: jax.ShapeDtypeStruct(*_GIVEN[each]) for each in self.inputs})
    except (TypeError, ValueError) as error:
      raise InputError(f"advantage_options: {dict(options)} do not suit {name}: {error}") from error
    self.per_token = shape.ndim == len(_TOKENS)
    self._function = compiled_once.jit(function)

  def __call__(self, **arrays: np.ndarray | None) -> np.ndarray:
    """Returns float32 advantages, [P, G, 1] or [P, G, Tc].

    Args:
      **arrays: those that `inputs` names; others are ignored.
    """
    found = np.asarray(self._function(**{name: arrays[name] for name in self.inputs}), np.float32)
    return found[..., None] if found.ndim == 2 else found


def step_advantages(
  estimator: Estimator,
  rollout: Rollout,
  mask: np.ndarray,
  logprobs: Logprobs,
  *,
  kl_in_reward: float = 0.0,
  greedy_rewards: np.ndarray | None = None,
) -> np.ndarray:
  """Computes the advantages of a step's answers.

  Args:
    estimator: how.
    rollout: rewards, accuracy, lengths and validity, [P, G] each.
    mask: bool [P, G, Tc], tokens that count.
    logprobs: those that the estimator takes; old and reference ones too if the KL is in the reward.
    kl_in_reward: β of the KL to the reference that is taken from rewards; 0 for none.
    greedy_rewards: float32 [P'], P' at most P, of the policy's greedy answers; None unless the estimator takes them.

  Returns:
    Float32 [P, G, 1], or [P, G, Tc] if each token has an advantage of its own.
  """
  rewards = rollout.rewards
  if kl_in_reward:
    charged = charge_kl(rewards, logprobs.old, logprobs.reference, mask, coefficient=kl_in_reward)
    rewards = np.where(rollout.valid, charged, 0)
  if greedy_rewards is not None:
    # Rows without a group have no answer that a baseline could be taken from.
    greedy_rewards = np.pad(greedy_rewards, (0, len(mask) - len(greedy_rewards)))
  return estimator(
    rewards=rewards,
    accuracy=rollout.accuracy,
    lengths=rollout.lengths,
    valid=rollout.valid,
    mask=mask,
    old_logprobs=logprobs.old,
    reference_logprobs=logprobs.reference,
    teacher_logprobs=logprobs.teacher,
    greedy_rewards=greedy_rewards,
  )


def charge_kl(
  rewards: np.ndarray, old_logprobs: np.ndarray, reference_logprobs: np.ndarray, mask: np.ndarray, *, coefficient: float
) -> np.ndarray:
  """Subtracts the KL of each whole answer from its reward.

  r − β Σ_t (log π_old − log π_reference) over counted tokens. This is k1, the estimator that belongs in the reward: as
  a loss its gradient is zero in expectation.

  Args:
    rewards: [P, G].
    old_logprobs: [P, G, Tc].
    reference_logprobs: [P, G, Tc].
    mask: bool [P, G, Tc].
    coefficient: β.
  """
  kl = np.where(mask, old_logprobs - reference_logprobs, 0).sum(-1, dtype=np.float32)
  return (rewards - np.float32(coefficient) * kl).astype(np.float32)


def _is_estimator(function: Any) -> bool:
  """Returns whether a function makes of the given arrays a number for each answer or token."""
  if not inspect.isfunction(function):
    return False
  parameters = inspect.signature(function).parameters.values()
  positional = {p.name for p in parameters if p.kind == inspect.Parameter.POSITIONAL_OR_KEYWORD}
  if not positional <= set(_GIVEN) or positional.isdisjoint(_VERDICTS):
    return False
  options = {p.name: 1.0 for p in parameters if p.name not in _GIVEN and p.default is inspect.Parameter.empty}
  arrays = {p.name: jax.ShapeDtypeStruct(*_GIVEN[p.name]) for p in parameters if p.name in _GIVEN}
  shape = jax.eval_shape(functools.partial(function, **options), **arrays)
  return getattr(shape, "shape", None) in (_ANSWERS, _TOKENS)
