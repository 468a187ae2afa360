"""Tests a small PPO run: what moves when, that SIGKILL changes no bit of it, and what is refused."""

import json
import shutil

import jax
import numpy as np
import pytest

from configs import tiny_ppo, tiny_reward_model
from posttrain_jax.assembly import readers
from posttrain_jax.assembly.model import Which, load_model
from posttrain_jax.pipelines import ppo, ppo_parts, reward_model
from posttrain_jax.recipes import average, runners
from posttrain_jax.recipes.recipe import Stage
from posttrain_jax.runs.workdir import read_json
from posttrain_jax.types import InputError
from tests.pipelines import killed_run
from tests.pipelines.small_offline import records, refused, small
from tests.recipes.killed_recipe import broken_off, die, stop
from tests.recipes.made_recipe import run as run_recipe

SMALL = {
  "steps": 5,
  "prompts.per_difficulty": 10,
  "rollout.groups": 16,
  "rollout.group_size": 2,
  "rollout.slots": 32,
  "rollout.max_new_tokens": 8,
  "rewards.functions.correct.function": "tests.pipelines.coin_reward:coin",
  "learner.epochs": 2,
  "learner.minibatches": 2,
  "value.pretraining_steps": 1,
  "value.optimizer.learning_rate": 3e-3,
  "eval.every": 0,
  "checkpoint.every": 2,
  "logging.rollouts_every": 1,
}


# Everything at once.
ALL = {
  "kl.coefficient": 0.1,
  "kl.adaptive": True,
  "kl.target": 0.01,
  "kl.horizon": 100,
  "gae.lam_critic": 1.0,
  "gae.length_adaptive": 0.3,
  "whiten.rewards": True,
  "no_end.penalised": True,
  "objective.surrogate": "soft_gated_surrogate",
  "objective.surrogate_options": {"tau_pos": 1.0, "tau_neg": 1.05},
  "objective.kl_coefficient": 0.1,
  "objective.nll_on_correct": 0.1,
  "ptx.coefficient": 1.0,
  "ptx.rows": 8,
  "ptx.demonstrations.per_difficulty": 5,
  "average.decay": 0.5,
  "rollout.sampling.temperature": 0.7,
  "checkpoint.every": 1,
}
# The first goes on between the steps for the value model and those for the policy.
KILLED = (2, 4)


def run(workdir, **changes):
  ppo.train(small(tiny_ppo, **{**SMALL, **changes}), str(workdir))
  return records(workdir)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """Returns the workdir of an unbroken run with every option."""
  workdir = tmp_path_factory.mktemp("ppo") / "run"
  with killed_run.copied(workdir, *KILLED):
    run(workdir, **ALL)
  return workdir


@pytest.mark.parametrize("step", KILLED)
def test_a_killed_run_goes_on_bit_for_bit(whole, step):
  assert_goes_on(killed_run.killed_at(whole, step), whole, step)


@pytest.mark.slow  # compiles all programs again
def test_a_run_whose_process_dies_goes_on_bit_for_bit(whole, tmp_path):
  killed_run.run_and_kill("ppo", {**SMALL, **ALL}, tmp_path / "run", after=4)  # while its checkpoint is written
  assert_goes_on(tmp_path / "run", whole, 4)


def assert_goes_on(workdir, whole, step):
  assert [record["step"] for record in records(workdir)] == list(range(step + 1))
  found = run(workdir, **ALL)
  assert found == records(whole)
  assert len({found[step]["params_sha256"] for step in (2, 4, 5)}) == 3
  assert {path.name: path.read_text() for path in (workdir / "rollouts").iterdir()} == {
    path.name: path.read_text() for path in (whole / "rollouts").iterdir()
  }


