"""Tests a warm-up before its training: what it reads, and that there may be none."""

import dataclasses
import json

import jax
import pytest

from configs import tiny_dapo
from posttrain_jax.assembly.model import ModelSettings, load_policy
from posttrain_jax.learner.digest import params_sha256
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.pipelines.warm_up import WarmUp
from posttrain_jax.runs.journal import read_metrics, reproducible
from posttrain_jax.runs.preemption import Preemption
from posttrain_jax.runs.settings import parse
from tests.pipelines.tiny_warm_up import new_policy, settings


@pytest.fixture(scope="module")
def policy():
  return new_policy()


@pytest.fixture(scope="module")
def mesh():
  return make_mesh({}, jax.devices()[:1])


@pytest.mark.parametrize("given", [None, settings(steps=0)])
def test_no_steps_are_no_warm_up(given, policy, mesh, tmp_path):
  warm_up = WarmUp(given, policy, mesh, seed=0)
  assert not warm_up.is_wanted and warm_up.digests == {}
  assert warm_up(tmp_path, None, Preemption()) is policy
  assert not list(tmp_path.iterdir())


def test_its_data_are_named_by_their_field(policy, mesh):
  warm_up = WarmUp(settings(), policy, mesh, seed=0)
  assert warm_up.is_wanted and list(warm_up.digests) == ["warmup.demonstrations"]


def small():
  sizes = {"num_layers": 1, "embed_dim": 16, "mlp_dim": 32, "num_heads": 2, "num_kv_heads": 1, "head_dim": 8}
  return load_policy(parse(ModelSettings, {**tiny_dapo.get_config().model, **sizes, "unroll": 1}, "model"))


def short(**changes):
  changes = {"eval.every": 0, "logging.tensorboard": False, "checkpoint.every": 2, **changes}
  return settings(steps=3, batch_size=4, **changes)


def test_a_model_that_is_given_is_warmed_up_only_if_the_config_says_so(mesh, tmp_path, caplog):
  given = dataclasses.replace(small(), params={})
  warm_up = WarmUp(short(), given, mesh, seed=0)
  assert not warm_up.is_wanted and warm_up(tmp_path, None, Preemption()) is given
  assert "warmup: left out, since model.path names a model; warmup.given_model=True" in caplog.text
  assert WarmUp(short(given_model=True), given, mesh, seed=0).is_wanted


def test_a_warm_up_is_made_once_and_taken_with_the_same_bits(mesh, tmp_path, monkeypatch, capsys):
  monkeypatch.setenv("POSTTRAIN_JAX_WARMUPS", str(tmp_path / "cache"))

  def made(name, seed=0, **changes):
    (tmp_path / name).mkdir()
    warm_up = WarmUp(short(**changes), small(), mesh, seed=seed)
    params = warm_up(tmp_path / name, None, Preemption(), inputs={"model": "small"}).params
    rows = [reproducible(row) for row in read_metrics(tmp_path / name / "warmup")]
    return params_sha256(params), rows, json.loads((tmp_path / name / "warmup" / "source.json").read_text())

  first, rows, source = made("a")
  said = capsys.readouterr().err
  assert "taken_from" not in source and "taken from" not in said
  assert "answers end at 1 '<eos>'" in said
  second, same, source = made("b")
  assert (second, same) == (first, rows) and len(rows) == 3
  assert source["taken_from"].startswith(str(tmp_path / "cache")) and source["made_in"] == str(
    tmp_path / "a" / "warmup"
  )
  assert "warm-up: taken from" in capsys.readouterr().err
  assert made("c", seed=1)[0] != first
  monkeypatch.setenv("POSTTRAIN_JAX_WARMUPS", "")
  third, _, source = made("d")
  assert third == first and "taken_from" not in source
