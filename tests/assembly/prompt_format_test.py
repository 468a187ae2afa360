"""Tests that a run's format is found again, and that flags change it."""

import json

import pytest

from configs import tiny_dapo, tiny_dpo, tiny_sft
from posttrain_jax.assembly.prompt_format import format_of_run, with_flags
from posttrain_jax.data.chat_words import LeftOut
from posttrain_jax.data.prompts import PromptFormat
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
