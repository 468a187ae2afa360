import json

import pytest

from configs import tiny_generative_reward
from posttrain_jax.pipelines import generative_reward
from posttrain_jax.runs.settings import parse
from posttrain_jax.types import InputError
from tests.pipelines.small_run import OVERRIDES

SMALL = {name: value for name, value in OVERRIDES.items() if name.startswith("model.")} | {
  "mesh.data": 8,
  "steps": 2,
  "demonstrations.per_difficulty": 10,
  "demonstrations.held_out_per_difficulty": 1,
  "demonstrations.held_out_copies": 2,
  "eval.every": 2,
  "eval.samples": 2,
  "eval.slots": 8,
  "checkpoint.every": 2,
  "logging.tensorboard": False,
  "logging.report": False,
}


def small(**changes):
  config = tiny_generative_reward.get_config()
  config.update_from_flattened_dict(SMALL | {name.replace("__", "."): value for name, value in changes.items()})
  return config.lock()


def test_a_run_reports_both_readings(tmp_path):
  generative_reward.train(small(), tmp_path)
  (*_, last) = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
  for name in ("sampled/accuracy", "sampled/pair_accuracy", "sampled/unparsed", "expected/unparsed", "labels/majority"):
    assert f"eval/{name}" in last
  assert 0.5 <= last["eval/labels/majority"] <= 1


def test_procedural_judgements_of_other_problems_are_held_out():
  section = tiny_generative_reward.get_config().demonstrations
  section.update(per_difficulty=50, held_out_per_difficulty=10, held_out_copies=3)
  rows = generative_reward.read_judgements(parse(generative_reward.JudgementSettings, section, "demonstrations"))
  assert len(rows.held_out) == len(rows.problems) == 180
  assert all(row.columns["prompt"].startswith(problem) for row, problem in zip(rows.held_out, rows.problems))
  trained = {row.columns["prompt"].partition("=")[0] + "=" for row in rows.train}
  assert not trained & set(rows.problems)


def test_comparisons_of_a_file_become_judgements(tmp_path):
  path = tmp_path / "comparisons.jsonl"
  made = [{"prompt": f"q{i}", "chosen": "good", "rejected": "bad", "chosen_rationale": "since"} for i in range(20)]
  path.write_text("".join(json.dumps(row) + "\n" for row in made))
  section = tiny_generative_reward.get_config().demonstrations
  section.update(path=str(path), held_out=0.3, low=1, high=5)
  rows = generative_reward.read_judgements(parse(generative_reward.JudgementSettings, section, "demonstrations"))
  assert len(rows.train) + len(rows.held_out) == 40
  assert [row.columns["label"] for row in rows.held_out] == [5, 1] * (len(rows.held_out) // 2)
  assert rows.train[0].columns["completion"] == "since\nScore: 5" and "good" in rows.train[0].columns["prompt"]
  assert rows.problems[0] == rows.problems[1] and rows.problems[0] in rows.held_out[0].columns["prompt"]


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"demonstrations__high": 5}, "expected 0 to 1"),
    ({"demonstrations__low": 1}, "expected below demonstrations.high, 1"),
    ({"demonstrations__too_long": "cut"}, "the score is at a judgement's end"),
    ({"eval__best": "heldout/avg@8"}, "eval.best"),
    ({"eval__samples": 0}, "eval.samples: 0"),
    ({"eval__max_prompt_length": 5}, "over the limit of 5 tokens"),
    ({"demonstrations__path": "absent.jsonl"}, "absent.jsonl: no such file"),
  ],
)
def test_bad_input(tmp_path, changes, message):
  with pytest.raises(InputError) as error:
    generative_reward.train(small(**changes), tmp_path / "run")
  assert message in str(error.value)
  assert not (tmp_path / "run").exists()
