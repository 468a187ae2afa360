import json

import pytest

from configs import tiny_sft
from posttrain_jax.recipes import evaluation
from posttrain_jax.types import InputError
from tests.recipes.saved_model import save_model


def config(path, **changes):
  found = evaluation.measurement(tiny_sft.get_config())
  found.update_from_flattened_dict({
    "model.path": str(path), "mesh.data": 8, "rewards.workers": 0, "eval.slots": 8, "eval.max_new_tokens": 4,
    "eval.sets.heldout.prompts.per_difficulty": 2, "eval.sets.heldout.samples": 2, "eval.sets.heldout.greedy": False,
    **changes,
  })  # fmt: skip
  return found


def test_a_model_is_measured_once(tmp_path):
  save_model(tmp_path / "model", 0)
  measuring = config(tmp_path / "model")
  evaluation.check(measuring)
  for _ in range(2):  # a start after a kill
    evaluation.measure(measuring, tmp_path / "made")
    (record,) = map(json.loads, (tmp_path / "made" / "metrics.jsonl").read_text().splitlines())
    assert record["eval/heldout/problems"] == 12 and 0 <= record["eval/heldout/avg@2"] <= 1
  (file,) = (tmp_path / "made" / "rollouts").iterdir()
  assert json.loads(file.read_text().splitlines()[0])["verdict"] == "evaluated"


def test_bad_input(tmp_path):
  with pytest.raises(InputError, match=r"model.path: empty"):
    evaluation.measure(config(""), tmp_path / "made")
  with pytest.raises(InputError, match=r"eval.every: unknown"):
    evaluation.check(evaluation.ConfigDict({**config("").to_dict(), "eval": {"every": 1}}))
  assert not (tmp_path / "made").exists()
