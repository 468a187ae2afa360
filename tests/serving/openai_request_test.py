"""Tests how bodies are read, hostile ones included."""

import json

import pytest

from posttrain_jax.serving.openai_request import BadRequest, ParsedRequest

MESSAGES = [{"role": "user", "content": "hi"}]


def chat(**fields):
  return ParsedRequest(json.dumps({"messages": MESSAGES, **fields}).encode(), chat=True)


def text(**fields):
  return ParsedRequest(json.dumps({"prompt": "hi", **fields}).encode(), chat=False)


def test_what_is_left_out_has_openais_defaults():
  parsed = chat()
  (asked,) = parsed.asked
  assert (asked.temperature, asked.top_p, asked.top_k, asked.min_p) == (1.0, 1.0, 0, 0.0)
  assert (asked.max_tokens, asked.stop, asked.seed, asked.n, asked.top_logprobs) == (None, (), None, 1, 0)
  assert (parsed.model, parsed.stream, parsed.include_usage, parsed.logprobs, parsed.choices) == (
    *(None, False, False, False),
    1,
  )
  assert asked.prompt == tuple(MESSAGES) and text().asked[0].prompt == "hi"


def test_what_is_asked_is_read():
  parsed = chat(
    **dict(model="m", temperature=0, top_p=0.5, top_k=4, min_p=0.25, max_completion_tokens=9, stop=["a", "b"]),
    **dict(seed=-3, n=2, stream=True, stream_options={"include_usage": True}, logprobs=True, top_logprobs=5),
    **dict(user="u", metadata={"a": "b"}, presence_penalty=0, tools=None, logit_bias={}, parallel_tool_calls=True),
  )
  (asked,) = parsed.asked
  assert (asked.temperature, asked.top_p, asked.top_k, asked.min_p) == (0.0, 0.5, 4, 0.25)
  assert (asked.max_tokens, asked.stop, asked.seed, asked.n, asked.top_logprobs) == (9, ("a", "b"), -3, 2, 5)
  assert (parsed.model, parsed.stream, parsed.include_usage, parsed.logprobs) == ("m", True, True, True)
  assert chat(max_tokens=5).asked[0].max_tokens == 5 and chat(stop="x").asked[0].stop == ("x",)


def test_several_prompts_are_several_requests():
  parsed = text(prompt=["a", [3, 4]], n=3, logprobs=2)
  assert [each.prompt for each in parsed.asked] == ["a", (3, 4)] and parsed.choices == 6
  assert parsed.logprobs and parsed.asked[0].top_logprobs == 2
  assert text(prompt=[3, 4]).asked[0].prompt == (3, 4)
  assert text(logprobs=0).logprobs and not text().logprobs


OUT_OF_RANGE = [
  *[{"temperature": value} for value in (-0.1, 2.1, "1", True, [], 1e-9)],
  *[{"top_p": value} for value in (0, -1, 1.5, "a")],
  *[{"top_k": value} for value in (-1, 0.5, 2**40, True)],
  *[{"min_p": value} for value in (-0.1, 1.1)],
  *[{"max_tokens": value} for value in (0, -5, 1.5, "7")],
  *[{"n": value} for value in (0, 129, 1.0)],
  *[{"seed": value} for value in (2**63, -(2**63) - 1, 0.5, "s")],
  *[{"stop": value} for value in ("", [""], ["a"] * 17, "x" * 257, 5, [5], {"a": 1})],
  *[{"stream": value} for value in (1, "true")],
  {"model": 5},
]


@pytest.mark.parametrize("fields", OUT_OF_RANGE, ids=str)
def test_values_out_of_range_are_refused_and_named(fields):
  for read in (chat, text):
    with pytest.raises(BadRequest, match=f"{next(iter(fields))}: .*expected") as refused:
      read(**fields)
    assert (refused.value.status, refused.value.param) == (422, next(iter(fields)))
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("messages", [None, [], "hi", {}, [5], ["hi"], [[]]], ids=str)
def test_messages_that_are_no_chat(messages):
  with pytest.raises(BadRequest, match=r"messages: .*expected a list of messages"):
    chat(messages=messages)


@pytest.mark.parametrize("prompt", [None, "", [], [""], [[]], [-1], [True], {}, [["a"]], [1.5], ["a"] * 129], ids=str)
def test_prompts_that_are_no_text(prompt):
  with pytest.raises(BadRequest, match=r"prompt: .*expected text or token ids"):
    text(prompt=prompt)


@pytest.mark.parametrize(
  "fields",
  [
    *({"tools": [{}]}, {"frequency_penalty": 0.5}, {"logit_bias": {"5": 1}}, {"response_format": {"type": "json"}}),
    *({"tool_choice": "auto"}, {"temprature": 1}, {"reasoning_effort": "high"}, {"echo": True}, {"__proto__": 1}),
  ],
  ids=str,
)
def test_what_would_change_the_answer_and_is_not_supported_is_refused(fields):
  for read in (chat, text):
    with pytest.raises(BadRequest, match="is not supported, expected") as refused:
      read(**fields)
    assert (refused.value.status, refused.value.code) == (400, "unsupported_parameter")


def test_each_form_has_its_own_parameters():
  for read, fields in ((text, {"messages": MESSAGES}), (chat, {"prompt": "a"}), (text, {"top_logprobs": 2})):
    with pytest.raises(BadRequest, match="is not supported"):
      read(**fields)


@pytest.mark.parametrize(
  "body",
  [
    *(b"", b"{", b"[]", b"5", b"null", b"\xff\xfe", b'{"messages": [' + b"[" * 100_000, b'{"temperature": 1e999}'),
    *(b'{"seed": ' + b"9" * 5000 + b"}", b'{"stop": "\\ud800"}', b'{"temperature": NaN}', b'{"a": Infinity}'),
  ],
  ids=lambda body: str(body[:20]),
)
def test_bodies_that_are_no_json_object(body):
  with pytest.raises(BadRequest, match="the body is") as refused:
    ParsedRequest(body, chat=True)
  assert refused.value.status == 400 and "\n" not in str(refused.value)


def test_options_of_a_stream_need_a_stream():
  for fields in ({"stream_options": {"include_usage": True}}, {"stream": True, "stream_options": {"other": 1}}):
    with pytest.raises(BadRequest, match="stream_options: expected include_usage alone, in a stream"):
      chat(**fields)
  with pytest.raises(BadRequest, match="top_logprobs: expected logprobs=true as well"):
    chat(top_logprobs=3)
