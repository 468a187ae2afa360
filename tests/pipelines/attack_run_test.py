"""Tests runs whose answers attack another model: they resume bit for bit, and stop before their budget is exceeded."""

import hashlib
import json

import pytest

from configs import tiny_dapo
from configs.recipes import attacker_sections
from posttrain_jax.assembly.attack_target import AttackedModel
from posttrain_jax.pipelines import grpo
from posttrain_jax.recipes import runners
from posttrain_jax.runs.journal import read_metrics, reproducible
from posttrain_jax.types import InputError
from tests.pipelines import small_offline
from tests.pipelines.small_offline import refused
from tests.pipelines.small_run import OVERRIDES
from tests.recipes.saved_model import save_model

MODEL = {name: value for name, value in small_offline.SMALL.items() if name.startswith("model.")}
ATTACKS = 8 * 4  # of a step


@pytest.fixture(scope="module")
def target(tmp_path_factory):
  save_model(tmp_path_factory.mktemp("target") / "model", 3)
  return str(tmp_path_factory.getbasetemp() / "target0" / "model")


def asks(texts, rows):
  """Lets most attacks through."""
  return [float(hashlib.sha256(text.encode()).digest()[0] < 200) for text in texts]


def even(texts, rows):
  """Says that answers of even length comply."""
  return [float(len(text) % 2 == 0) for text in texts]


def small(target, **changes):
  config = tiny_dapo.get_config()
  config.target = attacker_sections.target()
  config.target.update(path=target, template="{prompt}=", slots=16, max_prompt_length=16, max_new_tokens=8, novelty=0.5)
  config.target.verdict.function = f"{__name__}:even"
  same = {"mesh.data": 8, "rollout.groups": 8, "learner.updates_per_step": 1, "eval.every": 0, "warmup.steps": 0}
  same |= {"rollout.slots": 32, "optimizer.learning_rate": 1e-2, "optimizer.warmup_updates": 0, "steps": 4}
  same |= {"dynamic_sampling.enabled": False, "overlong.penalty_buffer": 0, "checkpoint.every": 2, "rewards.workers": 0}
  overrides = {**OVERRIDES, **same, **MODEL, "prompts.per_difficulty": 4}
  config.rewards.functions = dict(asks=dict(function=f"{__name__}:asks", weight=1.0, options={}, lowest=0.0))
  config.rewards.accuracy = "asks"
  overrides.pop("rewards.functions.correct.function")
  config.update_from_flattened_dict(overrides | {name.replace("__", "."): value for name, value in changes.items()})
  return config.lock()


def run(workdir, target, **changes):
  grpo.train(small(target, **changes), str(workdir))
  return [reproducible(record) for record in read_metrics(workdir)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, target):
  folder = tmp_path_factory.mktemp("whole") / "run"
  return folder, run(folder, target)


def test_a_killed_run_goes_on_with_the_same_answers_and_the_same_novelty(tmp_path, target, whole):
  folder, expected = whole
  run(tmp_path / "broken", target, steps=2)
  found = run(tmp_path / "broken", target)
  assert found == expected
  files = [sorted((each / "rollouts").iterdir()) for each in (folder, tmp_path / "broken")]
  assert [file.read_text() for file in files[0]] == [file.read_text() for file in files[1]]
  samples = [sample for line in files[0][-1].read_text().splitlines() for sample in json.loads(line)["samples"]]
  kinds = {(sample["components"]["asks"], sample["components"]["complied"]) for sample in samples}
  assert kinds == {(0, 0), (1, 0), (1, 1)}
  for parts, sample in ((sample["components"], sample) for sample in samples):
    earned = parts["complied"] + 0.5 * parts["novelty"] if parts["asks"] else -1
    unreadable = sample["reward"] == -1 and not parts["complied"]  # it has a control token
    assert sample["reward"] == pytest.approx(earned, abs=1e-6) or unreadable
    assert sample["accuracy"] == parts["complied"]


def test_a_run_that_forgot_its_attacks_would_find_them_new(tmp_path, target, whole, monkeypatch):
  _, expected = whole
  run(tmp_path / "broken", target, steps=2)
  monkeypatch.setattr(AttackedModel, "restore", lambda self, state: None)
  found = run(tmp_path / "broken", target)
  assert found[3]["reward/novelty"] > expected[3]["reward/novelty"]
  assert found[3]["target/questions"] < expected[3]["target/questions"]


def test_the_budget_ends_a_run(tmp_path, target):
  found = run(tmp_path / "run", target, target__budget=2 * ATTACKS + 10, steps=6)
  asked = [record["target/questions"] for record in found if "target/questions" in record]
  assert asked == sorted(asked) and asked[-1] <= 2 * ATTACKS + 10 < asked[-1] + ATTACKS
  last = len(asked) + 1
  assert [record["step"] for record in found] == list(range(last + 1)) and last < 6
  assert found[-1]["updates"] == found[-2]["updates"] and "params_sha256" in found[-1]
  assert run(tmp_path / "run", target, target__budget=2 * ATTACKS + 10, steps=6) == found  # it does not go on


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"target__path": "absent"}, "absent"),
    ({"target__asks": "correct"}, "target.asks: 'correct', expected one of rewards.functions: asks, or nothing"),
    ({"reward_model": "rm"}, "target: gives the rewards, expected neither reward_model nor judge"),
    ({"dynamic_sampling__enabled": True}, "target: its budget counts each step's attacks, expected neither"),
    ({"advantage": "remax"}, "advantage: remax has greedy answers judged, expected another one beside target"),
    ({"target__verdict__function": "nowhere:none"}, "nowhere"),
    ({"target__slots": 3}, "target: target.slots: 3 slots do not divide"),
  ],
)
def test_a_run_that_cannot_work_is_refused(tmp_path, target, changes, message):
  assert message in refused(grpo.train, small(target, **changes), tmp_path / "run")


def test_a_stage_of_a_recipe_needs_a_target(target):
  runners.ATTACKER.check(small(target))
  with pytest.raises(InputError, match=r"target: absent, expected the section of the model that is attacked"):
    runners.ATTACKER.check(tiny_dapo.get_config())
