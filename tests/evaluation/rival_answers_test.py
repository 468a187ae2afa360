import json

import pytest

from posttrain_jax.assembly.rollout_engine import SamplingSettings
from posttrain_jax.data.prompts import Row
from posttrain_jax.evaluation.rival_answers import Rival, answers_of, check_rivals, parse_rivals
from posttrain_jax.types import InputError
from tests.recipes.saved_model import save_model

GREEDY = SamplingSettings(temperature=0.0, top_k=0, top_p=1.0, min_p=0.0, stop_ids=(), stop_strings=())
ROWS = [Row({"prompt": "1+2="}, "p.jsonl:1"), Row({"messages": [{"role": "user", "content": "hi"}]}, "p.jsonl:2")]


def test_models_have_the_names_of_their_folders_or_those_that_are_given():
  found = parse_rivals(["runs/dpo", "old=runs/sft", "answers.jsonl"])
  assert [(each.name, each.path, each.is_file) for each in found] == [
    ("dpo", "runs/dpo", False),
    ("old", "runs/sft", False),
    ("answers", "answers.jsonl", True),
  ]


@pytest.mark.parametrize(
  ("given", "message"),
  [
    (["a"], "--models=a: 1 model, expected two or more"),
    (["one/dpo", "two/dpo"], "--models: two are named 'dpo', expected other names: NAME=one/dpo"),
  ],
)
def test_models_without_names_of_their_own_are_refused(given, message):
  with pytest.raises(InputError, match=message):
    parse_rivals(given)


def test_answers_are_read_by_their_prompts(tmp_path):
  file = tmp_path / "a.jsonl"
  lines = [
    {"prompt": "1+2=", "answers": ["3", "4"]},
    {"messages": [{"role": "user", "content": "hi"}], "completion": "hello"},
    {"messages": [{"role": "user", "content": "hi"}], "completion": "hey"},
    {"prompt": "another", "completion": "x"},
  ]
  file.write_text("".join(json.dumps(line) + "\n" for line in lines))
  rival = Rival("a", str(file))
  assert answers_of(rival, ROWS, GREEDY, samples=2, max_new_tokens=1, seed=0) == [["3", "4"], ["hello", "hey"]]
  assert answers_of(rival, ROWS, GREEDY, samples=1, max_new_tokens=1, seed=0) == [["3"], ["hello"]]
  with pytest.raises(InputError, match=r"a\.jsonl: 2 answers to the prompt of p\.jsonl:1, expected 3 \(--samples\)"):
    answers_of(rival, ROWS, GREEDY, samples=3, max_new_tokens=1, seed=0)


@pytest.mark.parametrize("line", ['{"prompt": "1+2=", "answers": "3"}', '{"prompt": "1+2="}', '{"completion": "3"}'])
def test_a_file_of_something_else_is_refused(line, tmp_path):
  (tmp_path / "a.jsonl").write_text(line + "\n")
  with pytest.raises(InputError, match=r"a\.jsonl:1: .*expected"):
    answers_of(Rival("a", str(tmp_path / "a.jsonl")), ROWS, GREEDY, samples=1, max_new_tokens=1, seed=0)


def test_a_reward_model_does_not_answer(tmp_path):
  save_model(tmp_path / "reward", 0, scalar_head=True)
  save_model(tmp_path / "policy", 0)
  check_rivals([Rival("policy", str(tmp_path / "policy"))])
  with pytest.raises(InputError, match="reward is a reward model, expected language models"):
    check_rivals([Rival("reward", str(tmp_path / "reward"))])
