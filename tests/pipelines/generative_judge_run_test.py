"""Tests policy gradients and collections on the scores of a generative reward model, on a judge that was trained."""

import json
import math

import numpy as np
import pytest

from configs import tiny_collect, tiny_dapo, tiny_generative_grpo, tiny_generative_reward
from posttrain_jax.pipelines import collect, generative_reward, grpo
from posttrain_jax.runs.journal import read_metrics, reproducible
from tests.pipelines import small_offline
from tests.pipelines.generative_reward_test import SMALL as SMALL_JUDGE
from tests.pipelines.small_offline import refused
from tests.pipelines.small_run import OVERRIDES

MODEL = {name: value for name, value in small_offline.SMALL.items() if name.startswith("model.")}


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
  """Trains a judge that scores without reasons: it learns the form, and no more of the scores than their shares."""
  folder = tmp_path_factory.mktemp("judge")
  rows = [
    {"prompt": f"{a}+{b}=", "answer": f" Answer: {c}", "score": (a + c) % 3}
    for a in range(10)
    for b in range(10)
    for c in range(10)
  ]
  (folder / "judgements.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
  config = tiny_generative_reward.get_config()
  wording = tiny_generative_grpo.judge().wording
  changes = SMALL_JUDGE | MODEL | {"steps": 80, "eval.every": 0, "eval.best": "", "batch_size": 16}
  changes |= {"demonstrations.path": str(folder / "judgements.jsonl"), "demonstrations.high": 2}
  changes |= {"optimizer.learning_rate": 1e-2, "optimizer.warmup_updates": 2, "optimizer.decay_updates": 0}
  config.update_from_flattened_dict(changes | {"checkpoint.every": 80})
  config.demonstrations.wording = wording
  generative_reward.train(config.lock(), str(folder / "run"))
  return str(folder / "run")


def small(**changes):
  """Makes the config of a run whose judge is drawn three times for each answer."""
  config = tiny_dapo.get_config()
  config.judge = tiny_generative_grpo.judge()
  config.judge.update(high=2, reading="sampled", votes=3, slots=16, max_new_tokens=4)
  config.judge.sampling.temperature = 1.0
  same = {"mesh.data": 8, "rollout.groups": 8, "learner.updates_per_step": 1, "eval.every": 0, "warmup.steps": 0}
  same |= {"rollout.slots": 32, "optimizer.learning_rate": 1e-2, "optimizer.warmup_updates": 0, "steps": 2}
  same |= {"dynamic_sampling.enabled": False, "overlong.penalty_buffer": 0, "checkpoint.every": 2}
  overrides = {**OVERRIDES, **same, **MODEL}
  config.update_from_flattened_dict(overrides | {name.replace("__", "."): value for name, value in changes.items()})
  return config.lock()


def samples(workdir, step):
  lines = (workdir / "rollouts" / f"step_{step:06d}.jsonl").read_text().splitlines()
  return [sample for line in lines for sample in json.loads(line)["samples"]]


def test_a_judge_gives_the_rewards_and_a_killed_run_draws_the_same_judgements(tmp_path, judge):
  def run(name, **more):
    grpo.train(small(judge__path=judge, **{"eval__every": 3, "steps": 3} | more), str(tmp_path / name))
    return [reproducible(record) for record in read_metrics(tmp_path / name)]

  expected = run("whole")
  run("broken", steps=1)
  found = run("broken")
  for record in found + expected:
    if record["step"] < 3:
      record.pop("params_sha256", None)  # a run that stops saves a checkpoint
      for name in [name for name in record if name.startswith("eval/")]:  # and evaluates at its end
        record.pop(name)
  assert found == expected
  zero, *_, last = read_metrics(tmp_path / "whole")
  assert 0 < zero["eval/heldout/reward"] < 2 and 0 < last["eval/heldout/reward"] < 2
  drawn = samples(tmp_path / "whole", 1)
  rewards = [sample["reward"] for sample in drawn if sample["components"]["reward_model"] is not None]
  assert len(rewards) > len(drawn) / 2
  # Means of up to three whole scores; the verifier's verdict stays the accuracy.
  assert all(
    any(math.isclose(votes * reward, round(votes * reward), abs_tol=1e-5) for votes in (1, 2, 3)) for reward in rewards
  )
  assert len({round(reward, 3) for reward in rewards}) > 3
  assert {sample["accuracy"] for sample in drawn} == {0.0, 1.0}


def test_the_policy_judges_itself(tmp_path, judge):
  changes = {"model__path": judge, "judge__self_rewarding": True, "judge__reading": "expected", "judge__votes": 1}
  grpo.train(small(**changes, steps=2), str(tmp_path / "run"))
  drawn = samples(tmp_path / "run", 1)
  rewards = np.array([sample["reward"] for sample in drawn if sample["components"]["reward_model"] is not None])
  assert len(rewards) > 8 and len({*rewards.round(5)}) > 4 and (rewards > 0).all() and (rewards < 2).all()


def short_sums(texts, rows, *, style=""):
  """Gives 1 for an answer of odd length to a problem of one step, and abstains on all other problems."""
  del style
  return [float(len(text) % 2) if row["difficulty"] == 1 else None for text, row in zip(texts, rows)]


def test_rules_judge_what_they_can_and_the_judge_the_rest_of_a_batch(tmp_path, judge):
  rule = {"rewards__functions__correct__function": f"{__name__}:short_sums", "rewards__workers": 0}
  grpo.train(small(judge__path=judge, scoring__unchecked_only=True, **rule, steps=1), str(tmp_path / "run"))
  lines = (tmp_path / "run" / "rollouts" / "step_000001.jsonl").read_text().splitlines()
  kinds = set()
  for group in map(json.loads, lines):
    for sample in group["samples"]:
      rule, score = (sample["components"][name] for name in ("correct", "reward_model"))
      kinds.add((rule is not None, score is not None))
      assert sample["reward"] == pytest.approx(2 * rule if rule is not None else score or 0)  # the rule's weight is 2
  assert kinds >= {(True, False), (False, True)} and (True, True) not in kinds


def test_a_collection_is_judged(tmp_path, judge):
  config = tiny_collect.get_config()
  config.judge = small().judge.copy_and_resolve_references().unlock()
  config.judge.update(path="", self_rewarding=True)
  config.update_from_flattened_dict(
    {**MODEL, "model.path": judge, "warmup.steps": 0, "prompts.limit": 4, "mesh.data": 8}
  )
  config.rollout.update(samples=4, slots=16, max_new_tokens=12)
  config.selection.threshold = float("-inf")
  collect.collect(config.lock(), str(tmp_path / "run"))
  lines = [json.loads(line) for line in (tmp_path / "run" / "candidates" / "000000.jsonl").read_text().splitlines()]
  scores = [score for line in lines for score in line["scores"] if score is not None]
  assert len(lines) == 4 and scores and all(0 <= score <= 2 for score in scores)


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"judge__path": "absent"}, "absent"),
    ({"judge__max_prompt_length": 20}, "judge.max_prompt_length: 20, less 12 for an answer; "),
    ({"judge__high": 12}, "judge: judgements: scores from 0 to 12 are not one token each"),
    ({"judge__slots": 3}, "judge: judge.slots: 3 slots do not divide"),
    ({"reward_model": "rm"}, "judge: given beside reward_model, 'rm'"),
  ],
)
def test_a_judge_that_cannot_work_is_refused(tmp_path, judge, changes, message):
  assert message in refused(grpo.train, small(**{"judge__path": judge} | changes), tmp_path / "run")
