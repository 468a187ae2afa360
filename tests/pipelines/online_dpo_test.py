"""Tests rounds of sampling and training.

Tested are which answers are paired, when the reference moves, and that a break changes no bit.
"""

import pytest

from configs import tiny_online_dpo, tiny_reward_model
from posttrain_jax.assembly.model import open_policy
from posttrain_jax.learner.digest import params_sha256
from posttrain_jax.pipelines import dpo, reward_model
from tests.pipelines.small_offline import records, refused, small

ROUNDS = {
  "steps": 6,
  "prompts.per_difficulty": 10,
  "rollout.groups": 16,
  "rollout.group_size": 4,
  "rollout.slots": 32,
  "rollout.max_new_tokens": 8,
  "rewards.functions.correct.function": "tests.pipelines.coin_reward:coin",
  "eval.every": 0,
  "checkpoint.every": 3,
}


def run(workdir, **changes):
  dpo.train(small(tiny_online_dpo, **{**ROUNDS, **changes}), str(workdir))
  return records(workdir)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
  """Returns the records of a whole run by how often the reference is refreshed."""
  found = {}

  def whole(refresh_every):
    if refresh_every not in found:
      workdir = tmp_path_factory.mktemp("online") / "run"
      found[refresh_every] = run(workdir, **{"online.refresh_every": refresh_every})
    return found[refresh_every]

  return whole


def test_a_resumed_run_is_the_unbroken_one_bit_for_bit(unbroken, tmp_path):
  # It stops after rounds 2 (saved as the last) and 3: between two refreshes, and just before one.
  for steps in (2, 3, 6):
    found = run(tmp_path / "run", **{"online.refresh_every": 3, "steps": steps})
  expected = unbroken(3)
  for record in found + expected:
    if record["step"] == 2:
      record.pop("params_sha256", None)  # only the run that stopped there saved a checkpoint
  assert found == expected
  assert found[-1]["params_sha256"] != found[3]["params_sha256"]


def test_when_the_reference_moves(unbroken):
  # A round's updates start at the reference if it was refreshed, and the last one of two has moved by one update.
  moved = {every: [abs(r["logprob/chosen_moved"]) for r in unbroken(every)[1:]] for every in (0, 1, 3)}
  assert moved[0][:1] == moved[1][:1] == moved[3][:1]  # the first round is the same
  assert moved[0][1:3] == moved[3][1:3] != moved[1][1:3]  # 3 refreshes before round 4
  assert moved[0][3] != moved[3][3]


def test_a_round(unbroken):
  _, first, *_ = unbroken(1)
  assert 0 < first["pairs"] <= 16 and first["pairs/share"] == first["pairs"] / 16
  assert first["updates"] == 2 and first["reward/invalid"] == 0
  assert 0 < first["reward/mean"] < 1
  assert first["sampling/tokens_generated"] == pytest.approx(first["length/mean"] * 64)


def test_a_round_without_a_pair_trains_nothing(tmp_path, capsys):
  changes = {"rewards.functions.correct.function": "posttrain_jax.rewards.verifiers:exact_answer", "steps": 1}
  zero, first = run(tmp_path / "run", **changes)  # a model that knows nothing: all answers are wrong
  assert first["pairs"] == 0 == first["updates"] == zero["updates"]
  assert "loss" not in first
  assert "answers end at 1 '<eos>'" in capsys.readouterr().err


def test_judged_by_a_reward_model(tmp_path):
  scorer = tmp_path / "scorer"
  reward_model.train(small(tiny_reward_model, steps=1, shift_to_demonstrations=False, **{"eval.every": 0}), str(scorer))
  changes = {"rewards.functions.correct.function": "posttrain_jax.rewards.verifiers:exact_answer", "steps": 1}
  _, first = run(tmp_path / "run", **{"online.reward_model": str(scorer), **changes})
  assert params_sha256(open_policy(str(tmp_path / "run")).params) == first["params_sha256"]  # a workdir is a model
  assert first["accuracy/mean"] == 0 != first["reward/mean"]  # the verifier's verdict stays
  assert first["pairs"] > 10 and first["updates"] == 2


@pytest.mark.parametrize(
  ("changes", "expected"),
  [
    ({"objective.loss": "kto"}, "objective.loss: kto learns from single answers"),
    ({"learner.updates_per_step": 3}, "learner.updates_per_step: 3 does not divide rollout.groups = 16"),
    ({"rollout.group_size": 1}, "rollout.group_size: 1, expected at least 2"),
    ({"online.refresh_every": -1}, "online.refresh_every: -1, expected at least 0"),
    ({"online.reward_model": "no/such/model"}, "no/such/model"),
    ({"learner.tokens_per_micro_batch": 9}, "learner.tokens_per_micro_batch: 9, expected 0 (chosen) or at least"),
    ({"eval.every": 1, "eval.best": "held/avg@2"}, "eval.best: 'held/avg@2'"),
  ],
)
def test_refusals(changes, expected, tmp_path):
  assert expected in refused(dpo.train, small(tiny_online_dpo, sampled=True, **{**ROUNDS, **changes}), tmp_path / "run")
