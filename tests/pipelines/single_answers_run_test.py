"""Tests runs of KTO on single answers: what is measured and refused, and that SIGKILL changes no bit."""

import json
import math
import shutil

import pytest

from configs import tiny_dpo, tiny_reward_model
from posttrain_jax.evaluation import reference_logprobs
from posttrain_jax.pipelines import dpo, reward_model
from tests.pipelines import killed_run
from tests.pipelines.small_offline import records, refused, small

CHANGES = {"eval.best": "preferences/reward/accuracy", "steps": 4}
ALONE = {"preferences.held_out": 0.0, "eval.every": 0}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("kto") / "run"
  with killed_run.copied(workdir, 4):
    dpo.train(small(tiny_dpo, "kto_single", **CHANGES), str(workdir))
  return workdir


def thumbs(tmp_path, good, bad):
  """Writes liked and disliked answers to different prompts, and returns the field that names both files."""
  paths = []
  for name, label, count in (("liked", True, good), ("disliked", False, bad)):
    rows = [
      {"prompt": f"{n % 9 + 1}+{n // 9 + 1 + 4 * label}=", "completion": f" Answer: {n % 10}", "label": label}
      for n in range(count)
    ]
    (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    paths.append(str(tmp_path / f"{name}.jsonl"))
  return {"preferences.path": ",".join(paths)}


def test_training_starts_at_the_reference(unbroken):
  zero, first, *_, last = records(unbroken)
  assert zero["eval/preferences/reward/margin"] == 0 and zero["eval/preferences/reward/accuracy"] == 0.5
  assert zero["data/desirable"] + zero["data/undesirable"] == zero["data/examples"] > 50
  assert zero["eval/preferences/answers"] == zero["data/held_out"] > 20
  assert first["loss"] == pytest.approx(0.5, abs=1e-3)  # weights of 1, and 1 − σ(0)
  assert first["kl"] == pytest.approx(0, abs=1e-3) and last["kl"] != 0
  assert last["eval/preferences/reward/accuracy"] != 0.5


def test_a_killed_run_goes_on_bit_for_bit(unbroken, tmp_path, monkeypatch):
  workdir = tmp_path / "run"
  shutil.copytree(killed_run.killed_at(unbroken, 4), workdir)
  monkeypatch.setattr(reference_logprobs, "compute_logprobs", None)  # the reference is kept
  dpo.train(small(tiny_dpo, "kto_single", **CHANGES), str(workdir))
  assert records(workdir) == records(unbroken)
  assert records(workdir)[-1]["params_sha256"] != records(workdir)[2]["params_sha256"]


def test_liked_and_disliked_answers_train_and_uneven_numbers_are_told(tmp_path, capsys):
  changes = {"steps": 0, "epochs": 1, **ALONE, **thumbs(tmp_path, 18, 6)}
  dpo.train(small(tiny_dpo, "kto_single", **changes), str(tmp_path / "run"))
  found = records(tmp_path / "run")
  assert [record["step"] for record in found] == [1, 2, 3] and found[0]["data/desirable"] == 18
  assert math.isfinite(found[-1]["loss"]) and found[-1]["skipped_updates"] == 0
  said = capsys.readouterr().err
  assert "18 good and 6 bad answers count as 18 to 6 with their weights; objective.options.undesirable_weight=3" in said
  assert "24 examples, 18 good, 6 bad" in said


@pytest.mark.parametrize(
  ("good", "bad", "weights", "told"),
  [
    (18, 6, (1.0, 3.0), ""),
    (18, 6, (1.0, 2.3), ""),  # good ones are a little ahead
    (10, 20, (1.0, 1.0), "objective.options.desirable_weight=2 "),
    (10, 20, (1.0, 0.0), ""),  # bad ones are meant to count nothing
  ],
)
def test_weights_that_make_up_for_numbers(good, bad, weights, told):
  options = dict(zip(("desirable_weight", "undesirable_weight"), weights))
  found = dpo._uneven({"data/desirable": good, "data/undesirable": bad}, options)
  assert told in found and bool(told) == bool(found)


@pytest.mark.parametrize("loss", sorted(set(tiny_dpo.OPTIONS) - {"kto", "kto_single", "cdpo"}))
def test_no_other_loss_takes_single_answers(loss, tmp_path):
  both = {**ALONE, **thumbs(tmp_path, 4, 4)}
  found = refused(dpo.train, small(tiny_dpo, loss, **both, **{"preferences.form": "single"}), tmp_path / "run")
  assert f"objective.loss: {loss} compares answers, expected kto for the single answers" in found
  if loss == "dpo":
    found = refused(dpo.train, small(tiny_dpo, loss, **both), tmp_path / "run")
    assert "liked.jsonl:1: no 'chosen' and no 'rejected' among the columns prompt, completion, label; single" in found


def test_a_reward_model_takes_no_single_answers(tmp_path):
  config = small(tiny_reward_model, **{"preferences.form": "single"})
  assert "preferences.form: single, expected pairs or rankings" in refused(reward_model.train, config, tmp_path / "run")


@pytest.mark.parametrize(
  ("good", "bad", "changes", "expected"),
  [
    (4, 0, {}, "disliked.jsonl: "),
    (0, 4, {}, "liked.jsonl: "),
    (4, 4, {"preferences.limit": 3}, "disliked.jsonl: to train on: 3 good and 0 bad answers, expected some"),
    (4, 4, {"objective.options": {"beta": 0.1, "gamma": 1.0}}, "objective.options.gamma: kto has no such option"),
    (4, 4, {"preferences.form": "pair"}, "single answers with a label need preferences.form=single"),
    (4, 4, {"tokens_per_micro_batch": 54}, "tokens_per_micro_batch: 54, expected 0 (chosen) or at least 55"),
  ],
)
def test_refusals(good, bad, changes, expected, tmp_path):
  config = small(tiny_dpo, "kto_single", **{**ALONE, **thumbs(tmp_path, good, bad), **changes})
  assert expected in refused(dpo.train, config, tmp_path / "run")
