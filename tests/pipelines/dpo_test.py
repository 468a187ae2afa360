"""Tests DPO's run: where it starts, what it measures, and that SIGKILL changes no bit of it."""

import math
import shutil

import pytest

from configs import tiny_dpo
from posttrain_jax.evaluation import reference_logprobs
from posttrain_jax.pipelines import dpo
from posttrain_jax.types import InputError
from tests.pipelines import killed_run
from tests.pipelines.small_offline import records, refused, small

BEST = {"eval.best": "preferences/reward/accuracy"}
CHANGES = {**BEST, "steps": 8, "objective.nll_weight": 0.1, "objective.nll_mean": True}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("dpo") / "run"
  with killed_run.copied(workdir, 6):
    dpo.train(small(tiny_dpo, **CHANGES), str(workdir))
  return workdir


def test_training_starts_at_the_reference(unbroken):
  zero, first, *_, last = records(unbroken)
  assert zero["step"] == zero["updates"] == 0
  for name in ("reward/margin", "logprob/chosen_moved", "logprob/rejected_moved"):
    assert zero[f"eval/preferences/{name}"] == 0, name  # the same program: not even rounding
    assert first[name] == pytest.approx(0, abs=1e-3), name
  assert zero["eval/preferences/reward/accuracy"] == 0.5  # ties are half a win
  assert zero["eval/preferences/pairs"] == zero["data/held_out"] > 5
  assert first["loss"] > math.log(2)  # the likelihood term comes on top
  assert last["logprob/chosen_moved"] != 0 and last["eval/preferences/logprob/chosen_moved"] != 0


@killed_run.PROCESS
def test_a_killed_run_goes_on_with_its_cached_reference_bit_for_bit(unbroken, tmp_path, monkeypatch, process):
  workdir = tmp_path / "run"
  if process:
    killed_run.run_and_kill("dpo", CHANGES, workdir, after=6)  # while the checkpoint of step 6 is written
  else:
    shutil.copytree(killed_run.killed_at(unbroken, 6), workdir)
  (cached,) = (workdir / "reference").iterdir()
  before = cached.stat().st_mtime_ns
  monkeypatch.setattr(reference_logprobs, "compute_logprobs", None)  # the module's own: calling it would raise
  dpo.train(small(tiny_dpo, **CHANGES), str(workdir))
  assert cached.stat().st_mtime_ns == before
  found = records(workdir)
  assert found == records(unbroken)
  assert found[6]["params_sha256"] != found[8]["params_sha256"]


def test_sampled_answers_and_the_kl_to_the_reference(tmp_path, capsys):
  dpo.train(small(tiny_dpo, sampled=True, steps=2, **{"eval.best": "heldout/avg@2"}), str(tmp_path / "run"))
  zero, first, last = records(tmp_path / "run")
  assert first["loss"] == pytest.approx(math.log(2), abs=1e-4)
  assert zero["eval/heldout/kl_to_reference"] == pytest.approx(0, abs=1e-3)
  assert abs(last["eval/heldout/kl_to_reference"]) > 0.01
  assert last["eval/heldout/problems"] == zero["eval/heldout/problems"] > 0
  assert "answers end at 1 '<eos>'" in capsys.readouterr().err


def test_epochs_nothing_held_out_and_answers_to_other_prompts(tmp_path):
  changes = {"steps": 0, "epochs": 1, "preferences.held_out": 0.0, "preferences.limit": 20, "eval.every": 0}
  changes["preferences.max_answer_length"] = 99
  dpo.train(small(tiny_dpo, "kto", **changes), str(tmp_path / "run"))
  found = records(tmp_path / "run")
  assert math.isfinite(found[-1]["loss"]) and found[-1]["skipped_updates"] == 0 and found[-1]["updates"] == 3
  assert [record["step"] for record in found] == [1, 2, 3]  # 20 pairs in batches of 8
  assert found[0]["data/pairs"] == 20 and found[0]["data/held_out"] == 0


@pytest.mark.parametrize(
  ("changes", "expected"),
  [
    ({"objective.loss": "dpoo"}, "objective.loss: 'dpoo', expected one of dpo, robust"),
    ({"objective.options": {"beta": 0.1, "gamma": 1.0}}, "objective.options.gamma: dpo has no such option"),
    ({"objective.options": {}}, "objective.options.beta: missing, dpo needs it"),
    ({"objective.loss": "dpop"}, "objective.options.penalty: missing, dpop needs it"),
    ({"preferences.strengths": ("hugely",)}, "preferences.strengths: 'hugely', expected one of significantly"),
    ({"preferences.held_out": 1.0}, "preferences.held_out: 1.0, expected a share from 0 to below 1"),
    ({"preferences.held_out": 1e-9}, "held out, expected some of each"),
    ({"preferences.limit": -1}, "preferences.limit: -1"),
    ({"eval.every": 1, "eval.best": "held/avg@2"}, "eval.best: 'held/avg@2', expected SET/METRIC with one of heldout"),
    ({"reference.cache": "gs://b/c"}, "reference.cache: gs://b/c: only paths of this machine's file system"),
    ({"preferences.path": "s3://b/c.jsonl"}, "s3://b/c.jsonl: only paths of this machine's file system"),
    ({"steps": -1}, "steps: -1, expected at least 0"),
    ({"epochs": -2}, "epochs: -2, expected at least 0"),
    ({"batch_size": 0}, "in batches of 0, expected at least one"),
    (
      {"tokens_per_micro_batch": 54},
      "tokens_per_micro_batch: 54, expected 0 (chosen) or at least 55, which hold a prompt of 8 tokens "
      "(preferences.max_prompt_length) and 2 answers of 24 (preferences.max_answer_length)",
    ),
    ({"tokens_per_micro_batch": -1}, "tokens_per_micro_batch: -1, expected at least 0"),
    ({"warmup.steps": -1}, "warmup.steps: -1, expected at least 0"),
  ],
)
def test_refusals(changes, expected, tmp_path):
  assert expected in refused(dpo.train, small(tiny_dpo, sampled=True, **{**BEST, **changes}), tmp_path / "run")


def test_kto_needs_two_prompts(tmp_path):
  path = tmp_path / "one.jsonl"
  path.write_text('{"prompt": "1+2=", "chosen": " Answer: 3", "rejected": " Answer: 4"}\n' * 3)
  config = small(tiny_dpo, "kto", **{"preferences.path": str(path), "preferences.held_out": 0.0, "eval.every": 0})
  assert "no other prompt among 3 comparisons" in refused(dpo.train, config, tmp_path / "run")


def test_another_objective_is_another_run(unbroken):
  with pytest.raises(InputError, match=r"objective.nll_weight was 0.1 when the run started, found 0.2 now"):
    dpo.train(small(tiny_dpo, **{**CHANGES, "objective.nll_weight": 0.2}), str(unbroken))
