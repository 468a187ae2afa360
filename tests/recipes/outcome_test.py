import json
import math

import numpy as np

from posttrain_jax.recipes import outcome
from posttrain_jax.recipes.recipe import Output
from tests.recipes.made_recipe import stage


def test_the_last_value_of_each_metric(tmp_path):
  records = [
    {"step": 0, "eval/heldout/avg@8": 0.1, "data/examples": 5, "time/train": 1.0},
    {"step": 1, "loss": 2.0, "updates": 1, "params_sha256": "a", "eval/heldout/difficulty/1/avg@8": 0.5},
    {"step": 2, "loss": 1.0, "eval/heldout/avg@8": 0.2, "eval/heldout/per_problem/avg@8": [1.0], "reward": None},
  ]
  (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
  assert outcome.metrics_of(tmp_path, None) == {"loss": 1.0, "eval/heldout/avg@8": 0.2}


def test_what_a_runner_returns_counts_alone(tmp_path):
  found = outcome.metrics_of(tmp_path, {"pairs": np.int64(3), "score": math.nan, "share": np.float32(0.5)})
  assert found == {"pairs": 3, "score": None, "share": 0.5} and json.dumps(found)
  assert outcome.metrics_of(tmp_path, None) == {}


def test_measures_stand_with_the_model_that_they_are_of():
  measuring = stage("m")
  assert outcome.measured_model(measuring) == "base"
  object.__setattr__(measuring, "inputs", {"model.path": Output("sft")})
  assert outcome.measured_model(measuring) == "sft"


def test_answers_of_the_last_step(tmp_path):
  (tmp_path / "rollouts").mkdir()
  for step in (0, 5):
    sample = {"text": f"answer {step}", "accuracy": 1.0, "valid": True}
    record = {"step": step, "verdict": "evaluated", "set": "heldout", "prompt": "1+2=", "samples": [sample]}
    (tmp_path / "rollouts" / f"step_{step:06d}.jsonl").write_text(json.dumps(record) + "\n")
  (group,) = outcome.samples(tmp_path)
  assert group["samples"][0]["text"] == "answer 5" and group["samples"][0]["right"]
  assert outcome.samples(tmp_path / "other") == []
