"""Tests which steps are evaluated, which checkpoint is the best, and what a later start finds."""

import contextlib
import pathlib

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from posttrain_jax.learner import checkpoint, manifest
from posttrain_jax.runs.disk_failure import DiskFailure
from posttrain_jax.runs.journal import Journal, read_metrics
from posttrain_jax.runs.keeper import Keeper
from posttrain_jax.runs.preemption import Preempted, Preemption
from posttrain_jax.types import InputError


def settings(best="set/score", steps=6, every=2, saved_every=100):
  return ml_collections.ConfigDict(
    dict(
      steps=steps,
      eval=dict(every=every, best=best),
      checkpoint=dict(every=saved_every, keep=2, digest=False),
      logging=dict(tensorboard=False, console={}),
    )
  )


@contextlib.contextmanager
def kept(path: pathlib.Path, config, requested=False):
  with contextlib.ExitStack() as stack:
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    abstract = {"x": jax.ShapeDtypeStruct((), jnp.float32, sharding=one)}
    preemption = Preemption()
    preemption.requested = requested
    yield Keeper(stack, path, config, abstract, title="test", preemption=preemption)


def end(keeper, step, **metrics):
  named = {name.replace("__", "/"): value for name, value in metrics.items()}
  return keeper.end(step, named, {"x": jnp.float32(step)}, None, lambda: {"mine": step})


def best_of(path, best, scores):
  with kept(path, settings(best)) as keeper:
    assert keeper.restored is None and keeper.step == 0
    lasts = [end(keeper, step, eval__set__score=score) for step, score in enumerate(scores, 1)]
    keeper.finish()
  assert lasts == [step == 6 for step in range(1, len(scores) + 1)]
  return checkpoint.best_step(path / "checkpoints")


def test_the_highest_is_kept_or_with_a_minus_the_lowest(tmp_path):
  scores = [0.3, 0.7, 0.2, 0.7, 0.1, 0.5]
  assert best_of(tmp_path / "high", "set/score", scores) == 2  # the first of equals
  assert best_of(tmp_path / "low", "-set/score", scores) == 5


def test_scores_of_numpy_are_numbers_too(tmp_path):
  assert best_of(tmp_path / "run", "-set/score", np.array([0.3, 0.7, 0.2, 0.7, 0.1, 0.5])) == 5


@pytest.mark.parametrize("best", ["set/score", "-set/score"])
def test_no_number_is_never_the_best(tmp_path, best):
  assert best_of(tmp_path / "run", best, [np.nan, 0.5, np.nan, np.nan, np.nan, np.nan]) == 2


def test_evaluations_are_due_regularly_and_at_the_end(tmp_path):
  with kept(tmp_path / "run", settings(every=4)) as keeper:
    assert [step for step in range(7) if keeper.evaluates(step)] == [0, 4, 6]
    assert keeper.evaluates(5, last=True)
  with kept(tmp_path / "none", settings(every=0)) as keeper:
    assert not any(keeper.evaluates(step, last=True) for step in range(7))


def test_a_later_start_finds_the_last_save_and_what_was_best(tmp_path):
  path = tmp_path / "run"
  with kept(path, settings("-set/score", saved_every=3)) as keeper:
    end(keeper, 1, eval__set__score=0.5)
    end(keeper, 2)
    end(keeper, 3)
    end(keeper, 4)  # lost: no checkpoint has it
  with kept(path, settings("-set/score", saved_every=3)) as keeper:
    assert keeper.step == 3 and keeper.restored.extra["mine"] == 3 and float(keeper.restored.state["x"]) == 3
    end(keeper, 4, eval__set__score=0.6)  # no improvement on 0.5
    end(keeper, 5, eval__set__score=0.4)
    assert end(keeper, 6, eval__set__score=0.9)
    keeper.finish()
  assert [record["step"] for record in read_metrics(path)] == [1, 2, 3, 4, 5, 6]
  assert checkpoint.best_step(path / "checkpoints") == 5


