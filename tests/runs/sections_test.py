"""Tests the bounds of the fields that all methods share."""

import pytest

from posttrain_jax.runs.sections import CheckpointSettings, EvaluationTimes, RolloutLogging
from posttrain_jax.runs.settings import parse
from posttrain_jax.types import InputError

LOGGING = dict(tensorboard=True, console={"loss": "loss"}, report=False, rollouts_every=2)


def test_they_are_read():
  assert parse(EvaluationTimes, dict(every=-1, best="a/b")).every == -1
  assert parse(CheckpointSettings, dict(every=5, keep=1, digest=True)).keep == 1
  assert parse(RolloutLogging, LOGGING).console == {"loss": "loss"}


@pytest.mark.parametrize(
  ("record", "values", "message"),
  [
    (EvaluationTimes, dict(every=-2, best="a/b"), "x.every: -2, expected at least -1"),
    (CheckpointSettings, dict(every=0, keep=1, digest=True), "x.every: 0, expected at least 1"),
    (CheckpointSettings, dict(every=1, keep=0, digest=True), "x.keep: 0, expected at least 1"),
    (RolloutLogging, LOGGING | dict(rollouts_every=0), "x.rollouts_every: 0, expected at least 1"),
    (RolloutLogging, LOGGING | dict(console={"loss": 3}), "x.console.loss: 3, expected str"),
  ],
)
def test_bounds(record, values, message):
  with pytest.raises(InputError) as error:
    parse(record, values, "x")
  assert str(error.value) == message
