import io

import numpy as np
from rich.console import Console
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers

from posttrain_jax.data.encoding import Example
from posttrain_jax.data.inspection import inspect_examples, token_texts
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.data.vocabularies import tiny_tokenizer

TINY = tiny_tokenizer([*"abc[]\n\t\x1b", " Answer: "])


def byte_tokenizer():
  """Makes a tokeniser with one token per byte."""
  alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
  backend = Backend(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
  backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  backend.decoder = decoders.ByteLevel()
  return Tokenizer(backend)


def example(text, learned, tokenizer=TINY, source="d.jsonl:3"):
  """Makes an example that learns the tokens at the given places."""
  tokens = np.array(tokenizer.encode(text), np.int32)
  return Example(tokens, np.isin(np.arange(len(tokens)), learned), source)


def printed(examples, tokenizer=TINY, count=10, **options):
  stream = io.StringIO()
  inspect_examples(examples, tokenizer, Console(file=stream, width=20, **options), count=count)
  return stream.getvalue()


def test_without_colours_learned_tokens_stand_in_brackets():
  examples = [
    example("ab Answer: c<eos>", [2, 3, 4]),
    example("a\nb\nc", [1, 4], source="d.jsonl:4"),
    example("ab", [1]),
  ]
  assert printed(examples, count=2) == (
    "⟦learned⟧, not learned, · between tokens\n"
    "\n1 of 3, d.jsonl:3: 5 tokens, 3 learned (60%)\n"
    "a·b⟦ Answer: ·c·<eos>⟧\n"
    "\n2 of 3, d.jsonl:4: 5 tokens, 2 learned (40%)\n"
    "a⟦⏎\n⟧b·⏎\n⟦c⟧\n"
  )


def test_a_first_token_is_not_shown_as_learned():
  assert printed([example("abc", [0, 1])]).endswith("3 tokens, 1 learned (33%)\na⟦b⟧c\n")


def test_text_that_looks_like_markup_or_controls_the_terminal_is_shown_as_it_is():
  assert printed([example("[b]a[\t\x1bb", [7])]).endswith("[·b·]·a·[·␉·␛⟦b⟧\n")
  assert "\x1bb" not in printed([example("\x1bb", [1])], force_terminal=True, color_system="standard")


def test_with_colours_learned_tokens_alone_are_green():
  text = printed([example("abc", [1, 2])], force_terminal=True, color_system="standard", no_color=False)
  assert text.splitlines()[-1] == "\x1b[2ma\x1b[0m\x1b[30;102mb\x1b[0m\x1b[30;42mc\x1b[0m"
  assert "⟦" not in text


def test_where_colours_are_switched_off_there_are_brackets():
  assert printed([example("ab", [1])], force_terminal=True, no_color=True).endswith("a⟦b⟧\n")


def test_characters_of_several_tokens_are_shown_with_the_last():
  tokenizer = byte_tokenizer()
  tokens = tokenizer.encode("é∑🦜a")
  assert token_texts(tokens, tokenizer) == ["…", "é", "…", "…", "∑", "…", "…", "…", "🦜", "a"]


def test_bytes_that_are_no_character_are_shown_one_by_one():
  tokenizer = byte_tokenizer()
  bird = tokenizer.encode("🦜")
  assert token_texts([*bird[:2], *tokenizer.encode("aé")], tokenizer) == ["\ufffd", "\ufffd", "a", "…", "é"]
  assert token_texts(bird[:3], tokenizer) == 3 * ["\ufffd"]


def test_ids_without_a_token_are_shown_by_number():
  assert token_texts([2, 99], TINY) == ["a", "<id 99>"]
