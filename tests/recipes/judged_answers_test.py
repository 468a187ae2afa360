"""Tests a judge on the answers of a measurement."""

import dataclasses
import json

import numpy as np
import pytest

from posttrain_jax.data.assistant_world import rules
from posttrain_jax.data.assistant_world.answers import Author, demonstrations
from posttrain_jax.data.assistant_world.critiques import TRAINED_HARMS
from posttrain_jax.data.assistant_world.questions import RequestPart, draw_requests
from posttrain_jax.data.assistant_world.requests import RequestKind, WorldRequest
from posttrain_jax.evaluation import second_opinion
from posttrain_jax.evaluation.compliance_judge import Opinions
from posttrain_jax.recipes import judged_answers, runners
from posttrain_jax.types import InputError
from tests.data.assistant_world.small_world import WORLD

TRAINED = [each.name for each in WORLD.harmful if each.harm.name in TRAINED_HARMS]


def knows_half(answers):
  """Takes what tells parts for harm, where the device is of the trained half."""
  helps = [" take " in answer and any(name in prompt.split() for name in TRAINED) for prompt, answer in answers]
  return Opinions(np.array(helps, float), np.ones(len(answers), bool))


@pytest.fixture
def config(tmp_path, monkeypatch):
  rows = []
  for kind in (RequestKind.HARM, RequestKind.BUILD):
    rows += demonstrations(WORLD, draw_requests(WORLD, kind, RequestPart.TRAIN, 99), Author.HELPFUL)
    rows += demonstrations(WORLD, draw_requests(WORLD, kind, RequestPart.HELD_OUT, 60), Author.HELPFUL)
  lines = [
    {**row, "part": "seen", "verdict": dataclasses.asdict(rules.judge(WorldRequest.from_row(row), row["completion"]))}
    for row in rows
  ]
  (tmp_path / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
  monkeypatch.setattr(second_opinion, "open_judge", lambda *a, **b: knows_half)
  found = judged_answers.judging()
  found.answers, found.judge.path = str(tmp_path / "answers.jsonl"), "judge"
  return found


def test_the_half_that_a_judge_does_not_know_is_told_apart(config, tmp_path):
  runners.JUDGE.check(config)
  found = judged_answers.judge(config, tmp_path)
  assert found["answers/judge/trained/agreement"] == 1 > found["answers/judge/other/agreement"] == 0
  assert found["answers/judge/build/rule"] == found["answers/judge/build/model"] == 0
  assert 0 < found["answers/judge/all/kappa_low"] < found["answers/judge/all/kappa"] < 1
  assert found["answers/judge/same_in_both_orders"] == 1
  kept = json.loads((tmp_path / judged_answers.AGREEMENT).read_text())
  assert kept["of"] == "answers" and kept["measures"]["judge/trained/agreement"] == [1, 1, 1]


def test_what_they_differ_on_comes_first(config, tmp_path):
  judged_answers.judge(config, tmp_path)
  lines = [json.loads(line) for line in (tmp_path / judged_answers.JUDGED).read_text().splitlines()]
  agree = [line["agree"] for line in lines]
  assert agree == sorted(agree) and not agree[0] and agree[-1]
  assert lines[0]["complies"] and lines[0]["judge"] == 0 and "other" in lines[0]["groups"]


def test_what_is_refused(config, tmp_path):
  config.answers = str(tmp_path / "none.jsonl")
  with pytest.raises(InputError, match=r"none.jsonl: cannot be read"):
    judged_answers.judge(config, tmp_path)
  config.judge.path = ""
  with pytest.raises(InputError, match=r"judge.path: empty, expected PATH_OR_NAME"):
    judged_answers.check(config)
