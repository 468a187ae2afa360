"""Tests that any fault of a config or of data is one line.

It comes before a directory is made and before anything compiles.
"""

import json
import pathlib
import subprocess
import sys

import jax
import pytest

from configs import tiny_dapo
from posttrain_jax.data.vocabularies import tiny_tokenizer
from posttrain_jax.pipelines import grpo, sft
from posttrain_jax.types import InputError

ROOT = pathlib.Path(__file__).resolve().parents[2]
_compiles = []
jax.monitoring.register_event_duration_secs_listener(
  lambda event, duration, **_: _compiles.append(event) if event.endswith("backend_compile_duration") else None
)


def refused(tmp_path, train=grpo.train, **changes):
  """Returns the message with which a config is refused."""
  config = tiny_dapo.get_config()
  config.warmup.demonstrations.per_difficulty = config.prompts.per_difficulty = 20  # what is checked is made first
  config.eval.sets.heldout.prompts.per_difficulty = 4
  for name, value in changes.items():
    *groups, field = name.split("__")
    section = config
    for group in groups:
      section = section[group]
    section[field] = value
  config.lock()
  workdir = tmp_path / "run"
  _compiles.clear()
  with pytest.raises(InputError) as error:
    train(config, str(workdir))
  assert "\n" not in str(error.value)
  assert not workdir.exists()
  assert not _compiles
  return str(error.value)


def jsonl(tmp_path, *lines):
  path = tmp_path / "prompts.jsonl"
  path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
  return str(path)


GOOD = {"prompt": "1+2=", "answer": "3"}


def test_mesh(tmp_path):
  assert "mesh: data=3 x fsdp=1 x tensor=1 needs 3 devices, there are 8" in refused(tmp_path, mesh__data=3)


def test_slots_that_do_not_divide_over_the_mesh(tmp_path):
  message = refused(tmp_path, mesh__data=8, rollout__slots=60)
  assert "rollout.slots: 60 slots do not divide over data x fsdp = 8 shards" in message


def test_malformed_line(tmp_path):
  path = jsonl(tmp_path, GOOD, '{"prompt": "1+2=", \n')
  assert f"{path}:2: malformed JSON" in refused(tmp_path, mesh__data=8, prompts__path=path)


def test_missing_answer(tmp_path):
  path = jsonl(tmp_path, GOOD, GOOD, {"prompt": "1+2="})
  message = refused(tmp_path, mesh__data=8, prompts__path=path)
  assert f"{path}:3" in message and "answer" in message


def test_prompt_over_the_limit(tmp_path):
  path = jsonl(tmp_path, GOOD, {"prompt": "1" * 9 + "=", "answer": "3"})
  message = refused(tmp_path, mesh__data=8, prompts__path=path)
  assert f"{path}:2" in message and "10 tokens" in message and "8" in message


def test_no_rows_and_no_file(tmp_path):
  assert "no rows" in refused(tmp_path, mesh__data=8, prompts__path=jsonl(tmp_path))
  assert "no such file" in refused(tmp_path, mesh__data=8, prompts__path=str(tmp_path / "absent.jsonl"))


def test_text_that_the_tokeniser_does_not_have(tmp_path):
  path = jsonl(tmp_path, {"prompt": "2x=", "answer": "3"})
  message = refused(tmp_path, mesh__data=8, prompts__path=path)
  assert f"{path}:1" in message and "'x'" in message


def test_tokeniser_larger_than_the_model(tmp_path):
  message = refused(tmp_path, mesh__data=8, model__vocab_size=7)
  assert "tokenizer has" in message and "model.vocab_size is 7" in message


def test_evaluation_set_that_is_not_there(tmp_path):
  message = refused(tmp_path, mesh__data=8, eval__sets__heldout__prompts__path=str(tmp_path / "absent.jsonl"))
  assert "absent.jsonl" in message


