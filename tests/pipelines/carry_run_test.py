"""The loop with groups that go on from step to step: stopped and gone on with, it is the unbroken run bit for bit."""

import json

import ml_collections
import numpy as np
import pytest

from configs import tiny_dapo
from posttrain_jax.pipelines import grpo
from posttrain_jax.pipelines.journal import read_metrics, reproducible
from tests.pipelines.small_run import OVERRIDES


def run(workdir, steps):
  config = tiny_dapo.get_config()
  config.update_from_flattened_dict(OVERRIDES)
  changes = {"warmup.steps": 0, "mesh.data": 8, "rollout.groups": 8, "eval.every": 0, "learner.updates_per_step": 1}
  changes |= {"dynamic_sampling.admission": "carry", "dynamic_sampling.verdict_delay": 2, "checkpoint.every": 1}
  # Slots for 6 of the 8 groups, and dispatches of few tokens: much is in flight when a step has its groups.
  changes |= {"rollout.slots": 24, "rollout.steps_per_dispatch": 2, "logging.report": False, "steps": steps}
  config.update_from_flattened_dict(changes)
  grpo.train(ml_collections.ConfigDict(config).lock(), str(workdir))


def line(workdir, step):
  """What a checkpoint says about the groups that go on."""
  return json.loads((workdir / "checkpoints" / str(step) / "extra" / "metadata").read_text())["collector"]["line"]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("carry") / "unbroken"
  run(workdir, 4)
  return workdir


def test_the_run_is_worth_comparing(unbroken):
  records = read_metrics(unbroken)[1:]
  assert all(record["sampling/groups_trained"] == 8 for record in records)
  assert all(record["sampling/in_flight_groups"] > 0 < record["sampling/in_flight_tokens"] for record in records)
  assert all(record["sampling/recomputed_tokens"] > 0 for record in records[1:])
  assert max(record["sampling/staleness_max"] for record in records) == 1  # max_staleness, at one update a step
  assert all(np.isfinite(record["loss"]) for record in records)
  assert np.isfinite(records[-1]["sampling/pass_rate"])


def test_gone_on_with_it_is_the_same_run(unbroken, tmp_path):
  workdir = tmp_path / "run"
  run(workdir, 2)
  saved = line(workdir, 2)
  under_way = [answer for each in saved if each["due"] is None for answer in each["group"]["answers"]]
  assert any(answer["tokens"] for answer in under_way)
  assert any(each["due"] is not None for each in saved)  # a verdict that is there, and is not asked for again
  run(workdir, 4)
  assert [reproducible(record) for record in read_metrics(workdir)] == [
    reproducible(record) for record in read_metrics(unbroken)
  ]
  for path in (unbroken / "rollouts").iterdir():
    assert (workdir / "rollouts" / path.name).read_text() == path.read_text()
  assert line(workdir, 4) == line(unbroken, 4)
