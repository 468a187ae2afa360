"""Tests that prompts and answers of rows become token ids.

Tokens that only end an answer are counted.
"""

import numpy as np
import pytest
from tokenizers import processors

from posttrain_jax.data.chat_words import LeftOut
from posttrain_jax.data.preference_rows import BadRow, judgement
from posttrain_jax.data.preference_tokens import AnswerEncoder
from posttrain_jax.data.prompts import PromptFormat
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.data.vocabularies import tiny_tokenizer
from posttrain_jax.types import InputError

TEMPLATE = (
  "{% for m in messages %}{{ m.role[0] + ':' + m.content + ';' }}{% endfor %}{{ 'a:' if add_generation_prompt }}"
)
LETTERS = "abcdefghijklmnopqrstuvwxyz:;?! "
TOKENIZER = tiny_tokenizer(LETTERS, chat_template=TEMPLATE)
USER = {"role": "user", "content": "hi"}
TEXT = {"prompt": "a", "chosen": "bb", "rejected": "c"}
CHAT = {"prompt": [USER], "chosen": "b", "rejected": "c"}


def encode(row, tokenizer=TOKENIZER, **prompt_format):
  return AnswerEncoder(tokenizer, PromptFormat(**prompt_format)).encode(judgement(row))


def shown(encoded, tokenizer=TOKENIZER):
  return tokenizer.decode(encoded.prompt), [tokenizer.decode(answer) for answer in encoded.answers]


def test_text_gets_one_end_token_an_answer_and_none_after_the_prompt():
  # <pad> is 0 and <eos> is 1, so a is 2, b is 3 and c is 4.
  encoded = encode(TEXT)
  assert encoded.prompt == (2,)
  assert [answer.tolist() for answer in encoded.answers] == [[3, 3, 1], [4, 1]]
  assert all(answer.dtype == np.int32 for answer in encoded.answers)
  assert encoded.ends == (1, 1)


def test_without_an_end_token_no_token_of_an_answer_merely_ends_it():
  endless = Tokenizer(TOKENIZER.backend, pad_id=0)
  encoded = encode(TEXT, endless)
  assert ([answer.tolist() for answer in encoded.answers], encoded.ends) == ([[3, 3], [4]], (0, 0))


def test_what_starts_a_text_is_put_before_the_prompt_once_and_before_no_answer():
  # As Llama 3's: the tokeniser puts BOS before a text, and the chat template writes it before a chat.
  tokenizer = tiny_tokenizer(LETTERS, chat_template="{{ '?' }}" + TEMPLATE)
  bos = tokenizer.encode("?")[0]
  tokenizer.backend.post_processor = processors.TemplateProcessing(single="? $A", special_tokens=[("?", bos)])
  assert shown(encode({**TEXT, "chosen": "b"}, tokenizer), tokenizer) == ("?a", ["b<eos>", "c<eos>"])
  assert shown(encode(CHAT, tokenizer), tokenizer) == ("?u:hi;a:", ["b;", "c;"])


def test_text_as_a_chat_with_a_template_around_it_and_a_system_message():
  prompt_format = dict(template="say {prompt}!", chat=True, system="be")
  row = {"prompt": "hi", "chosen": "b", "rejected": "c"}
  assert shown(encode(row, **prompt_format)) == ("s:be;u:say hi!;a:", ["b;", "c;"])
  turns = [USER, {"role": "assistant", "content": "no"}, USER]
  assert shown(encode({**row, "prompt": turns}, **prompt_format))[0] == "s:be;u:hi;a:no;u:say hi!;a:"


def test_an_end_of_turn_of_several_tokens_is_counted_whole_and_tokenised_apart():
  # Tokenised together, "c;!?" would be "c;", "!" and "?".
  template = TEMPLATE.replace("';'", "';!?'")
  tokenizer = tiny_tokenizer([*LETTERS, "c;", ";!"], chat_template=template)
  encoded = encode(CHAT, tokenizer)
  assert encoded.ends == (2, 2)
  assert [tokenizer.decode(answer[-2:]) for answer in encoded.answers] == [";!?", ";!?"]
  assert shown(encoded, tokenizer) == ("u:hi;!?a:", ["b;!?", "c;!?"])
  assert [len(answer) for answer in encoded.answers] == [3, 3]


