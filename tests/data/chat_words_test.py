"""Tests that words of a chat which its template leaves out are found, and that nothing else is."""

import pytest

from posttrain_jax.data import chat
from posttrain_jax.data.chat_words import LeftOut, WordsLeftOut
from posttrain_jax.data.vocabularies import tiny_tokenizer

LETTERS = [*"abcdefghijklmnopqrstuvwxyzRS:;?!/<>{}\"', \n\\0123456789_"]
TURN = "{{ m.role[0] + ':' + (m.content | trim) + ';' }}"
FULL = "{% for m in messages %}" + TURN + "{% endfor %}{{ 'a:' if add_generation_prompt }}"
# As R1's: only what follows the reasoning stays.
CUT = FULL.replace("m.content", "(m.content.split('</think>') | last)")
# As Qwen3's: reasoning is written in the last turn only, on lines of its own.
LAST = (
  "{% for m in messages %}{% set parts = m.content.split('</think>') %}{{ m.role[0] + ':' }}"
  "{% if loop.last and parts | length > 1 %}"
  "{{ '<think>\n' + parts[0].replace('<think>', '') + '\n</think>\n' }}{% endif %}"
  "{{ (parts | last) + ';' }}{% endfor %}{{ 'a:' if add_generation_prompt }}"
)
NO_SYSTEM = "{% for m in messages if m.role != 'system' %}" + TURN + "{% endfor %}{{ 'a:' if add_generation_prompt }}"
REASONING = FULL.replace("(m.content | trim)", "(m.reasoning_content or '') + m.content")
TOOLS = "{% for t in tools or [] %}{{ t.function.name }};{% endfor %}" + FULL

USER, SAID = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}
SYSTEM = {"role": "system", "content": "be nice"}
THOUGHT = {"role": "assistant", "content": "<think>hm</think>ho"}
CALL = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": "add"}}]}
RESULT = {"role": "tool", "content": 'a "b"\n'}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {}}}


def learn(template, *messages, **arguments):
  tokenizer = tiny_tokenizer(LETTERS, chat_template=template)
  tokens, mask = chat.encode_demonstration(messages, tokenizer, **arguments)
  return tokenizer.decode(tokens[mask])


def ask(template, *messages, **arguments):
  tokenizer = tiny_tokenizer(LETTERS, chat_template=template)
  return tokenizer.decode(chat.encode_prompt(messages, tokenizer, **arguments))


@pytest.mark.parametrize(
  ("template", "messages", "missing"),
  [
    (CUT, [USER, THOUGHT], "the content of message 1, role assistant"),
    (LAST, [USER, THOUGHT, USER, THOUGHT], "the content of message 1, role assistant"),
    (NO_SYSTEM, [SYSTEM, USER, SAID], "the content of message 0, role system"),
    # The words stand in another turn by chance.
    (NO_SYSTEM, [{**SYSTEM, "content": "hi"}, USER, SAID], "the content of message 0, role system"),
    (FULL, [USER, {**SAID, "reasoning_content": "hm"}], "the reasoning_content of message 1, role assistant"),
    (FULL, [USER, CALL, RESULT, SAID], "a tool call of message 1, role assistant"),
  ],
)
def test_what_is_missing_is_named(template, messages, missing):
  with pytest.raises(WordsLeftOut, match=f"^chat template: leaves out {missing}; expected .* left_out='allow'"):
    learn(template, *messages)
  assert learn(template, *messages, left_out=LeftOut.ALLOW).endswith("ho;")


@pytest.mark.parametrize(
  ("template", "messages", "learned"),
  [
    (FULL, [SYSTEM, USER, {**SAID, "content": " ho \n"}], "ho;"),  # templates trim
    (LAST, [USER, THOUGHT], "<think>\nhm\n</think>\nho;"),
    (REASONING, [USER, {**SAID, "reasoning_content": "hm"}], "hmho;"),
    (FULL, [USER, THOUGHT], "<think>hm</think>ho;"),
    (
      FULL.replace("m.content | trim", "m.content | tojson if m.role == 'tool' else m.content"),
      [USER, RESULT, SAID],
      "ho;",
    ),
  ],
)
def test_what_is_there_is_learned(template, messages, learned):
  assert learn(template, *messages) == learned


def test_a_prompt_may_leave_out_old_reasoning_and_nothing_else():
  assert ask(CUT, USER, THOUGHT, USER) == "u:hi;a:ho;u:hi;a:"
  with pytest.raises(WordsLeftOut, match="the content of message 0, role system"):
    ask(NO_SYSTEM, SYSTEM, USER)
  assert ask(NO_SYSTEM, SYSTEM, USER, left_out=LeftOut.ALLOW) == "u:hi;a:"
  only_users = FULL.replace("messages %}", "messages if m.role == 'user' %}")
  with pytest.raises(WordsLeftOut, match="the content of message 1, role assistant"):
    ask(only_users, USER, THOUGHT, {**USER, "content": "he"})


def test_tools_that_the_template_does_not_show():
  assert ask(TOOLS, USER, tools=[TOOL]) == "add;u:hi;a:"
  assert learn(TOOLS, USER, SAID, tools=[TOOL]) == "ho;"
  for encode in (ask, learn):
    with pytest.raises(WordsLeftOut, match="leaves out the tool 'add'"):
      encode(FULL, USER, *([SAID] if encode is learn else []), tools=[TOOL])