def test_what_a_step_measures(whole):
  zero, pretraining, first, second, *_, last = records(whole)
  assert zero["updates"] == pretraining["updates"] == 0 and first["updates"] == 4 and last["updates"] == 16
  # The value model's head is zero at first, the policy is its own reference, and β waits for the policy to move.
  assert pretraining["value/mean"] == pretraining["value/explained_variance"] == 0
  assert pretraining["kl/reference"] == pytest.approx(0, abs=1e-6)
  assert pretraining["kl/coefficient"] == first["kl/coefficient"] == 0.1
  assert "loss" not in pretraining and "ptx/loss" not in pretraining
  assert second["kl/answer"] > 0.01 and last["kl/coefficient"] > second["kl/coefficient"]
  assert first["value/mean"] != 0
  # Policy and reference have the temperature that answers were drawn at, policy and value model a rate of their own.
  assert max(first["mismatch/max_abs_logprob"], second["mismatch/max_abs_logprob"]) < 1e-4
  assert (second["learning_rate"], second["value/learning_rate"]) == pytest.approx((1e-2, 3e-3))
  assert second["ratio/max"] > 1 and 0 <= second["no_end/share"] <= 1
  for name in (
    "value/unscaled_loss", "value/clipped", "value/grad_norm", "clip/low", "clip/high", "returns/mean", "returns/std",
    "ptx/loss", "nll/correct", "entropy", "value/learning_rate", "sampling/tokens_trained", "truncated/share",
  ):  # fmt: skip
    assert np.isfinite(second[name]), name
  # Nothing is chosen, so nothing is said of the choice.
  assert {name for name in second if name.startswith("sampling/")} == {
    f"sampling/{name}"
    for name in (
      "prompts_drawn", "groups_trained", "tokens_generated", "tokens_trained", "generated_per_trained",
      "prefill_tokens", "recomputed_tokens", "decode_steps", "dispatches", "idle_share", "staleness_mean",
      "staleness_max", "trained_nothing", "preemptions",
    )
  }  # fmt: skip
  record = json.loads((whole / "rollouts" / "step_000001.jsonl").read_text().splitlines()[0])
  assert record["verdict"] == "trained" and len(record["samples"]) == 2


def test_as_a_stage_of_a_recipe_it_goes_on_to_the_same_bits(whole, tmp_path):
  ppo_stage = Stage("ppo", run=runners.PPO, config=small(tiny_ppo, **{**SMALL, **ALL}))
  inputs = {"models.one.path": ppo_stage.model}
  rlhf = Stage("rlhf", run=runners.AVERAGE, config=average.models("one", checkpoint="average"), inputs=inputs)
  breaks = [(die, "within", "ppo", 2), (stop, "within", "ppo", 4)]
  broken_off(lambda: run_recipe([ppo_stage, rlhf], tmp_path), *breaks)
  assert records(tmp_path / "ppo") == records(whole)
  assert {path.name: path.read_text() for path in (tmp_path / "ppo" / "rollouts").iterdir()} == {
    path.name: path.read_text() for path in (whole / "rollouts").iterdir()
  }
  (_, kept), (_, expected) = load_model(str(tmp_path / "rlhf")), load_model(str(whole), Which.AVERAGE)
  assert all(np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (kept, expected))))


def test_a_workdir_is_its_policy_and_its_average(whole):
  (_, latest), (_, average) = load_model(str(whole)), load_model(str(whole), Which.AVERAGE)
  distances = [np.abs(np.asarray(a) - np.asarray(b)).max() for a, b in zip(*map(jax.tree.leaves, (latest, average)))]
  assert 0 < max(distances) < 0.1


def test_without_options_a_step_is_plain_ppo_whatever_each_models_layout(tmp_path):
  changes = {"kl.coefficient": 0.0, "value.pretraining_steps": 0, "learner.epochs": 1, "learner.minibatches": 1}
  for name, sizes in {"reference": (4, 2), "value": (2, 4)}.items():
    changes |= {f"meshes.{name}.{axis}": size for axis, size in zip(("data", "fsdp"), sizes)}
  _, first = run(tmp_path / "run", **changes, steps=1)
  # One update on what the policy has just drawn: nothing is clipped.
  assert first["updates"] == 1 and first["ratio/max"] == 1 and first["clip/low"] == first["clip/high"] == 0
  assert first["mismatch/max_abs_logprob"] < 1e-4
  assert first["kl/reference"] == pytest.approx(0, abs=1e-5)  # the same numbers from another layout
  assert first["value/unscaled_loss"] > 0
  assert "ptx/loss" not in first and "nll/correct" not in first


