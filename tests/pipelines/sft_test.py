"""Tests fine-tuning's own switches.

They are epochs, dropout, held-out loss, and a reward model that scores sampled answers.
"""

import dataclasses
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from configs import tiny_reward_model, tiny_sft
from posttrain_jax.assembly.demonstrations import DemonstrationSettings, load_demonstrations
from posttrain_jax.assembly.model import Policy, open_policy, save_description
from posttrain_jax.data.supervised import Weighting
from posttrain_jax.data.vocabularies import tiny_tokenizer
from posttrain_jax.learner import checkpoint
from posttrain_jax.models.forward import row_hidden
from posttrain_jax.pipelines import reward_model, sft
from posttrain_jax.runs.settings import parse
from posttrain_jax.runs.workdir import read_config
from tests.pipelines.compiles import compiles_by_step
from tests.pipelines.small_offline import records, refused, small
from tests.random_params import graph

ROOT = Path(__file__).resolve().parents[2]
VALIDATION = {"demonstrations.held_out": 0.3, "eval.best": "-validation/loss", "demonstrations.per_difficulty": 20}
DROPOUT = {"dropout.first": 0.1, "dropout.last": 0.4}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("sft") / "run"
  sft.train(small(tiny_sft, **VALIDATION, **DROPOUT, steps=8), str(workdir))
  return workdir


@pytest.fixture(scope="module")
def scorer(tmp_path_factory):
  """Trains a reward model for one step."""
  workdir = tmp_path_factory.mktemp("scorer") / "run"
  reward_model.train(
    small(tiny_reward_model, steps=1, shift_to_demonstrations=False, **{"eval.every": 0}), str(workdir)
  )
  return workdir


def test_a_resumed_run_with_dropout_is_the_unbroken_one(unbroken, tmp_path):
  workdir = tmp_path / "run"
  sft.train(small(tiny_sft, **VALIDATION, **DROPOUT, steps=4), str(workdir))
  sft.train(small(tiny_sft, **VALIDATION, **DROPOUT, steps=8), str(workdir))
  assert records(workdir) == records(unbroken)


def test_dropout_changes_the_loss_and_not_the_evaluation(unbroken, tmp_path):
  sft.train(small(tiny_sft, **{**VALIDATION, "eval.every": 1}, steps=1), str(tmp_path / "run"))
  (without,) = records(tmp_path / "run")
  dropped = records(unbroken)[0]
  assert abs(without["loss"] - dropped["loss"]) > 1e-4
  assert without["data/tokens"] == dropped["data/tokens"]


def test_the_held_out_loss_is_that_of_each_row_by_itself_and_the_lowest_is_kept(unbroken):
  config = small(tiny_sft, **VALIDATION, **DROPOUT, steps=8)
  policy = open_policy(str(unbroken))
  section = parse(DemonstrationSettings, config.demonstrations, "demonstrations")
  data = load_demonstrations(section, policy.tokenizer, batch_size=8, weighting=Weighting.TOKEN, seed=0)

  @jax.jit
  def logits(batch):
    model = nnx.merge(graph(policy.model), policy.params)
    hidden = row_hidden(model, batch.tokens, positions=batch.positions, segment_ids=batch.segment_ids)
    return hidden @ model.unembedding()

  total, count = 0.0, 0
  for batch in data.validation.in_order():
    found = np.asarray(logits(batch), np.float64)
    logprobs = found - np.log(np.exp(found).sum(-1, keepdims=True))
    for row, position in zip(*np.nonzero(batch.mask[:, 1:])):
      total -= logprobs[row, position, batch.tokens[row, position + 1]]
      count += 1
  evaluated = {r["step"]: r["eval/validation/loss"] for r in records(unbroken) if "eval/validation/loss" in r}
  last = records(unbroken)[-1]
  assert last["eval/validation/tokens"] == count > 50
  assert last["eval/validation/loss"] == pytest.approx(total / count, rel=1e-5)
  assert last["eval/validation/perplexity"] == pytest.approx(np.exp(total / count), rel=1e-4)
  assert set(evaluated) == {2, 4, 6, 8}
  assert checkpoint.best_step(unbroken / "checkpoints") == min(evaluated, key=evaluated.get)