def test_what_the_prompt_already_says_is_not_said_again_by_the_answer():
  # As Qwen3 with thinking off: an empty block of reasoning follows the header, in the prompt and in a last turn.
  template = (
    "{% for m in messages %}{{ m.role[0] + ':' }}{{ '??' if loop.last and m.role == 'assistant' }}{{ m.content + ';' }}"
    "{% endfor %}{{ 'a:??' if add_generation_prompt }}"
  )
  tokenizer = tiny_tokenizer(LETTERS, chat_template=template)
  assert shown(encode(CHAT, tokenizer), tokenizer) == ("u:hi;a:??", ["b;", "c;"])


def test_a_template_without_an_end_of_turn_token_leaves_nothing_that_merely_ends_an_answer():
  template = "{% for m in messages %}{{ m.role[0] + ':' + m.content }}{% endfor %}{{ 'a:' if add_generation_prompt }}"
  tokenizer = tiny_tokenizer(LETTERS, chat_template=template)
  encoded = encode(CHAT, tokenizer)
  assert (shown(encoded, tokenizer), encoded.ends) == (("u:hia:", ["b", "c"]), (0, 0))


def test_variables_of_the_template_reach_prompt_and_answers():
  template = TEMPLATE.replace("':'", "':' + mood").replace("'a:'", "'a:' + mood")
  tokenizer = tiny_tokenizer(LETTERS, chat_template=template)
  encoded = encode(CHAT, tokenizer, chat_arguments={"mood": "!"})
  assert shown(encoded, tokenizer) == ("u:!hi;a:!", ["b;", "c;"])


@pytest.mark.parametrize("row", [{**TEXT, "chosen": "B"}, {**CHAT, "chosen": "B"}, {**TEXT, "prompt": "A"}])
def test_a_text_without_tokens_is_the_rows_fault(row):
  with pytest.raises(BadRow, match=r"no token for '[AB]'") as error:
    encode(row)
  assert error.value.reason == "cannot_be_encoded"


@pytest.mark.parametrize(
  "template, message",
  [
    (None, "the tokeniser has no chat template"),
    ("{% for m in messages %}{{ m.role[0] + ':;' }}{% endfor %}{{ 'a:' if add_generation_prompt }}", "leaves out what"),
  ],
)
def test_a_template_that_cannot_write_an_answer_is_not_the_rows_fault(template, message):
  tokenizer = tiny_tokenizer(LETTERS, chat_template=template)
  with pytest.raises(InputError, match=message) as error:
    encode(CHAT, tokenizer)
  assert not isinstance(error.value, BadRow)


def test_answers_go_on_in_the_turn_that_the_prompt_begins():
  row = {"prompt": [USER, {"role": "assistant", "content": "oh "}], "chosen": "b", "rejected": "c"}
  encoded = encode(row)
  assert shown(encoded) == ("u:hi;a:oh ", ["b;", "c;"]) and encoded.ends == (1, 1)


def test_tools_reach_the_template():
  tokenizer = tiny_tokenizer(LETTERS, chat_template="{% for t in tools or [] %}{{ t.name }};{% endfor %}" + TEMPLATE)
  row = {**CHAT, "tools": [{"name": "add"}]}
  assert shown(encode(row, tokenizer), tokenizer) == ("add;u:hi;a:", ["b;", "c;"])
  with pytest.raises(BadRow, match="tools need a chat"):
    encode({**TEXT, "tools": [{"name": "add"}]}, tokenizer)
  with pytest.raises(BadRow, match="leaves out the tool 'add'") as error:
    encode(row)
  assert error.value.reason == "left_out_by_template"


def test_words_that_the_template_cuts_out_are_the_rows_fault():
  tokenizer = tiny_tokenizer(LETTERS, chat_template=TEMPLATE.replace("m.content", "(m.content.split('!') | last)"))
  row = {**CHAT, "chosen": "hm!b"}
  with pytest.raises(BadRow, match="leaves out the content of message 1, role assistant") as error:
    encode(row, tokenizer)
  assert error.value.reason == "left_out_by_template"
  assert shown(encode(row, tokenizer, left_out=LeftOut.ALLOW), tokenizer)[1] == ["b;", "c;"]


def test_answers_in_parts_and_with_their_end():
  said = lambda *parts: [{"role": "assistant", "content": [{"type": "text", "text": part} for part in parts]}]  # noqa: E731
  assert shown(encode({**CHAT, "chosen": said("b", "d"), "rejected": said("c;")})) == ("u:hi;a:", ["bd;", "c;"])
