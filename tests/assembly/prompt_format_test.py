"""Tests that a run's format is found again, and that flags change it."""

import dataclasses
import json

import pytest

from configs import tiny_dapo, tiny_dpo, tiny_sft
from posttrain_jax.assembly.prompt_format import format_of_run, own_format, with_flags
from posttrain_jax.data import demonstrations
from posttrain_jax.data.chat_words import LeftOut
from posttrain_jax.data.prompts import PromptFormat
from posttrain_jax.data.vocabularies import tiny_tokenizer
from posttrain_jax.types import InputError

FORMAT = dict(template="Q: {prompt}", chat=True, system="Be brief.", chat_arguments={"enable_thinking": False})


@pytest.mark.parametrize(
  ("config", "section"), [(tiny_dapo, "prompts"), (tiny_sft, "demonstrations"), (tiny_dpo, "preferences")]
)
def test_a_run_is_asked_as_in_its_training(tmp_path, config, section):
  made = config.get_config()
  made[section].update({**FORMAT, "left_out": "allow"})
  (tmp_path / "config.json").write_text(made.to_json_best_effort())
  found = format_of_run(tmp_path)
  assert found == PromptFormat(**FORMAT, left_out=LeftOut.ALLOW)
  assert with_flags(found, dict.fromkeys(FORMAT)) == found


def test_the_config_of_a_run_without_a_format(tmp_path):
  assert format_of_run(tmp_path) is None
  (tmp_path / "config.json").write_text(json.dumps({"seed": 0}))
  assert format_of_run(tmp_path) is None


def test_flags_come_first():
  asked = PromptFormat(**FORMAT)
  flags = dict(template="{prompt}!", system="", chat_arguments='{"a": 1}', left_out="allow", chat=None)
  expected = PromptFormat(template="{prompt}!", chat=True, chat_arguments={"a": 1}, left_out=LeftOut.ALLOW)
  assert with_flags(asked, flags) == expected
  assert with_flags(asked, {"chat": False}).ask("x") == "Q: x"  # without the run's system message
  for value in ("{", "[1]"):
    with pytest.raises(InputError, match=r"^--chat_arguments"):
      with_flags(asked, {"chat_arguments": value})
  with pytest.raises(InputError, match=r"has no '\{prompt\}'"):
    with_flags(asked, {"template": "Q"})


OWN = {"template": "Q: {prompt}\nA:", "chat": False, "system": ""}


@pytest.fixture
def tokenizer():
  return tiny_tokenizer(demonstrations.SYMBOLS)


def own_run(path, **sections):
  (path / "config.json").write_text(json.dumps(sections))
  (path / "model.json").write_text("{}")
  return str(path)


def test_the_first_section_of_a_run_says_how_it_is_asked(tmp_path, tokenizer):
  later = OWN | {"template": "{prompt}"}
  found = own_format(own_run(tmp_path, prompts=OWN, demonstrations=later), tokenizer)
  assert (found.template, found.chat, found.system) == ("Q: {prompt}\nA:", False, None)
  more = {"chat": True, "system": "Be brief.", "chat_arguments": {"enable_thinking": False}}
  found = own_format(own_run(tmp_path, preferences=OWN | more), tokenizer)
  assert (found.chat, found.system, found.chat_arguments) == (True, "Be brief.", {"enable_thinking": False})


def test_other_models_are_asked_by_their_chat_template(tmp_path, tokenizer):
  assert not own_format("somewhere", tokenizer).chat
  tokenizer = dataclasses.replace(tokenizer, chat_template="{{ messages }}")
  assert own_format("somewhere", tokenizer).chat
  assert own_format(
    own_run(tmp_path, demonstrations={"low": 1}), tokenizer
  ).chat  # a run that says nothing about prompts
