"""Tests which models may read a policy's answers, and that a refusal does not wait for their weights."""

import dataclasses

import jax
import numpy as np
import pytest

from posttrain_jax.assembly import readers
from posttrain_jax.assembly.model import Policy, save_description
from posttrain_jax.assembly.teacher import load_teacher
from posttrain_jax.assembly.value_model import load_value_model
from posttrain_jax.data.vocabularies import tiny_tokenizer
from posttrain_jax.learner.checkpoint import Checkpointer
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.types import InputError
from tests.random_params import random_params
from tests.sampling.small_engine import new_engine

TOKENIZER, OTHER = tiny_tokenizer("ab"), tiny_tokenizer("ba")
MODEL = TransformerConfig(
  vocab_size=TOKENIZER.vocab_size,
  num_layers=1,
  embed_dim=8,
  mlp_dim=16,
  num_heads=2,
  num_kv_heads=1,
  head_dim=4,
  max_position_embeddings=20,
)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
  found = {}
  for name, scalar in (("language", False), ("reward", True)):
    path, model = tmp_path_factory.mktemp(name), dataclasses.replace(MODEL, scalar_head=scalar)
    with Checkpointer(path / "checkpoints") as checkpoints:
      checkpoints.save(1, {"params": random_params(model)}, {})
    save_description(Policy(model, TOKENIZER), path)
    found[name] = str(path)
  return found


def test_a_reader_has_its_weights_and_their_digest(paths):
  for name, scalar in (("language", False), ("reward", True)):
    policy, digests = readers.load_reader(paths[name], TOKENIZER, "here", scalar_head=scalar)
    assert policy.model.scalar_head == scalar and set(digests) == {"here"}
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(policy.params))
    assert readers.load_reader(paths[name], TOKENIZER, "here")[0].model == policy.model


def test_no_weights_are_read_of_a_model_that_is_refused(paths, monkeypatch):
  monkeypatch.setattr(readers, "load_model", lambda path: pytest.fail("weights are read"))
  with pytest.raises(InputError, match=r"^here: \S+ is a language model, expected a reward model"):
    readers.load_reader(paths["language"], TOKENIZER, "here", scalar_head=True)
  with pytest.raises(InputError, match=r"^teacher\.path: \S+ is a reward model, expected a language model"):
    load_teacher(paths["reward"], TOKENIZER, wanted=True, advantage="distillation")
  with pytest.raises(InputError, match=r"^teacher\.path: \S+ has another tokeniser than the policy, or none"):
    load_teacher(paths["language"], OTHER, wanted=True, advantage="distillation")
  for path in paths.values():
    with pytest.raises(InputError, match=r"^value\.path: \S+ has another tokeniser than the policy, or none"):
      load_value_model(path, Policy(MODEL, OTHER), "value.path")


def test_no_weights_are_read_of_a_model_that_answers_outgrow(paths, monkeypatch):
  long = new_engine(max_prompt_length=9, max_new_tokens=12)
  message = "prompts of up to 9 and answers of 12 tokens: 21 tokens are more than the model's context of 20 "
  with monkeypatch.context() as unread:
    unread.setattr(readers, "load_model", lambda path: pytest.fail("weights are read"))
    with pytest.raises(InputError, match=f"^here: {message}"):
      readers.load_reader(paths["reward"], TOKENIZER, "here", scalar_head=True, engines=[long])
    with pytest.raises(InputError, match=rf"^teacher\.path: {message}"):
      load_teacher(paths["language"], TOKENIZER, wanted=True, advantage="distillation", engines=[long])
    with pytest.raises(InputError, match=rf"^value\.path: {message}"):
      load_value_model(paths["language"], Policy(MODEL, TOKENIZER), "value.path", engines=[long])
  short = new_engine(max_prompt_length=9, max_new_tokens=11)
  assert readers.load_reader(paths["reward"], TOKENIZER, "here", engines=[short])[0].model.scalar_head