@pytest.mark.parametrize(
  ("field", "value", "expected"),
  [
    ("objective__aggregation", "token_meen", "expected one of token_mean, prompt_mean"),
    ("dynamic_sampling__admission", "keep", "expected one of drain, exact, carry, filter, batch"),
    ("dynamic_sampling__max_staleness", -1, "expected at least 0"),
    ("dynamic_sampling__max_prompts", 8, "expected at least 16"),
    ("overlong__filter", "yes", "expected one of off, loss, group"),
    ("overlong__penalty_buffer", 25, "expected 0 to max_length = 24"),
    ("advantage", "gae", "expected one of batch_centered"),
    ("teacher__path", "runs/teacher", "expected none, as advantage=group_normalized takes no teacher"),
    ("reference__refresh_every", -1, "expected at least 0"),
    ("reference__kl_in_reward", -0.5, "expected at least 0"),
    ("objective__surrogate", "importance_correction", "expected one of clip_cov"),
    ("objective__kl_estimator", "k1", "k1 has no gradient"),
    ("rollout__sampling__top_p", 0.7, "rollout.train_on_truncated=True"),
    ("rollout__sampling__temperature", 0.0, "more than 0"),
    ("rollout__slots", 12, "12 slots do not divide"),
    ("rollout__group_size", 1, "at least 2"),
    ("rewards__accuracy", "right", "correct"),
    ("eval__answer_style", "boxed", "eval.answer_style: 'boxed', expected 'answer_line'"),
    ("eval__best", "held/avg@8", "expected SET/METRIC with one of heldout"),
    ("learner__updates_per_step", 0, "learner.updates_per_step: 0, expected at least 1"),
    ("checkpoint__every", 0, "checkpoint.every: 0, expected at least 1"),
    ("objective__logprob_chunk", 0, "logprob_chunk: 0"),
    ("steps", -1, "steps: -1, expected at least 0"),
    ("rewards__functions__correct__function", "posttrain_jax.rewards.verifiers:exakt", "exakt"),
    ("model__path", "no/such/model", "no/such/model"),
    ("model__head_dim", 25, "head_dim: 25 is odd"),
    ("learner__updates_per_step", 3, "does not divide rollout.groups = 16"),
    ("optimizer__schedule", "cosine", "decay_updates"),
    ("warmup__batch_size", 12, "12 rows do not divide"),
  ],
)
def test_values_without_a_meaning(tmp_path, field, value, expected):
  assert expected in refused(tmp_path, mesh__data=8, **{field: value})


def test_supervised_fine_tuning_checks_first_too(tmp_path):
  from configs import tiny_sft

  config = tiny_sft.get_config()
  config.mesh.data = 8
  config.eval.sets.heldout.prompts.per_difficulty = 4
  config.demonstrations.path = jsonl(tmp_path, {"prompt": "1+2=", "completion": " Answer: x"})
  with pytest.raises(InputError, match="no token for 'x'"):
    sft.train(config, str(tmp_path / "run"))
  assert not (tmp_path / "run").exists()


def test_a_tokeniser_is_a_tokeniser():
  with pytest.raises(InputError, match="no token"):
    tiny_tokenizer(["a", "b"]).encode("abc")


def test_exit_code_and_the_closest_name(tmp_path):
  done = subprocess.run(
    [sys.executable, "-m", "experiments.dapo", f"--workdir={tmp_path}/run", "--config.rollout.grups=4"],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 2
  (line,) = done.stderr.strip().splitlines()
  assert "rollout.grups" in line and "rollout.groups" in line
  assert not (tmp_path / "run").exists()


def test_exit_code_of_bad_data(tmp_path):
  path = jsonl(tmp_path, GOOD, "not json\n")
  done = subprocess.run(
    [
      sys.executable,
      "-m",
      "experiments.grpo",
      f"--workdir={tmp_path}/run",
      f"--config.prompts.path={path}",
      "--config.mesh.data=8",
    ],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 2, done.stderr
  (line,) = done.stderr.strip().splitlines()
  assert f"{path}:2" in line
