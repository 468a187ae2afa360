"""Tests how epochs become steps, and the names of what chooses the best checkpoint."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import pytest

from posttrain_jax.learner.optimizer import Schedule
from posttrain_jax.pipelines import offline
from posttrain_jax.pipelines.offline import OfflineSettings
from posttrain_jax.runs.journal import read_metrics, reproducible
from posttrain_jax.runs.preemption import Preempted, Preemption
from posttrain_jax.runs.sections import CheckpointSettings, EvaluationTimes, LoggingSettings
from posttrain_jax.types import InputError
from tests.learner.settings import make_optimizer_config


def with_length(*, decay=0, every=5, warmup=0, **values):
  schedule = values.pop("schedule", Schedule.CONSTANT)
  settings = OfflineSettings(
    **{"epochs": 0, "steps": 0, "batch_size": 8, **values},
    max_skipped_updates=1,
    optimizer=make_optimizer_config(decay_updates=decay, schedule=schedule, warmup_updates=warmup),
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
  assert with_length(steps=6, schedule=Schedule.COSINE).optimizer.decay_updates == 6
  assert with_length(steps=6, decay=4, schedule=Schedule.COSINE).optimizer.decay_updates == 4
  assert with_length(steps=6).optimizer.decay_updates == 0


def test_a_run_shorter_than_its_warm_up_of_the_rate_is_said_to_be_so():
  message = r"^optimizer\.warmup_updates: 9, expected less than the run's 5 updates for the cosine schedule; more rows"
  with pytest.raises(InputError, match=message):
    with_length(epochs=2, schedule=Schedule.COSINE, warmup=9)
  with pytest.raises(InputError, match=r"^optimizer\.decay_updates: 4, expected more than warmup_updates 9"):
    with_length(epochs=2, decay=4, schedule=Schedule.COSINE, warmup=9)


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


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
  params: jax.Array


class Stopped(Exception):
  pass


def fit(path, *, every=1, dies_in=None, stops_after=None):
  """Trains 3 steps of a learner that counts; dies within a step, or gets SIGTERM in it."""
  preemption = Preemption()
  state = State(jnp.zeros(()))
  learner = types.SimpleNamespace(
    state=state,
    shardings=State(jax.sharding.SingleDeviceSharding(jax.devices()[0])),
    skipped=types.SimpleNamespace(in_a_row=0),
    version=0,
  )

  def met(step):
    preemption.requested = step == stops_after
    if step == dies_in:
      raise Stopped

  def train(step):
    met(step)
    learner.state = State(learner.state.params + 1)
    return {"loss": float(learner.state.params)}

  def evaluate():
    if float(learner.state.params) == 0:
      met(0)
    return {"eval/heldout/x": 1.0}, []

  learner.train = train
  settings = types.SimpleNamespace(
    steps=3,
    eval=EvaluationTimes(every=every, best="heldout/x"),
    checkpoint=CheckpointSettings(every=100, keep=2, digest=False),
    logging=LoggingSettings(tensorboard=False, console={}),
  )
  offline.fit(
    settings,
    learner,
    lambda step: step + 1,
    path,
    title="test",
    evaluate=evaluate,
    preemption=preemption,
    evaluate_first=True,
    facts={"data/rows": 7},
  )


def rows(path):
  return [reproducible(record) for record in read_metrics(path)]


@pytest.mark.parametrize("every", [1, 0])
@pytest.mark.parametrize("stop", [{"dies_in": 0}, {"dies_in": 1}, {"stops_after": 0}, {"stops_after": 1}])
def test_counts_of_the_data_are_in_the_first_row_wherever_a_run_stopped(tmp_path, every, stop):
  for name in ("unbroken", "stopped"):
    (tmp_path / name).mkdir()
  fit(tmp_path / "unbroken", every=every)
  if every or 0 not in stop.values():  # without evaluations there is no step 0 to stop in
    with pytest.raises((Stopped, Preempted)):
      fit(tmp_path / "stopped", every=every, **stop)
  fit(tmp_path / "stopped", every=every)
  found = rows(tmp_path / "stopped")
  assert found == rows(tmp_path / "unbroken")
  assert ["data/rows" in row for row in found] == [True] + [False] * (len(found) - 1)
