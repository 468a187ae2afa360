"""Tests the loop with groups that go on, judged by a reward model.

Neither SIGKILL nor a delay changes a bit of it.
"""

import json
import random
import shutil
import threading
import time

import numpy as np
import pytest

from configs import tiny_dapo, tiny_reward_model
from posttrain_jax.assembly import judges
from posttrain_jax.learner import checkpoint_folder
from posttrain_jax.pipelines import grpo, grpo_parts, method_assembly, reward_model
from posttrain_jax.rewards.model_reward import ModelReward
from posttrain_jax.rollouts.group_arrays import unpack
from posttrain_jax.rollouts.group_json import group_to_json
from tests.pipelines import killed_run
from tests.pipelines.small_offline import records, small
from tests.pipelines.small_run import OVERRIDES

# Slots for 6 of the 8 groups, and dispatches of few tokens: much is in flight when a step has its groups.
CARRY = OVERRIDES | {
  "steps": 4,
  "warmup.steps": 0,
  "rollout.groups": 8,
  "rollout.slots": 24,
  "rollout.steps_per_dispatch": 2,
  "dynamic_sampling.admission": "carry",
  "dynamic_sampling.verdict_delay": 2,
  "learner.updates_per_step": 1,
  "optimizer.learning_rate": 3e-4,
  "eval.every": 0,
  "checkpoint.every": 1,
}


@pytest.fixture(scope="module")
def changes(tmp_path_factory):
  """Returns changes of the config, with a reward model over all 8 devices, like the policy."""
  scorer = tmp_path_factory.mktemp("carry") / "scorer"
  reward_model.train(small(tiny_reward_model, steps=1, shift_to_demonstrations=False, **{"eval.every": 0}), str(scorer))
  return {**CARRY, "reward_model": str(scorer)}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, changes):
  workdir = tmp_path_factory.mktemp("carry") / "unbroken"
  with killed_run.copied(workdir, 4):
    grpo.train(small(tiny_dapo, **changes), str(workdir))
  return workdir


def line(workdir, step):
  """Returns what a checkpoint says about the groups that go on: dispatches until the verdict, and the group."""
  path = workdir / "checkpoints" / str(step)
  state = json.loads((path / "extra" / "metadata").read_text())["collector"]
  groups = unpack((path / "groups.safetensors").read_bytes())[state["carried"] :]
  return list(zip(state["line"], map(group_to_json, groups), strict=True))


def rollouts(workdir):
  return {path.name: path.read_text() for path in (workdir / "rollouts").iterdir()}


def test_the_run_is_worth_comparing(unbroken):
  found = records(unbroken)[1:]
  assert all(record["sampling/groups_trained"] == 8 for record in found)
  assert all(record["sampling/in_flight_groups"] > 0 < record["sampling/in_flight_tokens"] for record in found)
  assert all(record["sampling/recomputed_tokens"] > 0 for record in found[1:])
  assert max(record["sampling/staleness_max"] for record in found) == 1  # max_staleness, at one update a step
  assert all(np.isfinite(record["loss"]) for record in found)
  assert np.isfinite(found[-1]["sampling/pass_rate"])
  # The verifier gives 0 or 2, and the penalty only takes from that: these are the reward model's.
  assert len({record["params_sha256"] for record in found}) == 4
  group = json.loads(next(iter(rollouts(unbroken).values())).splitlines()[0])
  assert len({sample["reward"] for sample in group["samples"]} - {0, 2}) > 1


@killed_run.PROCESS
def test_a_killed_run_goes_on_bit_for_bit(unbroken, changes, tmp_path, process):
  workdir = tmp_path / "run"
  if process:
    killed_run.run_and_kill("dapo", changes, workdir, after=3)  # while the checkpoint of step 3 is written
  else:
    shutil.copytree(killed_run.killed_at(unbroken, 4), workdir)
  saved = line(workdir, max(checkpoint_folder.finished_steps(workdir / "checkpoints")))
  under_way = [answer for due, group in saved if due is None for answer in group["answers"]]
  assert any(answer["tokens"] for answer in under_way)
  assert any(due is not None for due, _ in saved)  # a verdict that is there, and is not asked for again
  grpo.train(small(tiny_dapo, **changes), str(workdir))
  assert records(workdir) == records(unbroken)
  assert rollouts(workdir) == rollouts(unbroken)
  assert line(workdir, 4) == line(unbroken, 4)


def test_random_delays_change_nothing(unbroken, changes, tmp_path, monkeypatch):
  threads = {"verifier": set(), "model": set()}

  def slow(judge, name):
    def judged(*groups):
      threads[name].add(threading.current_thread())
      time.sleep(random.random() * 0.03)
      return judge(*groups)

    return judged

  by_functions, score_groups = judges.judge_by_functions, ModelReward.score_groups
  for module in (grpo_parts, method_assembly):
    monkeypatch.setattr(
      module, "judge_by_functions", lambda *args, **options: slow(by_functions(*args, **options), "verifier")
    )
  monkeypatch.setattr(ModelReward, "score_groups", slow(score_groups, "model"))
  grpo.train(small(tiny_dapo, **changes), str(tmp_path / "run"))
  assert records(tmp_path / "run") == records(unbroken)
  assert rollouts(tmp_path / "run") == rollouts(unbroken)
  # Programs that span devices are started by one thread only.
  assert threads["model"] == {threading.current_thread()} != threads["verifier"]
