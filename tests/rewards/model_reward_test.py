import dataclasses
import functools

import jax
import numpy as np
import pytest
from flax import nnx

from posttrain_jax.models import heads
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.rewards import model_reward
from posttrain_jax.rewards.model_reward import ModelReward
from posttrain_jax.types import Answer, FinishReason, Group, InputError, Prompt
from tests.random_params import graph, random_params

CONFIG = TransformerConfig(
  vocab_size=20, num_layers=2, embed_dim=8, mlp_dim=12, num_heads=2, num_kv_heads=2, head_dim=4, scalar_head=True
)
rng = np.random.default_rng(0)
ROWS = [rng.integers(0, 20, length).tolist() for length in (3, 20, 1, 16, 5, 40, 2)]
params = functools.cache(lambda: random_params(CONFIG))


def alone(config=CONFIG):
  """Scores each row by itself, without padding."""
  model = nnx.merge(graph(config), params())
  score = jax.jit(lambda tokens: heads.row_scores(model, tokens, np.array([tokens.shape[1]])))
  return np.array([score(np.array([row]))[0] for row in ROWS])


def test_rows_of_all_lengths_have_the_scores_they_have_alone():
  found = ModelReward(CONFIG, params(), tokens_per_batch=64).score(ROWS)
  assert found.dtype == np.float32
  np.testing.assert_allclose(found, alone(), atol=1e-5)


def test_a_mesh_changes_nothing():
  mesh = make_mesh(dict(data=2, fsdp=2, tensor=2))
  found = ModelReward(CONFIG, params(), tokens_per_batch=64, mesh=mesh).score(ROWS)
  np.testing.assert_allclose(found, ModelReward(CONFIG, params(), tokens_per_batch=64).score(ROWS), atol=2e-6)


def test_bfloat16_keeps_norms_and_head_in_float32():
  """Matrices are kept as they are computed with, which changes not a bit."""
  config = dataclasses.replace(CONFIG, compute_dtype="bfloat16")
  reward = ModelReward(config, params(), tokens_per_batch=16)
  assert reward.params["blocks"]["mlp"]["up"][...].dtype == "bfloat16"
  assert reward.params["score"][...].dtype == reward.params["final_norm"]["scale"][...].dtype == "float32"
  rows = [row for row in ROWS if len(row) <= 16]
  tokens, lengths = np.zeros((len(rows), 16), np.int32), np.array([len(row) for row in rows])
  for i, row in enumerate(rows):
    tokens[i, : len(row)] = row
  expected = [
    model_reward.score_rows(config, params(), tokens[i : i + 1], lengths[i : i + 1])[0] for i in range(len(rows))
  ]
  np.testing.assert_array_equal(reward.score(rows), expected)


def test_parameters_are_copied():
  given = ModelReward(CONFIG, random_params(CONFIG)).params  # are in their layout already
  reward = ModelReward(CONFIG, given, tokens_per_batch=64)
  before = reward.score(ROWS)
  # What a learner's next update does: it writes over the parameters that it is given.
  jax.jit(lambda params: jax.tree.map(lambda leaf: leaf * 0, params), donate_argnums=0)(given)
  np.testing.assert_array_equal(reward.score(ROWS), before)


def test_another_version_of_the_model_compiles_nothing():
  ModelReward(CONFIG, params(), tokens_per_batch=64).score(ROWS)
  compiled = model_reward.score_rows._cache_size()
  ModelReward(CONFIG, heads.shift_scores(params(), 1.0), tokens_per_batch=64).score(ROWS[:3] + ROWS)
  assert model_reward.score_rows._cache_size() == compiled


def group(index, prompt, answers):
  finish = [FinishReason.EOS, FinishReason.LENGTH]
  return Group(
    Prompt(index, tuple(prompt), {}),
    tuple(
      Answer(np.array(tokens, np.int32), *[np.zeros(len(tokens), np.float32)] * 2, np.zeros(len(tokens), np.int32), why)
      for tokens, why in zip(answers, finish)
    ),
  )


def test_answers_are_scored_behind_their_prompts():
  """Scores an answer that ran into the cap, too."""
  groups = [group(0, [1, 2, 3], [[4, 5], [6]]), group(1, [7], [list(range(19))])]
  reward = ModelReward(CONFIG, params(), tokens_per_batch=64)
  found = reward.score_groups(groups)
  expected = reward.score([[1, 2, 3, 4, 5], [1, 2, 3, 6], [7, *range(19)]])
  assert [scores.shape for scores in found] == [(2,), (1,)]
  np.testing.assert_array_equal(np.concatenate(found), expected)


def test_what_cannot_be_scored_is_refused():
  with pytest.raises(InputError, match="is a language model, expected a reward model"):
    ModelReward(dataclasses.replace(CONFIG, scalar_head=False), params())
  reward = ModelReward(CONFIG, params())
  with pytest.raises(InputError, match="row 1: found no tokens"):
    reward.score([[1], []])
  with pytest.raises(InputError, match="row 0: expected token ids from 0 to 19"):
    reward.score([[1, 20]])