def test_answers_without_a_verdict_are_not_trained_on(tmp_path, capsys):
  changes = {"rewards.functions.correct.function": "tests.pipelines.coin_reward:silent", "steps": 2}
  _, first, second = run(tmp_path / "run", **changes)
  assert first["reward/invalid"] == 32 and first["sampling/tokens_trained"] == 0
  assert second["updates"] == 0 and "loss" not in second and second["value/skipped_updates"] == 0
  assert "answers end at 1 '<eos>'" in capsys.readouterr().err


def test_judged_by_a_reward_model_that_the_values_start_from(tmp_path, monkeypatch):
  scorer = tmp_path / "scorer"
  reward_model.train(small(tiny_reward_model, steps=1, shift_to_demonstrations=False, **{"eval.every": 0}), str(scorer))
  changes = {
    "rewards.functions.correct.function": "posttrain_jax.rewards.verifiers:exact_answer",
    "reward_model": str(scorer),
    "value.zero_head": False,
    "meshes.reward.data": 4,
    "meshes.reward.fsdp": 2,
    "steps": 1,
  }
  layouts, place = [], ppo_parts.place_reward_model

  def noted(*args, mesh):
    layouts.append(dict(mesh.shape))
    return place(*args, mesh=mesh)

  def counted(path):
    loaded.append(path)
    return load_model(path)

  loaded = []
  monkeypatch.setattr(ppo_parts, "place_reward_model", noted)
  monkeypatch.setattr(readers, "load_model", counted)
  _, first = run(tmp_path / "run", **changes)
  assert loaded == [str(scorer)]  # once, for rewards and values
  digests = read_json(tmp_path / "run")["digests"]
  assert "reward_model" in digests and "value.path" not in digests
  assert [(each["data"], each["fsdp"]) for each in layouts] == [(4, 2)]
  assert first["accuracy/mean"] == 0 != first["reward/mean"]  # the verifier's verdict stays
  assert first["value/mean"] != 0  # the reward model's head


@pytest.mark.parametrize(
  ("changes", "expected"),
  [
    ({"learner.minibatches": 3}, "learner.minibatches: 3 does not divide rollout.groups = 16"),
    ({"learner.epochs": 0}, "learner.epochs: 0, expected at least 1"),
    ({"learner.tokens_per_micro_batch": 2}, "learner.tokens_per_micro_batch: 2, expected 0"),
    ({"kl.coefficient": -0.1}, "kl.coefficient"),
    ({"gae.lam_critic": 1.5}, "gae.lam_critic: 1.5, expected 0 to 1"),
    ({"average.decay": 1.0}, "average.decay: 1.0"),
    ({"ptx.coefficient": -1.0}, "ptx.coefficient"),
    ({"ptx.coefficient": 1.0, "ptx.rows": 12}, "ptx.rows: 12 do not divide"),
    ({"ptx.coefficient": 1.0, "ptx.field": "text", "ptx.rows": 8}, "ptx.demonstrations.path: empty"),
    ({"value.objective.coefficient": 0.0}, "value.objective"),
    ({"value.path": "no/such/model"}, "no/such/model"),
    ({"reward_model": "no/such/model"}, "no/such/model"),
    ({"meshes.value.data": 3}, "meshes.value: mesh: data=3"),
    ({"rollout.sampling.top_k": 5}, "rollout.sampling"),
    ({"rollout.sampling.temperature": 0.0}, "temperature"),
    ({"eval.every": 1, "eval.best": "heldout_average/avg@2"}, "eval.best"),
  ],
)
def test_refusals(changes, expected, tmp_path):
  assert expected in refused(ppo.train, small(tiny_ppo, sampled=True, **{**SMALL, **changes}), tmp_path / "run")


def test_a_value_model_with_other_tokens_is_refused(whole, tmp_path):
  shutil.copytree(whole, tmp_path / "other")
  tokenizer = tmp_path / "other" / "tokenizer" / "tokenizer.json"
  tokenizer.write_text(tokenizer.read_text().replace('"7"', '"seven"'))
  with pytest.raises(InputError, match=r"value\.path: .* has another tokeniser than the policy"):
    ppo.train(small(tiny_ppo, **{**SMALL, "value.path": str(tmp_path / "other")}), str(tmp_path / "run"))
