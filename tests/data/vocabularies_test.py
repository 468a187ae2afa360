"""Tests that tokenisers of symbols, words and bytes decode what they encode, and refuse other text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posttrain_jax.data import chat
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.data.vocabularies import byte_tokenizer, tiny_tokenizer, word_tokenizer
from posttrain_jax.types import InputError

BYTES = byte_tokenizer()
SYMBOLS = ["Answer:", *"0123456789", *"+-*/=().?^$|\\[]", " ", "\n", "A", "ns"]


def test_tiny_ids_follow_the_symbols():
  tokenizer = tiny_tokenizer(SYMBOLS)
  assert tokenizer.encode("Answer: 12\n") == [2, 2 + SYMBOLS.index(" "), 4, 5, 2 + SYMBOLS.index("\n")]
  assert tokenizer.vocab_size == len(SYMBOLS) + 2
  assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id, tokenizer.stop_ids) == (None, 1, 0, (1,))
  assert tokenizer.encode("1<eos>") == [4, 1]
  assert tokenizer.decode([4, 1, 0]) == "1<eos><pad>"
  assert tokenizer.decode([4, 1, 0], skip_special_tokens=True) == "1"
  assert tokenizer.encode("") == []


@given(st.lists(st.sampled_from(SYMBOLS)))
def test_tiny_round_trip(symbols):
  tokenizer = tiny_tokenizer(SYMBOLS)
  text = "".join(symbols)
  ids = tokenizer.encode(text)
  assert tokenizer.decode(ids) == text
  assert min(ids, default=2) >= 2


def test_tiny_takes_the_longest_symbol():
  tokenizer = tiny_tokenizer(["a", "ab", "b", "abc"])
  assert tokenizer.encode("abcabab") == [5, 3, 3]


@pytest.mark.parametrize("text", ["12x", "Answer", "é", "x", "1 \t2", "<eos>x", "\x00"])
def test_tiny_refuses_unknown_text(text):
  with pytest.raises(InputError, match=r"no token for .* at character"):
    tiny_tokenizer(SYMBOLS).encode(text)


@pytest.mark.parametrize("symbols", [[], ["a", "a"], ["a", ""], ["<eos>"]])
def test_bad_symbols(symbols):
  with pytest.raises(InputError, match="tiny_tokenizer: symbols"):
    tiny_tokenizer(symbols)


def test_what_a_closed_vocabulary_knows_and_what_reads_any_text_are_named():
  with pytest.raises(InputError) as error:
    tiny_tokenizer("0123=").encode("Reverse the word")
  assert "it knows only the text of the procedural task, '0123='; model.vocabulary=bytes reads any text" in str(
    error.value
  )


@given(st.text())
def test_bytes_are_any_text(text):
  ids = BYTES.encode(text)
  assert BYTES.decode(ids) == text and len(ids) == len(text.encode()) and min(ids, default=6) >= 6


def test_bytes_have_a_chat_and_can_be_saved(tmp_path):
  messages = [{"role": "user", "content": "Grüß"}, {"role": "assistant", "content": "Gott"}]
  ids, learned = chat.encode_demonstration(messages, BYTES)
  assert BYTES.decode(ids) == "<user>Grüß<eos><assistant>Gott<eos>"
  assert BYTES.decode(ids[learned]) == "Gott<eos>"
  assert chat.encode_prompt(messages[:1], BYTES) == list(ids[: -len("Gott") - 1])
  BYTES.save(tmp_path)
  assert Tokenizer.load(tmp_path).digest() == BYTES.digest() and BYTES.vocab_size == 262


def test_words_are_tokens_whatever_the_white_space():
  tokenizer = word_tokenizer(["the", "lake", ".", "<think>", "3"])
  assert tokenizer.encode("the lake\n  3 .") == [2, 3, 6, 4]
  assert tokenizer.decode([2, 3, 6, 4, 5]) == "the lake 3 . <think>"
  assert tokenizer.decode(tokenizer.encode("the lake<eos>")[:2]) == "the lake"
  assert tokenizer.encode_pieces(["the", "lake ."]) == [[2], [3, 4]]
  with pytest.raises(InputError, match="no token for 'sea'"):
    tokenizer.encode("the sea .")


def test_a_word_tokeniser_is_saved_and_loaded(tmp_path):
  tokenizer = word_tokenizer(["the", "lake"])
  tokenizer.save(tmp_path)
  loaded = Tokenizer.load(tmp_path)
  assert loaded.encode("the lake") == [2, 3] and loaded.decode([2, 3]) == "the lake"
  assert loaded.digest() == tokenizer.digest() and loaded.stop_ids == (1,)


@pytest.mark.parametrize("words", [[], ["a", "a"], ["a b"], [""], ["<eos>"]])
def test_words_must_be_different_and_without_spaces(words):
  with pytest.raises(InputError, match="expected different words without spaces"):
    word_tokenizer(words)
