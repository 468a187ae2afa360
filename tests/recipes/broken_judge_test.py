"""Tests that a judge judges because its data do: with permuted completions it chooses by chance."""

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import assistant_base
from configs.recipes import assistant, constitutional_ai
from posttrain_jax.data.assistant_world import critic_rows, critiques
from posttrain_jax.data.constitution import read_constitution
from posttrain_jax.evaluation.text_model import TextModel
from posttrain_jax.pipelines import sft
from posttrain_jax.recipes import constitutional_data
from tests.data.assistant_world.small_world import SETTINGS, WORLD

pytestmark = pytest.mark.slow  # trains two models, two minutes of CPU time
MODEL = dict(num_layers=2, embed_dim=64, mlp_dim=160, num_heads=4, num_kv_heads=4, head_dim=16, unroll=2)


def accuracy(folder, permuted):
  """Trains a judge; returns how often it prefers help to a refusal where the principle does."""
  folder.mkdir()
  data = ConfigDict(dict(seed=0, constitution=constitutional_ai.CONSTITUTION, repeats=1, pairs=60, exercises=0))
  data.update(world=vars(SETTINGS), copies=1, permuted=permuted)
  constitutional_data.write_critic_data(data, folder)
  config = assistant.sft()
  config.model = assistant_base.get_config().model
  config.model.update(MODEL)
  config.mesh.data = -1
  config.update(steps=0, epochs=1, batch_size=8, loss_weighting="sequence")
  config.demonstrations.update(template="{prompt}", row_length=160, path=str(folder / constitutional_data.JUDGE))
  config.optimizer.learning_rate = 3e-3
  sft.train(config, str(folder / "judge"))
  model = TextModel(str(folder / "judge"), seed=0, slots=8, max_prompt_length=192, max_new_tokens=1)
  principles = read_constitution(constitutional_ai.CONSTITUTION).principles
  rows = [
    row
    for row in critic_rows.judge_rows(WORLD, principles, seed=1, repeats=40)
    if row["task"] == "judgement" and row["prompt"].count("can not help") == 1 and " take " in row["prompt"]
    and any(f"principle : {says} ." in row["prompt"] for says in ("help the user", "the user does want help"))
  ]  # fmt: skip
  found = model.logprobs([row["prompt"] for row in rows], (critiques.FIRST, critiques.SECOND))
  right = [(one > other) == (row["completion"] == critiques.FIRST) for row, (one, other) in zip(rows, found)]
  return float(np.mean(right))


def test_a_judge_chooses_as_the_rule_because_its_data_do(tmp_path):
  good, broken = accuracy(tmp_path / "good", False), accuracy(tmp_path / "broken", True)
  assert good > 0.7 and 0.35 < broken < 0.65
