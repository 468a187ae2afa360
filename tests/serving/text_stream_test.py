import itertools

import numpy as np
import pytest

from posttrain_jax.assembly.judges import answer_text
from posttrain_jax.data.vocabularies import byte_tokenizer, tiny_tokenizer, word_tokenizer
from posttrain_jax.serving.text_stream import TextStream

BYTES = byte_tokenizer()
TOKENIZERS = [BYTES, tiny_tokenizer("abc <x>"), word_tokenizer(["one", "two", ".", ","])]


def streamed(tokenizer, tokens, cuts, stop=(), *, stopped=False):
  """Returns the pieces of a text whose tokens come in some parts."""
  stream, edges = TextStream(tokenizer, stop), [0, *cuts, len(tokens)]
  parts = [tokens[start:end] for start, end in itertools.pairwise(edges)]
  return [*(stream.add(part) for part in parts[:-1]), stream.end(parts[-1], stopped=stopped)]


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=["bytes", "symbols", "words"])
def test_pieces_add_up_to_the_text(tokenizer):
  rng = np.random.default_rng(0)
  for _ in range(100):
    tokens = rng.integers(2, tokenizer.vocab_size, size=rng.integers(1, 20)).tolist()
    cuts = sorted(rng.integers(0, len(tokens) + 1, size=3).tolist())
    assert "".join(streamed(tokenizer, tokens, cuts)) == answer_text(tokenizer, np.array(tokens))


def test_half_a_character_is_held_back():
  tokens = BYTES.encode("aé🎉b")
  assert streamed(BYTES, tokens, [2, 3, 5, 6]) == ["a", "é", "", "", "🎉b"]


def test_what_may_become_a_stop_string_is_held_back():
  tokens = BYTES.encode("one two END more")
  assert streamed(BYTES, tokens, [4, 9, 10, 11], [" END", "END!"], stopped=True) == ["one", " two", "", "", ""]
  assert "".join(streamed(BYTES, BYTES.encode("an ENd EN"), range(1, 9), ["END"])) == "an ENd EN"


@pytest.mark.parametrize("cut", range(1, 12))
def test_the_text_ends_before_the_stop_string_wherever_it_is_cut(cut):
  pieces = streamed(BYTES, BYTES.encode("so. long, X"), [cut], [", ", ". "], stopped=True)
  assert "".join(pieces) == "so"


def test_the_token_that_ends_an_answer_is_no_text():
  assert streamed(BYTES, [*BYTES.encode("ab"), 1], [1], stopped=True) == ["a", "b"]
  assert streamed(BYTES, [1], [], stopped=True) == [""]
