"""Tests which objectives are refused, and which can be computed as a sum over tokens."""

import pytest

from posttrain_jax.learner.objective import Objective, surrogates
from posttrain_jax.losses import policy
from posttrain_jax.types import InputError
from tests.learner.settings import make_correction, make_objective


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    (dict(surrogate="importance_correction"), "objective.surrogate: 'importance_correction', expected one of clip_cov"),
    (dict(surrogate_options={"clip_high": 1.0}), "objective.surrogate_options.clip_high: unknown"),
    (dict(surrogate="clip_cov", surrogate_options={"key": "0"}), "objective.surrogate_options.key: '0', expected"),
    (dict(surrogate_options={"nonsense": 1.0}), "objective.surrogate_options.nonsense: unknown"),
    (dict(surrogate="clipped_importance_weight", dual_clip=3.0), "objective.dual_clip: 3.0, but clipped_importance"),
  ],
)
def test_surrogates_that_do_not_exist_or_do_not_take_these_options(settings, message):
  with pytest.raises(InputError, match=message.replace(".", r"\.")):
    make_objective(**settings)


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    (dict(kl_estimator="k1"), r"objective\.kl_estimator: 'k1', expected k2"),
    (dict(clip_low=1.1), r"objective\.clip_low: 1\.1, expected a number in \[0, 1\]"),
    (dict(clip_high=-0.1), r"objective\.clip_high: -0\.1"),
    (dict(dual_clip=0.5), r"objective\.dual_clip: 0\.5"),
    (dict(logprob_chunk=0), r"objective\.logprob_chunk: 0"),
    # The name that a config has for it.
    (dict(temperature=0.0), r"^rollout\.sampling\.temperature: 0\.0, expected more than 0"),
  ],
)
def test_numbers_that_would_train_something_else(settings, message):
  with pytest.raises(InputError, match=message):
    make_objective(**settings)


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    (dict(level="row"), r"objective\.correction\.level: 'row', expected off, token"),
    (dict(mode="clip"), r"objective\.correction\.mode: 'clip'"),
    (dict(low=2.0), r"objective\.correction: low 2\.0, high 2\.0, expected 0 <= low < high"),
  ],
)
def test_corrections_that_do_not_exist(settings, message):
  with pytest.raises(InputError, match=message):
    make_correction(**settings)


def test_a_config_names_every_number_of_dapos():
  with pytest.raises(TypeError, match=r"clip_low.*clip_high.*correction"):
    Objective()


def test_what_looks_at_other_tokens_is_no_sum_over_tokens():
  for surrogate, options in (("sequence_clipped_surrogate", {}), ("geometric_mean_surrogate", {})):
    assert not make_objective(surrogate=surrogate, surrogate_options=options).is_sum_over_tokens
  assert not make_objective(correction=make_correction(level="sequence")).is_sum_over_tokens
  assert not make_objective(correction=make_correction(level="geometric")).is_sum_over_tokens
  for level in ("token", "off"):
    assert make_objective(correction=make_correction(level=level)).is_sum_over_tokens


def test_a_public_function_with_a_surrogates_arguments_is_one(monkeypatch):
  """Checks a promise of the docstring of `losses.policy`: an imported name is enough."""

  def new(learner_logprobs, old_logprobs, advantages, mask, *, clip_high, power, slope=1.0):
    return learner_logprobs * 0 + clip_high * power * slope

  def other(old_logprobs, learner_logprobs, advantages, mask):
    return old_logprobs

  monkeypatch.setattr(policy, "new", new, raising=False)
  monkeypatch.setattr(policy, "other", other, raising=False)
  monkeypatch.setattr(policy, "_hidden", new, raising=False)
  assert surrogates().keys() & {"new", "other", "_hidden"} == {"new"}
  made = make_objective(surrogate="new", surrogate_options={"power": 2.0}, clip_high=0.5)
  assert not made.is_sum_over_tokens
  assert made.surrogate_losses(3.0, 0.0, 1.0, 1.0) == 1.0  # clip_high comes from the objective's own field
  with pytest.raises(InputError, match=r"surrogate_options\.power: missing, new needs it"):
    make_objective(surrogate="new")