def test_epochs_and_the_end_of_the_decay(tmp_path):
  changes = {"steps": 0, "epochs": 2, "optimizer.schedule": "cosine", "optimizer.decay_updates": 0, "eval.every": 0}
  config = small(tiny_sft, **changes, **{"checkpoint.every": 100})
  sft.train(config, str(tmp_path / "run"))
  found = records(tmp_path / "run")
  resolved = read_config(tmp_path / "run")
  assert len(found) == resolved.steps == resolved.optimizer.decay_updates == -(-2 * found[0]["data/rows"] // 8)
  # Two updates of warm-up, then half a cosine from 1e-2 to a twentieth of it: after the second of two, it is down.
  rates = [record["learning_rate"] for record in found]
  assert rates == pytest.approx([0.005, 0.01, 0.01, 0.00525])


def test_a_reward_model_scores_sampled_answers_and_the_third_step_compiles_nothing(scorer, tmp_path, monkeypatch):
  changes = {"eval.reward_model": str(scorer), "eval.best": "heldout/reward", "steps": 4, "eval.every": 1}
  counts = compiles_by_step(monkeypatch)
  sft.train(small(tiny_sft, sampled=True, **changes, **{"checkpoint.every": 1}), str(tmp_path / "run"))
  assert counts[1] > 0
  assert counts[3] == counts[4] == 0, counts
  found = records(tmp_path / "run")
  for record in found:
    low, mean, high = (record[f"eval/heldout/reward{end}"] for end in ("_low", "", "_high"))
    assert low < mean < high
  best = max(found, key=lambda record: record["eval/heldout/reward"])
  assert checkpoint.best_step(tmp_path / "run" / "checkpoints") == best["step"]


def test_what_is_no_reward_model_of_these_tokens_is_refused(unbroken, scorer, tmp_path):
  def message(path):
    config = small(tiny_sft, sampled=True, **{"eval.reward_model": str(path)})
    return refused(sft.train, config, tmp_path / "run")

  assert f"eval.reward_model: {unbroken} is a language model, expected a reward model" in message(unbroken)
  assert "no/such/model" in message("no/such/model")
  policy = open_policy(str(scorer))
  other = tiny_tokenizer(["a", "b"])
  try:
    model = dataclasses.replace(policy.model, max_position_embeddings=6)
    save_description(Policy(model, policy.tokenizer), scorer)
    assert "eval.reward_model: prompts of up to " in (said := message(scorer)) and "context of 6" in said
    save_description(Policy(policy.model, other), scorer)
    assert "has another tokeniser than the policy, or none; expected the same" in message(scorer)
  finally:
    save_description(dataclasses.replace(policy, params=None), scorer)


@pytest.mark.parametrize(
  ("changes", "expected"),
  [
    ({"eval.best": "validation/loss"}, "eval.best: 'validation/loss', expected SET/METRIC with one of"),
    ({**VALIDATION, "demonstrations.held_out": 1.0}, "demonstrations.held_out: 1.0, expected a share"),
    ({**VALIDATION, "demonstrations.held_out": 1e-9}, "expected some of each"),
    ({"dropout.last": 1.0}, "dropout: rates first 0.0 and last 1.0, expected both in [0, 1)"),
    ({"loss_weighting": "example"}, "loss_weighting: 'example', expected one of token, sequence"),
    ({"epochs": -1}, "epochs: -1, expected at least 0"),
    ({"steps": -1}, "steps: -1, expected at least 0"),
    ({"steps": 0, "epochs": 0, "eval.every": -1}, "eval.every: -1"),
  ],
)
def test_refusals(changes, expected, tmp_path):
  config = small(tiny_sft, sampled=True, **{"eval.best": "heldout/avg@2", **changes})
  assert expected in refused(sft.train, config, tmp_path / "run")


@pytest.mark.parametrize(
  ("binary", "flag", "expected"),
  [
    ("dpo", "--config.objective.loss=dpoo", "objective.loss: 'dpoo'"),
    pytest.param("reward_model", "--config.margins=huge", "margins: 'huge'", marks=pytest.mark.slow),
  ],
)
def test_exit_code_2_and_one_line(binary, flag, expected, tmp_path):
  command = [sys.executable, "-m", f"experiments.{binary}", f"--workdir={tmp_path}/run", "--config.mesh.data=8", flag]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 2, done.stderr
  (line,) = done.stderr.strip().splitlines()
  assert expected in line and not (tmp_path / "run").exists()
