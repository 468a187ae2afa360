"""Tests how epochs become steps, and the names of what chooses the best checkpoint."""

import pytest

from posttrain_jax.learner.optimizer import Schedule
from posttrain_jax.pipelines import offline
from posttrain_jax.pipelines.offline import OfflineSettings
from posttrain_jax.runs.sections import EvaluationTimes
from posttrain_jax.types import InputError
from tests.learner.settings import make_optimizer_config


def with_length(*, decay=0, every=5, **values):
  schedule = values.pop("schedule", Schedule.CONSTANT)
  settings = OfflineSettings(
    **{"epochs": 0, "steps": 0, "batch_size": 8, **values},
    micro_batches=1,
    max_skipped_updates=1,
    optimizer=make_optimizer_config(decay_updates=decay, schedule=schedule),
    eval=EvaluationTimes(every=every, best="heldout/x"),
    checkpoint=None,
    logging=None,
  )
  return offline.with_length(settings, num_rows=20)


def lengths(**values):
  config = with_length(**values)
  assert config.eval.every == 5
  return config.steps, config.optimizer.decay_updates


def test_epochs_become_steps_and_the_rate_decays_with_them():
  assert lengths(epochs=1) == (3, 3)  # the last batch has 4 rows of the next epoch
  assert lengths(epochs=2) == (5, 5)
  assert lengths(epochs=2, batch_size=20) == (2, 2)


def test_what_is_set_stays():
  assert lengths(epochs=2, steps=4) == (4, 5)  # ends early, decays as if it did not
  assert lengths(epochs=2, decay=7) == (5, 7)
  assert lengths(steps=6) == (6, 0) and lengths(steps=6, decay=4) == (6, 4)
  assert lengths() == (0, 0)


def test_an_evaluation_after_each_epoch():
  assert with_length(epochs=2, every=-1).eval.every == 3
  assert with_length(epochs=2, every=0).eval.every == 0


def test_evaluations_after_each_epoch_need_epochs():
  with pytest.raises(InputError, match=r"eval\.every: -1, which is every epoch; expected `epochs`"):
    with_length(steps=3, every=-1)


def test_a_decaying_rate_needs_an_end():
  assert with_length(epochs=2, schedule=Schedule.COSINE).optimizer.decay_updates == 5
  with pytest.raises(InputError, match=r"optimizer\.decay_updates: 0, expected more than warmup_updates 0"):
    with_length(steps=6, schedule=Schedule.COSINE)


def test_best_names_a_group_of_metrics_that_is_measured():
  def check(best, every=1, epochs=True):
    offline.check_best(EvaluationTimes(best=best, every=every), ["heldout", "validation"], epochs=epochs)

  check("heldout/avg@8")
  check("-validation/loss")
  check("other/loss", every=0)  # nothing is measured, and nothing has to be
  with pytest.raises(InputError, match=r"eval.best: '-other/loss', expected SET/METRIC with one of heldout, valid"):
    check("-other/loss")
  check("heldout/avg@8", every=-1)
  with pytest.raises(InputError, match=r"eval\.every: -1, expected at least 0"):
    check("heldout/avg@8", every=-1, epochs=False)
