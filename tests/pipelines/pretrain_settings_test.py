import pytest

from configs import pretrain
from posttrain_jax.learner.optimizer import Schedule
from posttrain_jax.pipelines.pretrain import checked
from posttrain_jax.types import InputError


def settings(**changes):
  config = pretrain.get_config()
  del config.chips
  config.corpus.path = "prepared"
  config.update(changes)
  return checked(config)


def test_the_second_phase_differs_in_its_own_fields_alone():
  first = settings(extension=dict(steps=40, warmup_updates=4, learning_rate=1e-4, row_length=2048, batch_size=2))
  second = first.extended()
  assert (second.steps, second.epochs, second.batch_size, second.corpus.row_length) == (40, 0, 2, 2048)
  optimizer = second.optimizer
  assert (optimizer.learning_rate, optimizer.warmup_updates, optimizer.decay_updates) == (1e-4, 4, 40)
  assert second.extension.steps == 0
  assert (second.seed, second.model, second.corpus.held_out) == (first.seed, first.model, first.corpus.held_out)
  constant = settings(optimizer=dict(schedule="constant")).extended().optimizer
  assert (constant.schedule, constant.decay_updates) == (Schedule.CONSTANT, 0)


def test_fitting_has_the_loop_and_no_dropout():
  fitting = settings().fitting()
  assert (fitting.steps, fitting.batch_size, fitting.eval.best) == (1200, 16, "-validation/loss")
  assert fitting.dropout.first == fitting.dropout.last == 0


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (dict(corpus=dict(path="")), r"corpus\.path: empty"),
    (dict(corpus=dict(held_out=0.0)), r"corpus\.held_out: 0\.0, expected a share"),
    (dict(extension=dict(row_length=256)), r"extension\.row_length: 256, expected more than corpus\.row_length = 256"),
    (dict(extension=dict(steps=5)), r"extension\.warmup_updates: 10, expected less than 5 steps"),
    (dict(eval=dict(best="heldout/avg@8")), r"eval\.best: 'heldout/avg@8', expected .* validation"),
    (dict(steps=0), "steps: 0, and epochs: 0"),
    (dict(steps=20), r"optimizer\.warmup_updates: 50"),
  ],
)
def test_settings_that_are_refused(changes, message):
  with pytest.raises(InputError, match=message):
    settings(**changes)


def test_without_a_second_phase_its_fields_mean_nothing():
  assert settings(extension=dict(steps=0, row_length=2, warmup_updates=9)).extension.steps == 0
