import json
import pathlib

import pytest
from matplotlib import image

from configs import smollm2_forgetting, tiny_forgetting
from posttrain_jax.data import arithmetic
from posttrain_jax.learner.update import Diverged
from posttrain_jax.runs.journal import read_metrics
from posttrain_jax.runs.settings import parse
from posttrain_jax.studies import forgetting
from posttrain_jax.studies.forgetting_settings import ForgettingSettings
from posttrain_jax.types import InputError

SMALL = {
  "learning_rates": (1e-2, 1e-9),
  "epochs": (1, 3),
  "warmup.steps": 2,
  "warmup.batch_size": 8,
  "warmup.demonstrations.per_difficulty": 20,
  "model.num_layers": 2,
  "model.embed_dim": 16,
  "model.mlp_dim": 32,
  "model.num_heads": 2,
  "model.num_kv_heads": 1,
  "model.head_dim": 8,
  "mesh.data": 8,
  "batch_size": 8,
  "narrow.examples": 6,  # of two difficulties: 12 rows are 2 steps an epoch
  "narrow.problems": 2,
  "plain.per_difficulty": 4,
  "samples.prompts": 3,
  "samples.samples": 2,
  "samples.slots": 8,
  "samples.max_new_tokens": 4,
  "eval.slots": 8,
  "eval.max_new_tokens": 4,
  "eval.sets.heldout.samples": 2,
  "eval.sets.heldout.greedy": False,
  "eval.best": "heldout/avg@2",
  "rewards.workers": 0,
}


def make_config(**changes):
  config = tiny_forgetting.get_config()
  config.update_from_flattened_dict({**SMALL, **changes})
  return config.lock()


@pytest.fixture(scope="module")
def done(tmp_path_factory):
  path = tmp_path_factory.mktemp("study") / "run"
  return path, forgetting.study(make_config(), str(path))


def test_each_run_is_measured_before_and_at_the_epochs_asked_for(done):
  path, _ = done
  result = json.loads((path / "forgetting.json").read_text())
  assert (result["examples"], result["steps_per_epoch"]) == (12, 2)
  assert [run["learning_rate"] for run in result["runs"]] == [1e-9, 1e-2]
  for run in result["runs"]:
    assert [(point["epoch"], point["step"]) for point in run["points"]] == [(0, 0), (1, 2), (3, 6)]
    records = {record["step"]: record for record in read_metrics(path / f"lr_{run['learning_rate']:g}")}
    assert sorted(records) == list(range(7))
    assert [step for step in records if "eval/heldout/avg@2" in records[step]] == [0, 2, 6]
    for point in run["points"]:
      record = records[point["step"]]
      assert point["accuracy"] == record["eval/heldout/avg@2"]
      assert point["accuracy_high"] == record["eval/heldout/avg@2_high"]
      assert point["perplexity"] == record["eval/validation/perplexity"]
      assert point["distinct_2_low"] == record["eval/samples/distinct_2_low"]


def test_runs_start_from_the_same_model_and_part_by_their_learning_rates(done):
  path, headline = done
  slow, fast = (run["points"] for run in json.loads((path / "forgetting.json").read_text())["runs"])
  assert slow[0] == fast[0]
  assert slow[2]["perplexity"] == pytest.approx(slow[0]["perplexity"], rel=1e-5)
  assert abs(fast[2]["perplexity"] / fast[0]["perplexity"] - 1) > 1e-2
  assert headline["perplexity_before"] == slow[0]["perplexity"]
  assert [run["perplexity"] for run in headline["runs"]] == [slow[2]["perplexity"], fast[2]["perplexity"]]
  assert image.imread(headline["figure"]).shape[2] == 4


def test_a_finished_study_trains_nothing_again(done):
  path, headline = done
  before = [(path / name / "metrics.jsonl").read_bytes() for name in ("lr_1e-09", "lr_0.01", "warmup")]
  assert forgetting.study(make_config(), str(path)) == headline
  assert [(path / name / "metrics.jsonl").read_bytes() for name in ("lr_1e-09", "lr_0.01", "warmup")] == before


def test_a_run_that_diverged_is_a_result(done, monkeypatch):
  path, headline = done
  fit = forgetting.supervised.fit

  def diverge(config, policy, mesh, data, path, *rest, **settings):
    if path.name == "lr_0.01":
      raise Diverged("1 updates in a row were not finite")
    return fit(config, policy, mesh, data, path, *rest, **settings)

  monkeypatch.setattr(forgetting.supervised, "fit", diverge)
  assert forgetting.study(make_config(), str(path)) == headline  # what was measured before it stays
  assert [run["diverged"] for run in json.loads((path / "forgetting.json").read_text())["runs"]] == [False, True]


def test_narrow_rows_are_careful_and_never_held_out(tmp_path):
  settings = forgetting.write_narrow(parse(ForgettingSettings, make_config()), tmp_path)
  trained, held_out = (
    [json.loads(line) for line in pathlib.Path(path).read_text().splitlines()]
    for path in (settings.demonstrations.path, settings.eval.sets["heldout"].prompts.path)
  )
  assert [row["difficulty"] for row in trained] == [4, 5] * 6 and [row["difficulty"] for row in held_out] == [4, 5] * 2
  for row in trained:
    assert row["completion"].endswith(f" Answer: {row['answer']}") and row["demonstrator"] == "careful"
    assert arithmetic.split_of(row["prompt"]) == arithmetic.Split.TRAIN
  assert all(arithmetic.split_of(row["prompt"]) == arithmetic.Split.HELD_OUT for row in held_out)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"learning_rates": ()}, "learning_rates: (), expected different ones above 0"),
    ({"learning_rates": (1e-3, 1e-3)}, "learning_rates: (0.001, 0.001), expected"),
    ({"learning_rates": (0.0,)}, "learning_rates: (0.0,), expected"),
    ({"epochs": ()}, "epochs: (), expected whole numbers"),
    ({"epochs": (2, 1)}, "epochs: (2, 1), expected"),
    ({"epochs": (0, 1)}, "epochs: (0, 1), expected"),
    ({"warmup.steps": 0}, "model.path: empty, and warmup has no steps"),
  ],
)
def test_errors(tmp_path, changes, message):
  with pytest.raises(InputError) as error:
    forgetting.study(make_config(**changes), str(tmp_path / "run"))
  assert message in str(error.value) and not (tmp_path / "run").exists()


def test_the_held_out_set_has_a_name(tmp_path):
  config = make_config().unlock()
  config.eval.sets = {}
  with pytest.raises(InputError, match=r"eval\.sets: none, expected one named heldout"):
    forgetting.study(config, str(tmp_path / "run"))


def test_there_has_to_be_something_to_train_on(tmp_path):
  with pytest.raises(InputError, match=r"demonstrations\.path: empty"):
    forgetting.study(smollm2_forgetting.get_config(), str(tmp_path / "run"))


def test_the_other_config_has_fields_of_the_first_only():
  names = set(tiny_forgetting.get_config().to_dict())
  assert set(smollm2_forgetting.get_config().to_dict()) == names - {"narrow"}
