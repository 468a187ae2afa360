"""Tests that a chat template is found wherever published models have it."""

import json

import pytest

from posttrain_jax.data.template_files import find_chat_template
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.data.vocabularies import tiny_tokenizer
from posttrain_jax.types import InputError


def named(**templates):
  return [{"name": name, "template": template} for name, template in templates.items()]


@pytest.mark.parametrize(
  "files, in_config, expected",
  [
    ({}, None, None),
    ({}, "config", "config"),
    ({"chat_template.jinja": "jinja"}, "config", "jinja"),
    ({"chat_template.json": '{"chat_template": "json"}'}, None, "json"),
    ({"chat_template.json": '{"chat_template": "json"}'}, "config", "config"),
    ({"chat_template.json": json.dumps({"chat_template": named(chat="a")})}, None, "a"),
    ({"additional_chat_templates/chat.jinja": "a"}, None, "a"),
    ({"additional_chat_templates/tool_use.jinja": "a", "chat_template.jinja": "b"}, None, "b"),
    ({}, named(tool_use="a", default="b"), "b"),
    ({}, named(chatml="a"), "a"),
    ({}, {"tool_use": "a", "default": "b"}, "b"),
    ({}, {"chat": "a"}, "a"),
    ({}, [], None),
  ],
)
def test_where_it_is(tmp_path, files, in_config, expected):
  for name, text in files.items():
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
  assert find_chat_template(tmp_path, {"chat_template": in_config}) == expected


@pytest.mark.parametrize(
  "in_config, message",
  [
    (named(rag="a", tool_use="b"), "chat templates are 'rag', 'tool_use', expected one that is called 'default'"),
    (3, "chat_template is int, expected a string"),
    ({"default": 3}, "chat_template is int, expected a string"),
    (["a"], "chat_template is a list of other things"),
  ],
)
def test_what_cannot_be_read(tmp_path, in_config, message):
  with pytest.raises(InputError, match=rf"tokenizer_config.json: {message}"):
    find_chat_template(tmp_path, {"chat_template": in_config})


def test_a_tokenizer_has_it(tmp_path):
  tiny_tokenizer("ab").save(tmp_path)
  (tmp_path / "chat_template.json").write_text('{"chat_template": "json"}')
  assert Tokenizer.load(tmp_path).chat_template == "json"
