"""From epochs to steps, and names of what decides which checkpoint is best."""

import ml_collections
import pytest

from posttrain_jax.pipelines import offline
from posttrain_jax.types import InputError


def with_length(*, decay=0, every=5, **values):
  given = {"epochs": 0, "steps": 0, "batch_size": 8, **values}
  sections = {"optimizer": {"decay_updates": decay}, "eval": {"every": every}}
  config = ml_collections.ConfigDict({**given, **sections}).lock()
  offline.set_length(config, num_rows=20)
  return config


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


def test_best_names_a_group_of_metrics_that_is_measured():
  def check(best, every=1):
    offline.check_best(ml_collections.ConfigDict({"eval": {"best": best, "every": every}}), ["heldout", "validation"])

  check("heldout/avg@8")
  check("-validation/loss")
  check("other/loss", every=0)  # nothing is measured, and nothing has to be
  with pytest.raises(InputError, match=r"eval.best: '-other/loss', expected SET/METRIC with one of heldout, valid"):
    check("-other/loss")
