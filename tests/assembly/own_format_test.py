import dataclasses
import json

import pytest

from posttrain_jax.assembly.own_format import own_format
from posttrain_jax.data import demonstrations
from posttrain_jax.data.tokenizer import tiny_tokenizer

FORMAT = {"template": "Q: {prompt}\nA:", "chat": False, "system": ""}


@pytest.fixture
def tokenizer():
  return tiny_tokenizer(demonstrations.SYMBOLS)


def run(path, **sections):
  (path / "config.json").write_text(json.dumps(sections))
  (path / "model.json").write_text("{}")
  return str(path)


def test_a_run_is_asked_as_in_its_training(tmp_path, tokenizer):
  later = FORMAT | {"template": "{prompt}"}
  found = own_format(run(tmp_path, prompts=FORMAT, demonstrations=later), tokenizer)
  assert (found.template, found.chat, found.system) == ("Q: {prompt}\nA:", False, None)
  more = {"chat": True, "system": "Be brief.", "chat_arguments": {"enable_thinking": False}}
  found = own_format(run(tmp_path, preferences=FORMAT | more), tokenizer)
  assert (found.chat, found.system, found.chat_arguments) == (True, "Be brief.", {"enable_thinking": False})


def test_other_models_are_asked_by_their_chat_template(tmp_path, tokenizer):
  assert not own_format("somewhere", tokenizer).chat
  tokenizer = dataclasses.replace(tokenizer, chat_template="{{ messages }}")
  assert own_format("somewhere", tokenizer).chat
  assert own_format(run(tmp_path, demonstrations={"low": 1}), tokenizer).chat  # a run that says nothing about prompts
