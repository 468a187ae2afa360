"""Tests the loop in this process: its files, its switches, and how it ends if something fails."""

import json

import ml_collections
import numpy as np
import pytest

from configs import tiny_dapo, tiny_reward_model, tiny_rl
from posttrain_jax.assembly.model import is_run, open_policy
from posttrain_jax.learner.update import Diverged
from posttrain_jax.pipelines import grpo, reward_model
from posttrain_jax.rollouts.collector import SamplingCapReached
from posttrain_jax.rollouts.group_arrays import unpack
from posttrain_jax.rollouts.group_json import group_to_json
from posttrain_jax.runs.journal import read_metrics
from tests.pipelines import small_offline
from tests.pipelines.compiles import compiles_by_step
from tests.pipelines.small_run import OVERRIDES

# Rates are constants in programs: runs with the same ones share them.
SAME = {name: value for name, value in small_offline.SMALL.items() if name.startswith("model.")}
SAME |= {"optimizer.learning_rate": 1e-2, "optimizer.warmup_updates": 0}


def small(base=None, **changes):
  config = base or tiny_dapo.get_config()
  overrides = {**OVERRIDES, "mesh.data": 8, "rollout.groups": 8, "learner.updates_per_step": 1, "eval.every": 0}
  overrides |= {"warmup.steps": 0, "rollout.slots": 32, "steps": 2}
  overrides |= SAME
  for name, value in {**overrides, **changes}.items():
    *groups, field = name.split(".")
    section = config
    for group in groups:
      section = section[group]
    section[field] = value
  return ml_collections.ConfigDict(config).lock()


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
  """Runs DAPO with much at once; returns its workdir, and by step the number of programs that it compiled.

  There are exact admission, overlong filtering, the paper's aggregation, a KL term, two kinds of updates in each step,
  two evaluation sets, and a checkpoint after each step.
  """
  workdir = tmp_path_factory.mktemp("dapo") / "run"
  config = small(
    **{
      "dynamic_sampling.admission": "exact",
      "overlong.filter": "loss",
      "objective.aggregation": "prompt_mean",
      "objective.kl_coefficient": 0.01,
      "optimizer.warmup_updates": 5,
      "rollout.groups": 16,
      "learner.updates_per_step": 2,
      "eval.every": 1,
      "checkpoint.every": 1,
      "steps": 4,
    }
  ).unlock()
  nucleus = config.eval.sets.heldout.copy_and_resolve_references()
  nucleus.samples, nucleus.greedy, nucleus.sampling.top_p = 4, False, 0.7
  config.eval.sets.nucleus = nucleus
  with pytest.MonkeyPatch.context() as patch:
    counts = compiles_by_step(patch)
    grpo.train(config.lock(), str(workdir))
  return workdir, counts


@pytest.fixture(scope="module")
def dapo(counted):
  return counted[0]


def test_the_third_step_compiles_nothing(counted):
  _, counts = counted
  assert counts[0] + counts[1] > 0
  assert counts[3] == counts[4] == 0, counts


def test_steps_are_not_updates(dapo):
  records = read_metrics(dapo)
  assert [record["updates"] for record in records] == [0, 2, 4, 6, 8]
  # The schedule counts updates: the rate warms up over 5 of them, and a step logs that of its first.
  rates = [record["learning_rate"] for record in records[1:]]
  assert rates == pytest.approx([1e-2 * rate for rate in (1 / 5, 3 / 5, 1, 1)])


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
  assert [record["step"] for record in records] == [0, 1, 2, 3, 4]
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
  assert len(trained) == 16 and all(group["accepted"] for group in trained)
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
  assert policy.model.num_layers == 1 and policy.tokenizer.eos_id is not None
  assert policy.params is not None


def test_grpo_is_the_same_loop_with_other_options(tmp_path):
  changes = {
    "dynamic_sampling.enabled": False,
    "overlong.penalty_buffer": 0,
    "objective.clip_high": 0.2,
    "objective.aggregation": "sequence_mean",
    "objective.kl_coefficient": 0.04,
    "rollout.sampling.temperature": 0.7,
  }
  grpo.train(small(**changes), str(tmp_path / "run"))
  _, first, second = read_metrics(tmp_path / "run")
  assert first["sampling/prompts_drawn"] == 8 == first["sampling/groups_trained"]
  assert "reward/overlong" not in first
  assert max(first["mismatch/max_abs_logprob"], second["mismatch/max_abs_logprob"]) < 1e-4  # at that temperature
  assert first["kl/reference"] == pytest.approx(0, abs=1e-6) and second["kl/reference"] > 0


