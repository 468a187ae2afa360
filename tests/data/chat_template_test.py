"""Tests the forms in which messages and tools are read; `chat_test` compares templates with published values."""

import json

import pytest

from posttrain_jax.data.chat_template import plain, render, tools_of, turn_endings
from posttrain_jax.types import InputError

TEMPLATE = "{% for m in messages %}{{ m.role[0] + ':' + m.content + ';' }}{% endfor %}"
TOOL = {"type": "function", "function": {"name": "add"}}


def test_lists_of_text_parts_are_joined():
  parts = [{"type": "text", "text": "a"}, {"type": "input_text", "text": "b"}, "c"]
  messages = [{"role": "user", "content": parts}, {"role": "assistant", "content": [], "reasoning_content": "d"}]
  assert plain(messages) == [{"role": "user", "content": "abc"}, {**messages[1], "content": ""}]
  assert messages[0]["content"] is parts
  assert render(messages, TEMPLATE) == "u:abc;a:;"


@pytest.mark.parametrize(
  ("part", "kind"),
  [({"type": "image_url", "image_url": "x"}, "image_url"), ({"type": "image", "text": "x"}, "image"), (3, "int")],
)
def test_parts_that_are_not_text_are_refused(part, kind):
  with pytest.raises(InputError, match=f"^chat: content of message 1 has a part of type '{kind}', expected text"):
    plain([{"role": "user", "content": "a"}, {"role": "user", "content": [part]}])


@pytest.mark.parametrize("tools", [None, [], "", " ", [TOOL], json.dumps([TOOL])])
def test_tools_are_a_list_or_json_of_one(tools):
  assert tools_of({"tools": tools}) == ([TOOL] if (tools and len(tools) > 1) or tools == [TOOL] else None)
  assert tools_of({}) is None


@pytest.mark.parametrize(
  ("tools", "message"), [("{", "malformed JSON"), ({"a": 1}, "expected a list"), ([1], "expected a list")]
)
def test_malformed_tools(tools, message):
  with pytest.raises(InputError, match=f"^tools.*{message}"):
    tools_of({"tools": tools})


def test_endings_of_turns():
  assert turn_endings(TEMPLATE, {}) == [";"]
  last = TEMPLATE.replace("';'", "(eos if loop.last else ';')")
  assert turn_endings(last, {"eos": "!"}) == [";", "!"]
  assert turn_endings("{% for m in messages %}x{% endfor %}", {}) == []
