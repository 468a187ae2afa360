import numpy as np
import pytest

from posttrain_jax.studies import ablation_checks
from posttrain_jax.studies.ablation_checks import Technique, mechanism

THIRD = np.ones(4)


def columns(**changes):
  found = {
    "truncated/share": 0.2,
    "truncated/trained_share": 0.2,
    "clip/high": 0.01,
    "reward/overlong": -0.05,
    "length/cv": 0.6,
    "sampling/informative_share": 0.5,
    "kl/reference": 0.01,
    "entropy": np.concatenate([THIRD, 0.5 * THIRD, 0.4 * THIRD]),
  }
  found |= {key.replace("__", "/"): value for key, value in changes.items()}
  return {key: value * np.ones(12) for key, value in found.items()}


@pytest.mark.parametrize(
  "technique, with_technique, without, found",
  [
    ("overlong_filter", dict(truncated__trained_share=0.04), {}, 0.04),
    ("clip_higher", {}, dict(clip__high=0.004), 0.004),
    ("soft_overlong", dict(reward__overlong=-0.009), {}, 0.009),
    ("token_mean", dict(length__cv=0.4), {}, 0.4),
    ("prompt_mean", dict(length__cv=0.4), {}, 0.4),
    ("dynamic_sampling", dict(sampling__informative_share=0.7), {}, 0.7),
    ("kl", dict(kl__reference=0.0005), {}, 0.0005),
  ],
)
def test_each_technique_needs_what_it_acts_on(technique, with_technique, without, found):
  (there,) = mechanism(Technique(technique), [columns()], [columns()])
  (missing,) = mechanism(Technique(technique), [columns(**with_technique)], [columns(**without)])
  assert there.passed and not missing.passed and missing.found == pytest.approx(found)


def test_what_the_other_row_has_does_not_matter():
  assert mechanism(Technique.CLIP_HIGHER, [columns(clip__high=0.0)], [columns()])[0].passed
  assert mechanism(Technique.TOKEN_MEAN, [columns()], [columns(length__cv=0.0)])[0].passed


def test_seeds_are_averaged_and_what_was_not_measured_fails():
  (check,) = mechanism(Technique.KL, [columns(kl__reference=0.0), columns(kl__reference=0.004)], [])
  assert check.found == pytest.approx(0.002) and check.passed
  assert not mechanism(Technique.KL, [{}], [{}])[0].passed


def test_dynamic_sampling_looks_for_one_third_with_little_to_learn():
  late = columns(sampling__informative_share=np.concatenate([THIRD, 0.9 * THIRD, 0.55 * THIRD]))
  assert mechanism(Technique.DYNAMIC_SAMPLING, [late], [])[0].found == pytest.approx(0.55)


def test_the_control_has_nothing_to_act_on():
  control = columns(length__cv=0.0, truncated__share=0.0, sampling__informative_share=0.95)
  assert all(check.passed for check in mechanism(Technique.NONE, [control], [control]))
  for change in (dict(length__cv=0.2), dict(truncated__share=0.05), dict(sampling__informative_share=0.8)):
    assert not all(check.passed for check in mechanism(Technique.NONE, [control], [control | columns(**change)]))
  assert mechanism(Technique.ALL, [], []) == []


def failing(updates=4, **changes):
  checks = ablation_checks.task([columns(**changes)], updates_per_step=updates)
  return [check.what for check in checks if not check.passed]


def test_the_task():
  assert failing() == []
  assert failing(truncated__share=np.concatenate([0.2 * THIRD, 0.2 * THIRD, 0.05 * THIRD])) == [
    "truncated share, last third"
  ]
  assert failing(truncated__share=0.35) == [f"truncated share, {name} third" for name in ("first", "second", "last")]
  assert failing(updates=2) == ["updates a rollout"]
  assert failing(entropy=1.0) == ["entropy at the end over entropy at the start"]
  assert failing(clip__high=0.001, length__cv=0.3, sampling__informative_share=0.9) == [
    "tokens over the upper bound",
    "coefficient of variation of lengths",
    "informative share, least third",
  ]