METHODS = {
  # Estimators that need the learner's old logprobs, a reference's, or the answers' lengths, and a reference that moves.
  "reinforce_pp": {"reference.refresh_every": 2},
  "rloo": {"reference.refresh_every": 1},
}


# CISPO keeps nothing from step to step that DAPO does not keep.
@pytest.mark.parametrize("method", [*METHODS, pytest.param("cispo", marks=pytest.mark.slow)])
def test_a_method_is_one_config_and_resumes_bit_for_bit(tmp_path, method):
  config = tiny_rl.get_config(method)
  config.reference.update(kl_in_reward=0.1) if method == "rloo" else None
  changes = {"dynamic_sampling.enabled": False, "overlong.penalty_buffer": 0, **METHODS.get(method, {}), "steps": 4}

  def run(name, **more):
    grpo.train(small(base=config, **changes | more), str(tmp_path / name))
    return [
      {k: v for k, v in r.items() if not k.startswith(("time/", "memory/"))} for r in read_metrics(tmp_path / name)
    ]

  expected = run("whole")
  for steps in (1, 3):
    run("broken", steps=steps)
  found = run("broken")
  for record in found + expected:
    if record["step"] < 4:
      record.pop("params_sha256", None)  # a run that stops saves a checkpoint
  assert found == expected
  assert open_policy(str(tmp_path / "broken")).params is not None


def test_when_the_reference_moves(tmp_path, capsys):
  moved = {}
  for every in (0, 1, 2):
    changes = {"dynamic_sampling.enabled": False, "objective.kl_coefficient": 0.04, "reference.refresh_every": every}
    grpo.train(small(**changes, steps=3), str(tmp_path / str(every)))
    moved[every] = [record["kl/reference"] for record in read_metrics(tmp_path / str(every))[1:]]
  start = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("train: 3 steps; "))
  assert "prompts; answers end at 1 '<eos>'; compiling" in start
  # A step's only update starts where the reference is if it was refreshed before it.
  assert moved[1] == pytest.approx([0, 0, 0], abs=1e-6)
  assert moved[2][0] == pytest.approx(0, abs=1e-6) and moved[2][2] == pytest.approx(0, abs=1e-6)
  assert moved[2][1] == pytest.approx(moved[0][1], rel=1e-3) and moved[0][1] > 1e-4 < moved[0][2]


def test_a_teachers_logprobs(tmp_path):
  # Distilled from itself, there is nothing to learn.
  grpo.train(small(steps=0), str(tmp_path / "teacher"))
  changes = {"advantage": "distillation", "teacher.path": str(tmp_path / "teacher"), "dynamic_sampling.enabled": False}
  grpo.train(small(**changes, steps=1, **{"model.path": str(tmp_path / "teacher")}), str(tmp_path / "run"))
  assert read_metrics(tmp_path / "run")[1]["grad_norm"] == pytest.approx(0, abs=1e-5)


def test_the_rewards_of_greedy_answers(tmp_path):
  grpo.train(small(advantage="remax", steps=2, **{"dynamic_sampling.enabled": False}), str(tmp_path / "run"))
  path = tmp_path / "run" / "rollouts" / "step_000001.jsonl"
  for group in map(json.loads, path.read_text().splitlines()):
    baselines = {round(sample["reward"] - sample["advantage"], 5) for sample in group["samples"]}
    assert len(baselines) == 1  # the prompt's greedy answer


