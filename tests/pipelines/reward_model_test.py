"""Tests a reward model's run: its files, its zero, and that SIGKILL changes no bit of it."""

import json
import shutil

import jax
import numpy as np
import pytest

from configs import tiny_reward_model
from posttrain_jax.assembly.demonstrations import DemonstrationSettings, encode, read_demonstrations
from posttrain_jax.assembly.judges import place_reward_model
from posttrain_jax.assembly.model import find_tokenizer, open_policy
from posttrain_jax.assembly.readers import load_reader
from posttrain_jax.evaluation import score
from posttrain_jax.learner import checkpoint
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.pipelines import reward_model
from posttrain_jax.runs.settings import parse
from tests.pipelines import killed_run
from tests.pipelines.small_offline import records, refused, small

CHANGES = {"steps": 8, "margins": "small", "preferences.noise": 0.0}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("reward_model") / "run"
  with killed_run.copied(workdir, 6):
    reward_model.train(small(tiny_reward_model, **CHANGES), str(workdir))
  return workdir


def test_evaluations_of_the_start_and_every_second_step(unbroken):
  found = records(unbroken)
  assert [record["step"] for record in found] == list(range(9))
  assert [record["updates"] for record in found] == list(range(9))
  for step, record in enumerate(found):
    assert ("eval/heldout/accuracy" in record) == (step % 2 == 0)
  first = found[0]
  assert first["data/comparisons"] > 20 and first["data/held_out"] == first["eval/heldout/pairs"] > 5
  assert (
    0 <= first["eval/heldout/accuracy_low"] <= first["eval/heldout/accuracy"] <= first["eval/heldout/accuracy_high"]
  )
  assert any(name.startswith("eval/heldout/strength/") for name in first)
  assert first["eval/demonstrations/std"] > 0
  assert found[-1]["loss"] < found[1]["loss"]


def test_files(unbroken):
  assert (unbroken / "reliability.png").read_bytes().startswith(b"\x89PNG")
  model = json.loads((unbroken / "model.json").read_text())
  assert model["scalar_head"]


def test_demonstrations_average_0_and_the_run_is_a_reward_model_by_its_path(unbroken, tmp_path):
  policy = open_policy(str(unbroken))
  assert policy.model.scalar_head
  section = parse(DemonstrationSettings, small(tiny_reward_model, **CHANGES).demonstrations, "demonstrations")
  rows = [e.tokens.tolist() for e in encode(section, read_demonstrations(section)[0], policy.tokenizer)[0]]
  source, found = tmp_path / "rows.jsonl", tmp_path / "scores.jsonl"
  source.write_text("".join(json.dumps({"tokens": row}) + "\n" for row in rows))
  score.score(str(unbroken), str(source), str(found))
  rewards = [json.loads(line)["reward"] for line in found.read_text().splitlines()]
  # The last evaluation was after the last update, and what it shifted is what was saved.
  assert np.mean(rewards) == pytest.approx(0, abs=1e-5) and np.std(rewards) > 1e-3
  assert np.std(rewards) == pytest.approx(records(unbroken)[-1]["eval/demonstrations/std"], rel=1e-4)
  loaded, digests = load_reader(str(unbroken), find_tokenizer(str(unbroken)), "here", scalar_head=True)
  model = place_reward_model(loaded, "here", mesh=make_mesh({}, jax.devices()[:1]))
  np.testing.assert_allclose(model.score(rows), rewards, atol=1e-5)
  assert list(digests) == ["here"]


@killed_run.PROCESS
def test_a_killed_run_goes_on_bit_for_bit(unbroken, tmp_path, process):
  workdir = tmp_path / "run"
  # Metrics of the last step are written, its parameters are not.
  if process:
    killed_run.run_and_kill("reward_model", CHANGES, workdir, after=5)
  else:
    shutil.copytree(killed_run.killed_at(unbroken, 6), workdir)
  assert [record["step"] for record in records(workdir)] == list(range(6 if process else 7))
  reward_model.train(small(tiny_reward_model, **CHANGES), str(workdir))
  found = records(workdir)
  assert found == records(unbroken)
  assert found[4]["params_sha256"] != found[8]["params_sha256"]
  assert checkpoint.best_step(workdir / "checkpoints") == checkpoint.best_step(unbroken / "checkpoints")


def test_rankings_and_no_demonstrations(tmp_path):
  changes = {"preferences.form": "ranking", "preferences.answers": 4, "shift_to_demonstrations": False, "steps": 2}
  config = small(tiny_reward_model, **changes)
  reward_model.train(config, str(tmp_path / "run"))
  *_, last = records(tmp_path / "run")
  assert "eval/demonstrations/mean" not in last
  assert last["eval/heldout/pairs"] > last["eval/heldout/clusters"]  # all pairs, told by row
  assert last["pairs"] > 8


@pytest.mark.parametrize(
  ("changes", "expected"),
  [
    ({"centering": -0.1}, "centering: -0.1, expected 0 (none) or more"),
    ({"margins": "huge"}, "margins: 'huge', expected one of none, small, large"),
    ({"preferences.form": "pairs"}, "preferences.form: 'pairs', expected one of pair, edited, ranking"),
    ({"eval.best": "held/accuracy"}, "eval.best: 'held/accuracy', expected SET/METRIC with one of heldout"),
    ({"eval.best": "preferences/reward/accuracy"}, "expected SET/METRIC with one of heldout"),
    ({"epochs": -1}, "epochs: -1, expected at least 0"),
    ({"steps": -1}, "steps: -1, expected at least 0"),
    (
      {"tokens_per_micro_batch": 56},
      "tokens_per_micro_batch: 56, expected 0 (chosen) or at least 57, which hold a prompt of 8 tokens "
      "(preferences.max_prompt_length) and 2 answers of 25 (preferences.max_answer_length + 1)",
    ),
    ({"max_skipped_updates": 0}, "max_skipped_updates: 0, expected at least 1"),
    ({"preferences.answers": 3}, "3 answers for the form pair"),
    ({"margins": "small", "preferences.form": "edited"}, "no strength says by how much"),
    ({"optimizer.schedule": "cosine", "optimizer.decay_updates": 1, "optimizer.warmup_updates": 1}, "decay_updates: 1"),
    ({"model.path": "no/such/model"}, "no/such/model"),
    ({"demonstrations.template": "Q"}, "demonstrations.template: 'Q' has no '{prompt}'"),
  ],
)
def test_refusals(changes, expected, tmp_path):
  assert expected in refused(reward_model.train, small(tiny_reward_model, **changes), tmp_path / "run")
