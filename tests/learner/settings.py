"""Makes the records that a config fills, with every field given; a test names those that it changes."""

from posttrain_jax.learner.objective import Correction, Objective
from posttrain_jax.learner.optimizer import OptimizerConfig, Schedule
from posttrain_jax.learner.preference import PreferenceLoss, PreferenceObjective
from posttrain_jax.losses.aggregate import Aggregation


def make_correction(**changes) -> Correction:
  return Correction(**dict(level="token", mode="truncate", low=0.0, high=2.0) | changes)


def make_objective(**changes) -> Objective:
  """Makes DAPO's objective, as in configs/tiny_dapo.py."""
  fields = dict(
    surrogate="clipped_surrogate",
    surrogate_options={},
    clip_low=0.2,
    clip_high=0.28,
    dual_clip=0.0,
    aggregation=Aggregation.TOKEN_MEAN,
    kl_coefficient=0.0,
    kl_estimator="k3",
    entropy_coefficient=0.0,
    nll_on_correct=0.0,
    correction=make_correction(),
    temperature=1.0,
    max_new_tokens=6,
    logprob_chunk=1024,
  )
  return Objective(**fields | changes)


def make_preference_objective(loss: PreferenceLoss, options: dict[str, float], **changes) -> PreferenceObjective:
  fields = dict(nll_weight=0.0, nll_mean=False, length_averaged=False, logprob_chunk=1024)
  return PreferenceObjective(loss=loss, options=options, **fields | changes)


def make_optimizer_config(**changes) -> OptimizerConfig:
  fields = dict(
    learning_rate=1e-2,
    schedule=Schedule.CONSTANT,
    warmup_updates=0,
    decay_updates=0,
    end_fraction=0.1,
    b1=0.9,
    b2=0.999,
    epsilon=1e-8,
    weight_decay=0.0,
    clip_norm=1.0,
  )
  return OptimizerConfig(**fields | changes)