def test_a_reward_model_judges_and_the_verdict_stays_the_accuracy(tmp_path):
  scorer = small_offline.small(tiny_reward_model, steps=1, shift_to_demonstrations=False, **{"eval.every": 0})
  reward_model.train(scorer, str(tmp_path / "scorer"))
  changes = {"reward_model": str(tmp_path / "scorer"), "dynamic_sampling.enabled": False, "eval.every": 1, "steps": 1}
  changes |= {"eval.kl": True}
  grpo.train(small(**changes), str(tmp_path / "run"))
  zero, first = read_metrics(tmp_path / "run")
  groups = [json.loads(x) for x in (tmp_path / "run" / "rollouts" / "step_000001.jsonl").read_text().splitlines()]
  samples = [sample for group in groups for sample in group["samples"]]
  assert {sample["accuracy"] for sample in samples} == {0.0, 1.0}
  # Scores are real numbers; the length penalty is added to them.
  assert len({round(sample["reward"] - sample["components"]["overlong"], 4) for sample in samples}) > 4
  assert np.isfinite(zero["eval/heldout/reward"]) and 0 <= zero["eval/heldout/avg@8"] <= 1
  assert abs(zero["eval/heldout/kl_to_start"]) < 1e-3 < abs(first["eval/heldout/kl_to_start"])


def test_too_many_updates_that_are_not_finite_end_the_run_at_the_last_good_checkpoint(tmp_path):
  # The first update is finite and throws the parameters so far out that no later one is.
  changes = {
    "steps": 9,
    "dynamic_sampling.enabled": False,
    "optimizer.learning_rate": 1e30,
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
  # No answer is right: the model was never trained, and one token is too short for an answer.
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
  # That was the end: the same command again does nothing more, and what had been found is still there.
  before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
  grpo.train(small(**changes, steps=5), str(tmp_path / "run"))
  assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before
  assert kept(tmp_path / "run", 1) == []


def kept(workdir, step):
  """Returns the groups that a checkpoint keeps for the next step."""
  return unpack((workdir / "checkpoints" / str(step) / "groups.safetensors").read_bytes())


def test_stopping_at_the_cap_keeps_what_was_found(tmp_path):
  changes = {"dynamic_sampling.at_cap": "stop", "dynamic_sampling.max_prompts": 8, "steps": 5}
  grpo.train(small(**changes), str(tmp_path / "run"))
  *_, last = read_metrics(tmp_path / "run")
  found = kept(tmp_path / "run", last["step"])
  assert 0 < len(found) == last["sampling/carried"] < 8
  assert last["sampling/informative_share"] == len(found) / 8
  again = (tmp_path / "run" / "metrics.jsonl").read_bytes()
  grpo.train(small(**changes), str(tmp_path / "run"))
  assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == again
  assert list(map(group_to_json, kept(tmp_path / "run", last["step"]))) == list(map(group_to_json, found))


def test_training_on_the_groups_that_there_are(tmp_path):
  changes = {"dynamic_sampling.at_cap": "train_partial", "dynamic_sampling.max_prompts": 8, "checkpoint.every": 1}
  grpo.train(small(**changes), str(tmp_path / "run"))
  for record in read_metrics(tmp_path / "run")[1:]:
    path = tmp_path / "run" / "rollouts" / f"step_{record['step']:06d}.jsonl"
    groups = [json.loads(line) for line in path.read_text().splitlines()]
    trained = [group for group in groups if group["accepted"]]
    assert len(groups) == 8 and 0 < len(trained) == record["sampling/groups_trained"] < 8
    # Rows without a group add no token to the loss.
    assert record["sampling/tokens_trained"] == sum(sample["length"] for each in trained for sample in each["samples"])
    assert record["updates"] == record["step"] and np.isfinite(record["loss"])


def test_a_step_without_any_group_trains_nothing(tmp_path):
  changes = {"dynamic_sampling.at_cap": "train_partial", "dynamic_sampling.max_prompts": 8, "checkpoint.every": 1}
  changes |= {"rewards.functions.correct.function": "posttrain_jax.rewards.verifiers:exact_answer"}
  changes |= {"rollout.max_new_tokens": 1, "overlong.penalty_buffer": 0}
  grpo.train(small(**changes), str(tmp_path / "run"))
  _, first, second = read_metrics(tmp_path / "run")
  assert first["sampling/groups_trained"] == second["sampling/groups_trained"] == 0
  assert second["updates"] == second["sampling/tokens_trained"] == second["skipped_updates"] == 0
  assert first["params_sha256"] == second["params_sha256"]
  assert (tmp_path / "run" / "report.html").exists()