def test_a_preempted_run_saves_and_says_so(tmp_path):
  with kept(tmp_path / "run", settings(), requested=True) as keeper:
    assert end(keeper, 1)
    with pytest.raises(Preempted, match="stopped after step 1"):
      keeper.finish()
  with kept(tmp_path / "run", settings()) as keeper:
    assert keeper.step == 1


def test_a_metric_that_does_not_exist_ends_the_run_with_its_step_saved(tmp_path):
  path = tmp_path / "run"
  with (
    pytest.raises(InputError, match=r"run: eval.best is 'set/scor', which .* closest is 'set/score'; step 2 is saved"),
    kept(path, settings("set/scor")) as keeper,
  ):
    end(keeper, 1)
    end(keeper, 2, eval__set__score=0.5, eval__set__per_problem=[1, 2])
  with kept(path, settings("-set/score")) as keeper:
    assert keeper.step == 2
    end(keeper, 4, eval__set__score=0.5)
    keeper.finish()
  assert checkpoint.best_step(path / "checkpoints") == 4


def test_an_evaluation_may_lack_what_an_earlier_one_measured(tmp_path):
  with kept(tmp_path, settings()) as keeper:
    end(keeper, 2, eval__set__score=0.5)
    end(keeper, 4, eval__other__loss=0.1)
    keeper.finish()
  assert checkpoint.best_step(tmp_path / "checkpoints") == 2


def test_another_best_on_resuming_starts_anew(tmp_path, capsys):
  path = tmp_path / "run"
  with kept(path, settings("set/loss")) as keeper:
    end(keeper, 2, eval__set__loss=1.0, eval__set__score=0.1)
  for best, expected in (("set/score", 3), ("-set/loss", 5)):
    with kept(path, settings(best, saved_every=1)) as keeper:
      end(keeper, expected, eval__set__loss=1.0, eval__set__score=0.1)
      end(keeper, expected + 1, eval__set__loss=1.0, eval__set__score=0.1)
    assert checkpoint.best_step(path / "checkpoints") == expected
  assert "eval.best was set/loss and is set/score: the best is found anew" in capsys.readouterr().err


def test_fewer_steps_than_are_done_is_said(tmp_path, capsys):
  with kept(tmp_path / "run", settings()) as keeper:
    end(keeper, 6)
  with kept(tmp_path / "run", settings(steps=4)) as keeper:
    keeper.finish()
  said = capsys.readouterr().err
  assert "is at step 6 already and steps is 4: nothing is trained" in said and "6/4" not in said


def full(*_):
  raise OSError(28, "No space left on device", "/run/file")


def test_a_save_that_fails_ends_the_run_at_the_next_step(tmp_path, monkeypatch):
  path = tmp_path / "run"
  with pytest.raises(DiskFailure) as raised, kept(path, settings(saved_every=2)) as keeper:
    end(keeper, 2)
    keeper._checkpoints.wait()
    monkeypatch.setattr(manifest, "seal", lambda *_, **__: full())
    end(keeper, 4)
    keeper._checkpoints._sealing.join()
    end(keeper, 5)
    pytest.fail("step 5 ended although nothing of step 4 was saved")
  assert str(raised.value).startswith("/run/file: No space left on device; the last good checkpoint is ")
  assert f"{path / 'checkpoints' / '2'}:" in str(raised.value)


@pytest.mark.parametrize("writes", ["write", "offsets", "close"])
def test_a_full_disk_under_the_journal_names_the_last_checkpoint(tmp_path, monkeypatch, writes):
  monkeypatch.setattr(Journal, writes, full)
  good = "the last good checkpoint is .*6" if writes == "close" else "there is no checkpoint yet"
  with (
    pytest.raises(DiskFailure, match=f"No space left on device; {good}"),
    kept(tmp_path / "run", settings()) as keeper,
  ):
    end(keeper, 6)


def test_other_errors_stay_what_they_are(tmp_path):
  with pytest.raises(ZeroDivisionError), kept(tmp_path / "run", settings()):
    1 / 0  # noqa: B018
