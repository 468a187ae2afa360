"""PPO in this process, small: what moves when, that a break changes no bit, and what is refused."""

import json
import shutil
import types

import jax
import numpy as np
import pytest

from configs import tiny_ppo, tiny_reward_model
from posttrain_jax.pipelines import ppo, reward_model
from posttrain_jax.pipelines.policy import Which, load_model
from posttrain_jax.pipelines.ppo_parts import Parts
from posttrain_jax.types import InputError
from tests.pipelines.small_offline import records, refused, small

SMALL = {
  "steps": 4,
  "prompts.per_difficulty": 10,
  "rollout.groups": 16,
  "rollout.group_size": 2,
  "rollout.slots": 32,
  "rollout.max_new_tokens": 8,
  "rewards.functions.correct.function": "tests.pipelines.coin_reward:coin",
  "learner.epochs": 2,
  "learner.minibatches": 2,
  "value.pretraining_steps": 1,
  "value.optimizer.learning_rate": 1e-2,
  "eval.every": 0,
  "checkpoint.every": 3,
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
  "objective.nll_on_correct": 0.1,
  "ptx.coefficient": 1.0,
  "ptx.rows": 8,
  "ptx.demonstrations.per_difficulty": 5,
  "average.decay": 0.5,
}


def run(workdir, **changes):
  ppo.train(small(tiny_ppo, **{**SMALL, **changes}), str(workdir))
  return records(workdir)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """The workdir of an unbroken run with every option."""
  workdir = tmp_path_factory.mktemp("ppo") / "run"
  run(workdir, **ALL)
  return workdir


def test_a_resumed_run_is_the_unbroken_one_bit_for_bit(whole, tmp_path):
  # It stops between the steps for the value model and those for the policy, and at a regular checkpoint.
  for steps in (1, 3, 4):
    found = run(tmp_path / "run", **ALL, steps=steps)
  expected = records(whole)
  for record in found + expected:
    if record["step"] == 1:
      record.pop("params_sha256", None)  # only the run that stopped there saved a checkpoint
  assert found == expected
  assert found[-1]["params_sha256"] != found[3]["params_sha256"]
  assert {path.name: path.read_text() for path in (tmp_path / "run" / "rollouts").iterdir()} == {
    path.name: path.read_text() for path in (whole / "rollouts").iterdir()
  }


def test_what_a_step_measures(whole):
  zero, pretraining, first, second, last = records(whole)
  assert zero["updates"] == pretraining["updates"] == 0 and first["updates"] == 4 and last["updates"] == 12
  # The value model's head is zero at first, the policy is its own reference, and β waits for the policy to move.
  assert pretraining["value/mean"] == pretraining["value/explained_variance"] == 0
  assert pretraining["kl/reference"] == pytest.approx(0, abs=1e-6)
  assert pretraining["kl/coefficient"] == first["kl/coefficient"] == 0.1
  assert "loss" not in pretraining and "ptx/loss" not in pretraining
  assert second["kl/answer"] > 0.01 and last["kl/coefficient"] > second["kl/coefficient"]
  assert first["value/mean"] != 0
  assert second["ratio/max"] > 1 and 0 <= second["no_end/share"] <= 1
  for name in (
    "value/unscaled_loss", "value/clipped", "value/grad_norm", "clip/low", "clip/high", "returns/mean", "returns/std",
    "ptx/loss", "nll/correct", "entropy", "value/learning_rate", "sampling/tokens_trained", "truncated/share",
  ):  # fmt: skip
    assert np.isfinite(second[name]), name
  assert not any(name.startswith("sampling/dropped") for name in second)
  group = json.loads((whole / "rollouts" / "step_000001.jsonl").read_text().splitlines()[0])
  assert group["verdict"] == "trained" and len(group["samples"]) == 2


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


def test_answers_without_a_verdict_are_not_trained_on(tmp_path):
  changes = {"rewards.functions.correct.function": "tests.pipelines.coin_reward:silent", "steps": 2}
  _, first, second = run(tmp_path / "run", **changes)
  assert first["reward/invalid"] == 32 and first["sampling/tokens_trained"] == 0
  assert second["updates"] == 0 and "loss" not in second and second["value/skipped_updates"] == 0


def test_judged_by_a_reward_model_that_the_values_start_from(tmp_path):
  scorer = tmp_path / "scorer"
  reward_model.train(small(tiny_reward_model, steps=1, shift_to_demonstrations=False, **{"eval.every": 0}), str(scorer))
  changes = {
    "rewards.functions.correct.function": "posttrain_jax.rewards.verifiers:exact_answer",
    "reward_model": str(scorer),
    "value.zero_head": False,
    "steps": 1,
  }
  _, first = run(tmp_path / "run", **changes)
  assert first["accuracy/mean"] == 0 != first["reward/mean"]  # the verifier's verdict stays
  assert first["value/mean"] != 0  # the reward model's head


def test_the_average_is_evaluated_beside_the_policy():
  parts = types.SimpleNamespace(
    evaluator=lambda params, version: ({"eval/held/difficulty/1/avg@2": params, "eval/held/version": version}, {}),
    engine=types.SimpleNamespace(params=1.0),
    learner=types.SimpleNamespace(version=3),
    kl_to_start=None,
    evaluates_average=True,
    _handover=lambda params: 10 * params,
  )
  own = {"eval/held/difficulty/1/avg@2": 1.0, "eval/held/version": 3}
  assert Parts.evaluate(parts, None) == own
  both = own | {"eval/held_average/difficulty/1/avg@2": 50.0, "eval/held_average/version": 3}
  assert Parts.evaluate(parts, 5.0) == both
  parts.evaluates_average = False
  assert Parts.evaluate(parts, 5.0) == own


@pytest.mark.parametrize(
  ("changes", "expected"),
  [
    ({"learner.minibatches": 3}, "learner.minibatches: 3 does not divide rollout.groups = 16"),
    ({"learner.epochs": 0}, "learner.epochs: 0, expected at least 1"),
    ({"learner.micro_batches": 2}, "do not divide"),
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
  assert expected in refused(ppo.train, small(tiny_ppo, **{**SMALL, **changes}), tmp_path / "run")


def test_a_value_model_with_other_tokens_is_refused(whole, tmp_path):
  shutil.copytree(whole, tmp_path / "other")
  tokenizer = tmp_path / "other" / "tokenizer" / "tokenizer.json"
  tokenizer.write_text(tokenizer.read_text().replace('"7"', '"seven"'))
  with pytest.raises(InputError, match=r"value\.path: .* has another tokeniser than the policy"):
    ppo.train(small(tiny_ppo, **{**SMALL, "value.path": str(tmp_path / "other")}), str(tmp_path / "run"))
