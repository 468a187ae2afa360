"""The loop in this process, small: its files, its switches, and how it ends when things go wrong."""

import json

import ml_collections
import numpy as np
import pytest

from configs import tiny_dapo
from posttrain_jax.learner.update import Diverged
from posttrain_jax.pipelines import grpo
from posttrain_jax.pipelines.dynamic_sampling import SamplingCapReached
from posttrain_jax.pipelines.journal import read_metrics
from posttrain_jax.pipelines.policy import is_run, open_policy
from tests.pipelines.resume_test import OVERRIDES


def small(**changes):
  config = tiny_dapo.get_config()
  overrides = {**OVERRIDES, "mesh.data": 8, "rollout.groups": 8, "learner.updates_per_step": 1, "eval.every": 0}
  overrides |= {"warmup.steps": 0, "rollout.slots": 32, "steps": 2}
  for name, value in {**overrides, **changes}.items():
    *groups, field = name.split(".")
    section = config
    for group in groups:
      section = section[group]
    section[field] = value
  return ml_collections.ConfigDict(config).lock()


@pytest.fixture(scope="module")
def dapo(tmp_path_factory):
  """DAPO with exact admission, overlong filtering, the paper's aggregation, and two evaluation sets."""
  workdir = tmp_path_factory.mktemp("dapo") / "run"
  config = small(
    **{
      "dynamic_sampling.admission": "exact",
      "overlong.filter": "loss",
      "objective.aggregation": "prompt_mean",
      "eval.every": 2,
    }
  ).unlock()
  nucleus = config.eval.sets.heldout.copy_and_resolve_references()
  nucleus.samples, nucleus.greedy, nucleus.sampling.top_p = 4, False, 0.7
  config.eval.sets.nucleus = nucleus
  grpo.train(config.lock(), str(workdir))
  return workdir


def test_a_run_leaves_its_files(dapo):
  present = {path.name for path in dapo.iterdir()}
  assert present >= {
    "config.json",
    "metrics.jsonl",
    "checkpoints",
    "rollouts",
    "report.html",
    "model.json",
    "tokenizer",
  }
  records = read_metrics(dapo)
  assert [record["step"] for record in records] == [0, 1, 2]
  assert records[-1]["updates"] == 2
  assert "params_sha256" in records[-1]
  assert json.loads((dapo / "config.json").read_text())["dynamic_sampling"]["admission"] == "exact"
  assert "<html" in (dapo / "report.html").read_text()


def test_each_set_is_evaluated_with_its_own_settings(dapo):
  first = read_metrics(dapo)[0]
  assert first["eval/heldout/problems"] == first["eval/nucleus/problems"] == 24
  assert "eval/heldout/avg@8" in first and "eval/heldout/greedy" in first
  assert "eval/nucleus/avg@4" in first and "eval/nucleus/greedy" not in first


def test_step_metrics(dapo):
  record = read_metrics(dapo)[1]
  for name in (
    "loss", "clip/low", "clip/high", "kl/k1_sampler", "kl/k3_sampler", "entropy", "grad_norm", "length/mean",
    "truncated/share", "sampling/informative_share", "sampling/generated_per_trained", "mismatch/max_abs_logprob",
    "learning_rate", "reward/correct", "reward/overlong", "accuracy/mean", "time/rollout", "time/reward", "time/train",
    "time/handover", "time/total",
  ):  # fmt: skip
    assert np.isfinite(record[name]), name
  assert record["mismatch/max_abs_logprob"] < 1e-4
  assert record["sampling/staleness_max"] == 0


def test_rollout_records_say_what_became_of_each_group(dapo):
  groups = [json.loads(line) for line in (dapo / "rollouts" / "step_000001.jsonl").read_text().splitlines()]
  trained = [group for group in groups if group["verdict"] == "trained"]
  assert len(trained) == 8 and all(group["accepted"] for group in trained)
  assert {group["verdict"] for group in groups} <= {"trained", "all_right", "all_wrong", "invalid"}
  for group in trained:
    accuracies = [sample["accuracy"] for sample in group["samples"]]
    assert 0 < sum(accuracies) < len(accuracies) == 4
    advantages = [sample["advantage"] for sample in group["samples"]]
    assert sum(advantages) == pytest.approx(0, abs=1e-5)
    assert all("overlong" in sample["components"] for sample in group["samples"])


def test_a_workdir_is_a_model(dapo):
  assert is_run(dapo)
  policy = open_policy(str(dapo))
  assert policy.model.num_layers == 2 and policy.tokenizer.eos_id is not None
  assert policy.params is not None


def test_grpo_is_the_same_loop_with_other_options(tmp_path):
  changes = {
    "dynamic_sampling.enabled": False,
    "overlong.penalty_buffer": 0,
    "objective.clip_high": 0.2,
    "objective.aggregation": "sequence_mean",
    "objective.kl_coefficient": 0.04,
  }
  grpo.train(small(**changes), str(tmp_path / "run"))
  _, first, second = read_metrics(tmp_path / "run")
  assert first["sampling/prompts_drawn"] == 8 == first["sampling/groups_trained"]
  assert "reward/overlong" not in first
  assert first["kl/reference"] == pytest.approx(0, abs=1e-6) and second["kl/reference"] > 0


def test_too_many_updates_that_are_not_finite_end_the_run_at_the_last_good_checkpoint(tmp_path):
  # The first update is finite and throws the parameters so far out that no later one is.
  changes = {
    "steps": 9,
    "dynamic_sampling.enabled": False,
    "optimizer.learning_rate": 1e30,
    "optimizer.warmup_updates": 0,
    "learner.max_skipped_updates": 3,
    "checkpoint.every": 1,
  }
  with pytest.raises(Diverged, match="3 updates in a row were not finite"):
    grpo.train(small(**changes), str(tmp_path / "run"))
  records = read_metrics(tmp_path / "run")
  assert [record.get("skipped_updates", 0) for record in records] == [0, 0, 1, 1]
  assert records[-1]["updates"] == 1
  assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").glob("*.manifest.json"))[-1].startswith("3")


@pytest.mark.parametrize("at_cap", ["error", "stop"])
def test_the_cap_on_prompts(tmp_path, at_cap):
  # Nobody answers right: the model was never trained, and one token is too short for an answer.
  changes = {"dynamic_sampling.at_cap": at_cap, "dynamic_sampling.max_prompts": 8, "rollout.max_new_tokens": 1}
  changes |= {"overlong.penalty_buffer": 0}
  changes |= {"rewards.functions.correct.function": "posttrain_jax.rewards.verifiers:exact_answer"}
  if at_cap == "error":
    with pytest.raises(SamplingCapReached, match=r"dynamic_sampling\.max_prompts"):
      grpo.train(small(**changes), str(tmp_path / "run"))
    return
  grpo.train(small(**changes), str(tmp_path / "run"))
  records = read_metrics(tmp_path / "run")
  assert [record["step"] for record in records] == [0, 1]
  assert records[-1]["sampling/prompts_drawn"] == 8 and records[-1]["updates"] == 0
  assert (tmp_path / "run" / "checkpoints" / "1.manifest.json").exists()
