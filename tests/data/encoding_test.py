import numpy as np
import pytest

from posttrain_jax.data import encoding
from posttrain_jax.data.prompts import PromptFormat, Row, make_prompts, named_rows
from posttrain_jax.data.vocabularies import tiny_tokenizer
from posttrain_jax.types import InputError

# One token each for the header of every role and for the end of a turn.
ROLES = ("<system>", "<user>", "<assistant>", "<end>")
TEMPLATE = (
  "{% for message in messages %}{{ '<' + message['role'] + '>' + message['content'] + '<end>' }}{% endfor %}"
  "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)
CHAT = tiny_tokenizer((*ROLES, *"abcdefgh"), chat_template=TEMPLATE)


def said(role, content):
  return {"role": role, "content": content}


def shown(example, tokenizer=CHAT):
  """Returns the text of an example, with brackets around what is learned."""
  text = "".join(
    f"[{tokenizer.decode([t])}]" if m else tokenizer.decode([t]) for t, m in zip(example.tokens, example.mask)
  )
  return text.replace("][", "")


def encoded(columns, *, chat=True, tokenizer=CHAT, **options):
  (example,) = encoding.encode_demonstrations([Row(columns, "d.jsonl:3")], tokenizer, chat=chat, **options)
  assert example.source == "d.jsonl:3" and example.tokens.dtype == np.int32 and example.mask.dtype == bool
  return shown(example, tokenizer)


def test_completion_and_end_token_are_learned_the_prompt_is_not():
  tokenizer = tiny_tokenizer("ab")  # <pad> 0, <eos> 1, a 2, b 3
  (example,) = encoding.encode_completions(named_rows([{"prompt": "ab", "completion": "ba"}], "d"), tokenizer)
  np.testing.assert_array_equal(example.tokens, [2, 3, 3, 2, 1])
  np.testing.assert_array_equal(example.mask, [False, False, True, True, True])


def test_an_end_token_spelled_out_in_the_prompt_is_not_learned():
  (example,) = encoding.encode_completions(
    named_rows([{"prompt": "a<eos>", "completion": "b"}], "d"), tiny_tokenizer("ab")
  )
  np.testing.assert_array_equal(example.tokens, [2, 1, 3, 1])
  np.testing.assert_array_equal(example.mask, [False, False, True, True])


@pytest.mark.parametrize("row", [{"prompt": "a"}, {"prompt": "a", "completion": 3}, {"completion": "a"}])
def test_rows_without_texts_are_refused(row):
  with pytest.raises(InputError, match=r"row 1: .* expected text"):
    encoding.encode_completions(named_rows([{"prompt": "a", "completion": "b"}, row], "d"), tiny_tokenizer("ab"))


def test_every_turn_of_the_assistant_is_learned_with_its_end_and_nothing_else():
  messages = [
    said("system", "h"),
    said("user", "a"),
    said("assistant", "bc"),
    said("user", "d"),
    said("assistant", "e"),
  ]
  (example,) = encoding.encode_chats(named_rows([{"messages": messages}], "d"), CHAT)
  assert shown(example) == "<system>h<end><user>a<end><assistant>[bc<end>]<user>d<end><assistant>[e<end>]"


def test_a_turn_that_a_user_types_is_not_learned():
  messages = [said("user", "a<end><assistant>b<end>"), said("assistant", "c")]
  assert encoded({"messages": messages}) == "<user>a<end><assistant>b<end><end><assistant>[c<end>]"


@pytest.mark.parametrize(
  "columns", [{"prompt": "a", "completion": "b"}, {"question": "a", "answer": "b", "final": "c"}]
)
def test_prompts_and_completions_by_either_name_with_and_without_a_chat(columns):
  assert encoded(columns) == "<user>a<end><assistant>[b<end>]"
  assert encoded(columns, chat=False) == "a[b<eos>]"


def test_a_prompt_of_messages_is_always_a_chat():
  prompt = [said("user", "a"), said("assistant", "b"), said("user", "c")]
  for is_chat in (True, False):
    text = encoded({"prompt": prompt, "completion": "d"}, chat=is_chat)
    assert text == "<user>a<end><assistant>[b<end>]<user>c<end><assistant>[d<end>]"


def test_a_system_message_goes_before_chats_that_have_none():
  assert encoded({"prompt": "a", "completion": "b"}, system="h").startswith("<system>h<end><user>a")
  own = {"messages": [said("system", "g"), said("user", "a"), said("assistant", "b")]}
  assert encoded(own, system="h").startswith("<system>g<end><user>a")
  with pytest.raises(InputError, match=r"^d.jsonl:3: a system message needs a chat"):
    encoded({"prompt": "a", "completion": "b"}, chat=False, system="h")


@pytest.mark.parametrize(
  "prompt, is_chat",
  [
    ("{a}b", True),
    ("{a}b", False),
    ([said("user", "f"), said("assistant", "g"), said("user", "{a}b")], True),
    ([said("user", "{a}b"), said("assistant", "g")], True),  # the answer goes on in the assistant's turn
  ],
)
def test_a_demonstration_begins_with_the_prompt_that_is_sampled_from(prompt, is_chat):
  rows = [Row({"question": prompt, "prompt": prompt, "answer": "c", "completion": "c"}, "d.jsonl:3")]
  tokenizer = tiny_tokenizer((*ROLES, *"abcdefgh{}"), chat_template=TEMPLATE)
  template = "d{prompt}e{"
  prompt_format = PromptFormat(template=template, chat=is_chat, system="h" if is_chat else None)
  ((sampled,), _) = make_prompts(rows, tokenizer, max_length=30, prompt_format=prompt_format)
  (example,) = encoding.encode_demonstrations(
    rows, tokenizer, chat=is_chat, system=prompt_format.system, template=template
  )
  learned = int(np.flatnonzero(~example.mask)[-1]) + 1  # an earlier turn of the assistant is learned, too
  assert tuple(example.tokens[:learned]) == sampled.tokens
  assert tokenizer.decode(sampled.tokens).count("d{a}be{") == 1
  assert tokenizer.decode(example.tokens[learned:]) == ("c<end>" if is_chat else "c<eos>")


@pytest.mark.parametrize(
  "columns, message",
  [
    ({"text": "a", "id": 3}, r"found columns text, id; expected 'messages' or 'prompt' and 'completion' or 'question'"),
    ({"prompt": "a", "answer": "b"}, r"found columns prompt, answer; expected"),
    ({}, r"found columns none; expected"),
    ({"prompt": 3, "completion": "b"}, r"prompt is 3, expected text or a list of messages"),
    ({"prompt": "a", "completion": ["b"]}, r"completion is \['b'\], expected text"),
    ({"messages": [said("user", "a")]}, r"chat: no assistant token to learn from"),
    ({"messages": []}, r"chat: messages is \[\]"),
    ({"messages": "a"}, r"chat: messages is 'a'"),
    ({"messages": [{"content": "a"}]}, r"chat: message 0"),
    ({"messages": [said("user", "a"), said("bot", "b"), said("assistant", "c")]}, r"chat: role of message 1 is 'bot'"),
    ({"messages": [said("assistant", 3)]}, r"chat: content of message 0 is 3"),
    ({"prompt": ["a"], "completion": "b"}, r"chat: message 0 is 'a'"),
    ({"prompt": "z", "completion": "b"}, r"tokenizer: no token for 'z'"),
  ],
)
def test_rows_that_cannot_be_used_are_named(columns, message):
  with pytest.raises(InputError, match=rf"^d.jsonl:3: {message}"):
    encoded(columns)
  with pytest.raises(InputError, match=r"^d.jsonl:3: "):
    encoded(columns, system="h")


@pytest.mark.parametrize(
  "template, message",
  [
    (None, "the tokeniser has no chat template"),
    ("{{ messages[0].content }}", "not written one by one in a loop"),
    ("{% for m in messages %}{{ m.content if m.role == 'user' }}{% endfor %}", "not written one by one in a loop"),
    ("{% for m in messages %}{{ m.content if m.role != raise_exception('no') }}{% endfor %}", "no$"),
  ],
)
def test_a_template_that_writes_no_assistant_turn_is_an_error(template, message):
  tokenizer = tiny_tokenizer("abc", chat_template=template)
  with pytest.raises(InputError, match=rf"^d.jsonl:3: .*{message}"):
    encoded({"messages": [said("user", "a"), said("assistant", "b")]}, tokenizer=tokenizer)


def test_an_example_with_nothing_to_learn_is_refused():
  silent = tiny_tokenizer("ab")
  silent = type(silent)(silent.backend)  # no end token
  with pytest.raises(InputError, match=r"^d.jsonl:3: no token to be learned among 1$"):
    encoded({"prompt": "", "completion": "b"}, chat=False, tokenizer=silent)  # a first token is never learned


@pytest.mark.parametrize("completion", ["b", "b<eos>", "b<eos><eos>", "b<end>", "b<eos> "])
def test_an_end_token_that_a_completion_has_is_learned_once(completion):
  tokenizer = tiny_tokenizer((*ROLES, *"abcdefgh "), chat_template=TEMPLATE)
  row = {"prompt": "a", "completion": completion}
  assert encoded(row, tokenizer=tokenizer) == "<user>a<end><assistant>[b<end>]"
  assert encoded(row, chat=False, tokenizer=tokenizer) == "a[b<eos>]"


@pytest.mark.parametrize("empty", ["", " ", "<eos>", " <end>"])
@pytest.mark.parametrize("is_chat", [True, False])
def test_an_empty_answer_is_refused_and_can_be_told_before(empty, is_chat):
  tokenizer = tiny_tokenizer((*ROLES, *"abcdefgh "), chat_template=TEMPLATE)
  row = {"prompt": "a", "completion": empty}
  with pytest.raises(InputError, match=r"^d\.jsonl:3: .*empty"):
    encoded(row, chat=is_chat, tokenizer=tokenizer)
  chats = [{"messages": [said("user", "a"), said("assistant", empty), said("user", "b"), said("assistant", "c")]}]
  for columns in [row, *chats]:
    assert encoding.has_empty_answer(Row(columns, "d"), tokenizer)
  for columns in ({"prompt": "a", "completion": "b"}, {"messages": [said("user", "a"), said("assistant", "b")]}, {}):
    assert not encoding.has_empty_answer(Row(columns, "d"), tokenizer)


WITH_TOOLS = "{% for t in tools or [] %}{{ t.name }}{% endfor %}{{ mood or '' }}" + TEMPLATE


def test_tools_and_variables_reach_the_template():
  tokenizer = tiny_tokenizer((*ROLES, *"abcdefgh"), chat_template=WITH_TOOLS)
  for row in (
    {"prompt": "a", "completion": "b"},
    {"prompt": [said("user", "a")], "completion": "b"},
    {"messages": [said("user", "a"), said("assistant", "b")]},
  ):
    text = encoded({**row, "tools": [{"name": "gh"}]}, tokenizer=tokenizer, chat_arguments={"mood": "e"})
    assert text == "ghe<user>a<end><assistant>[b<end>]"
  with pytest.raises(InputError, match=r"^d\.jsonl:3: tools need a chat"):
    encoded({"prompt": "a", "completion": "b", "tools": [{"name": "gh"}]}, chat=False, tokenizer=tokenizer)


def test_a_completion_goes_on_in_the_turn_that_the_prompt_begins():
  row = {"prompt": [said("user", "a"), said("assistant", "bc")], "completion": "d"}
  assert encoded(row) == "<user>a<end><assistant>bc[d<end>]"
  ((prompt,), _) = make_prompts([Row({**row, "answer": "d"}, "d")], CHAT, max_length=20)
  assert CHAT.decode(prompt.tokens) == "<user>a<end><assistant>bc"
  with pytest.raises(InputError, match="empty answer"):
    encoded({**row, "completion": ""})


def test_what_the_prompt_has_after_the_header_is_not_learned():
  # As Qwen3 with thinking off: an empty block of reasoning follows the header, in the prompt and in a last turn.
  template = TEMPLATE.replace("+ '>' +", "+ '>' + ('gg' if loop.last and message['role'] == 'assistant' else '') +")
  tokenizer = tiny_tokenizer((*ROLES, *"abcdefgh"), chat_template=template.replace("'<assistant>'", "'<assistant>gg'"))
  assert encoded({"prompt": "a", "completion": "b"}, tokenizer=tokenizer) == "<user>a<end><assistant>gg[b<end>]"


def test_contents_that_are_lists_of_parts():
  parts = lambda *texts: [{"type": "text", "text": text} for text in texts]  # noqa: E731
  row = {"messages": [said("user", parts("a", "b")), said("assistant", parts("c", "d"))]}
  assert encoded(row) == "<user>ab<end><assistant>[cd<end>]"
