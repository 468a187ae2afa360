"""Tests what the value model starts from."""

import numpy as np
import pytest

from posttrain_jax.assembly.model import Policy, save_description
from posttrain_jax.assembly.value_model import load_value_model, with_value_head
from posttrain_jax.data.demonstrations import SYMBOLS
from posttrain_jax.data.vocabularies import tiny_tokenizer
from posttrain_jax.learner.checkpoint import Checkpointer
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.types import InputError
from tests.random_params import random_params

TOKENIZER = tiny_tokenizer(SYMBOLS)
SIZES = dict(num_layers=1, embed_dim=8, mlp_dim=16, num_heads=2, num_kv_heads=1, head_dim=4)
MODEL = TransformerConfig(vocab_size=TOKENIZER.vocab_size, **SIZES)


def test_without_a_path_it_is_the_policy_with_a_new_head():
  params = random_params(MODEL)
  start, digests = load_value_model("", Policy(MODEL, TOKENIZER, params), "value.path")
  assert start.params is None and digests == {}
  model, found = with_value_head(start, params, seed=0, zero=False)
  assert model.scalar_head and np.asarray(found["score"][...]).std() > 0
  np.testing.assert_array_equal(np.asarray(found["embed"][...]), np.asarray(params["embed"][...]))
  _, zero = with_value_head(start, params, seed=0, zero=True)
  assert not np.asarray(zero["score"][...]).any()


def test_a_reward_model_that_is_loaded_is_shared():
  scalar = TransformerConfig(MODEL.vocab_size, **SIZES, scalar_head=True)
  rewards = Policy(scalar, TOKENIZER, random_params(scalar))
  start, digests = load_value_model("", Policy(MODEL, TOKENIZER), "value.path", reward_model=rewards)
  assert start.params is rewards.params and start.model.scalar_head and digests == {}


def test_a_path_is_loaded_and_computes_as_the_policy_does(tmp_path):
  with Checkpointer(tmp_path / "checkpoints") as checkpoints:
    checkpoints.save(1, {"params": random_params(MODEL)}, {})
  save_description(Policy(MODEL, TOKENIZER), tmp_path)
  wide = Policy(TransformerConfig(MODEL.vocab_size, **SIZES, compute_dtype="bfloat16"), TOKENIZER)
  start, digests = load_value_model(str(tmp_path), wide, "value.path")
  assert start.model.compute_dtype == "bfloat16" and start.params is not None and set(digests) == {"value.path"}
  other = Policy(MODEL, tiny_tokenizer("ab"))
  with pytest.raises(InputError, match=r"^value\.path: .* has another tokeniser than the policy"):
    load_value_model(str(tmp_path), other, "value.path")
