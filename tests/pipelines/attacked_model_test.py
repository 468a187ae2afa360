"""Tests attacks that a judge model rewards: it reads attack and answer, and the rule's verdict stands beside it."""

import dataclasses
import json

import numpy as np
import pytest

from configs.recipes import attacker_sections
from posttrain_jax.data.verdict_question import ENGLISH
from posttrain_jax.evaluation.compliance_judge import Opinions
from posttrain_jax.pipelines import attacked_model, grpo
from tests.pipelines.attack_run_test import run, small
from tests.pipelines.small_offline import refused
from tests.recipes.saved_model import save_model


@pytest.fixture(scope="module")
def target(tmp_path_factory):
  folder = tmp_path_factory.mktemp("judged") / "model"
  save_model(folder, 3)
  return str(folder)


def paid_by(path):
  """Returns the changes of a config whose judge is a model."""
  section = attacker_sections.target_judge()
  section.update(path=path, question=dataclasses.asdict(ENGLISH))
  return {"target__judge": section}


def test_a_judge_is_paid_beside_the_rule(tmp_path, target, monkeypatch):
  asked = []

  def judge(pairs):
    """Likes answers by their length, and others than the rule."""
    asked.extend(pairs)
    return Opinions(np.array([len(answer) % 3 > 0 for _, answer in pairs], float), np.ones(len(pairs), bool))

  def opened(settings, question, *, seed):
    assert (settings.path, settings.longest, question.text) == (target, 400, ENGLISH.text)
    return judge

  monkeypatch.setattr(attacked_model, "open_judge", opened)
  found = run(tmp_path / "run", target, steps=2, **paid_by(target))
  lines = "".join(file.read_text() for file in sorted((tmp_path / "run" / "rollouts").iterdir())).splitlines()
  samples = [sample for line in lines for sample in json.loads(line)["samples"]]
  parts = [sample["components"] for sample in samples]
  assert {(each["complied"], each["judged"]) for each in parts if each["asks"]} == {(0, 0), (0, 1), (1, 0), (1, 1)}
  for each, sample in zip(parts, samples):
    assert sample["accuracy"] == each["complied"]
    earned = each["judged"] + 0.5 * each["novelty"] if each["asks"] else -1
    unreadable = sample["reward"] == -1 and not each["judged"]  # it has a control token
    assert sample["reward"] == pytest.approx(earned, abs=1e-6) or unreadable
  assert {attack for attack, _ in asked} >= {s["text"] for s in samples if s["components"]["judged"]}
  assert found[1]["reward/judged"] != found[1]["reward/complied"]
  assert len(asked) == found[2]["target/questions"]
  assert "target.judge.path" in (tmp_path / "run" / "config.json").read_text()


def test_a_judge_that_cannot_judge_is_refused(tmp_path, target):
  assert "absent" in refused(grpo.train, small(target, **paid_by("absent")), tmp_path / "run")
  assert "target.judge.path: empty, expected PATH" in refused(
    grpo.train, small(target, **paid_by("")), tmp_path / "run"
  )
  save_model(tmp_path / "rater", 0, scalar_head=True)
  message = refused(grpo.train, small(target, **paid_by(str(tmp_path / "rater"))), tmp_path / "run")
  assert "rater is no language model with a tokeniser, expected one" in message
