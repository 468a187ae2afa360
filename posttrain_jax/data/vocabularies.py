"""Makes tokenisers from a vocabulary.

It has the symbols or words of a procedural task, or the bytes of any text.
"""

import re
from collections.abc import Sequence

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from posttrain_jax.data.tokenizer import Tokenizer, shorten
from posttrain_jax.types import InputError


def tiny_tokenizer(symbols: Sequence[str], *, chat_template: str | None = None) -> Tokenizer:
  """Makes a tokeniser whose tokens are the given symbols.

  `<pad>` (id 0) and `<eos>` (id 1) come before them. Text is split from left to right; if several symbols fit, the
  longest is used. Decoding joins the symbols, so encoding and decoding a text gives the same text. `encode` refuses
  any other text.

  Args:
    symbols: the tokens in order of their ids, from 2 on: characters, or words such as "Answer:".
    chat_template: Jinja source; needed to render messages.

  Raises:
    InputError: if there are no symbols, one is empty, or one is given twice.
  """
  vocab = {token: i for i, token in enumerate(["<pad>", "<eos>", *symbols])}
  if not symbols or "" in vocab or len(vocab) < len(symbols) + 2:
    raise InputError(f"tiny_tokenizer: symbols is {list(symbols)}, expected different texts, none empty")
  longest_first = sorted(vocab, key=len, reverse=True)
  backend = tokenizers.Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))  # not in vocab: unknown text is an error
  backend.pre_tokenizer = pre_tokenizers.Split(tokenizers.Regex("|".join(map(re.escape, longest_first))), "isolated")
  backend.decoder = decoders.Fuse()
  backend.add_special_tokens(["<pad>", "<eos>"])
  return Tokenizer(backend, eos_id=1, pad_id=0, stop_ids=(1,), chat_template=chat_template).with_taught_stops()


def word_tokenizer(words: Sequence[str]) -> Tokenizer:
  """Makes a tokeniser whose tokens are the given words, with white space between them.

  `<pad>` (id 0) and `<eos>` (id 1) come before them. Decoding puts one space between two words. So encoding and
  decoding a text gives the same text with single spaces. `encode` refuses any other word.

  Args:
    words: the tokens in order of their ids, from 2 on.

  Raises:
    InputError: if there are no words, one is empty or has white space, or one is given twice.
  """
  vocab = {token: i for i, token in enumerate(["<pad>", "<eos>", *words])}
  if not words or len(vocab) < len(words) + 2 or any(word.split() != [word] for word in words):
    raise InputError(f"word_tokenizer: words is {shorten(list(words), 120)}, expected different words without spaces")
  backend = tokenizers.Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))  # not in vocab: unknown words are an error
  backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
  backend.decoder = decoders.WordPiece(prefix="\0", cleanup=False)  # joins with spaces; no word begins so
  backend.add_special_tokens(["<pad>", "<eos>"])
  return Tokenizer(backend, eos_id=1, pad_id=0, stop_ids=(1,))


# Turns start with their role's token and end with the end token.
_BYTE_ROLES = ("system", "user", "assistant", "tool")
_BYTE_TEMPLATE = (
  "{% for message in messages %}<{{ message.role }}>{{ message.content }}<eos>{% endfor %}"
  "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def byte_tokenizer() -> Tokenizer:
  """Makes a tokeniser of any text: one token for each byte of its UTF-8.

  `<pad>` (id 0), `<eos>` (id 1) and a token for each role of a chat come first; then the 256 bytes. It has a chat
  template, so it reads rows of messages too.
  """
  special = ["<pad>", "<eos>", *(f"<{role}>" for role in _BYTE_ROLES)]
  vocab = {token: i for i, token in enumerate([*special, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
  backend = tokenizers.Tokenizer(models.BPE(vocab, []))
  backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
  backend.decoder = decoders.ByteLevel()
  backend.add_special_tokens([tokenizers.AddedToken(token, normalized=False) for token in special])
  return Tokenizer(backend, eos_id=1, pad_id=0, stop_ids=(1,), chat_template=_BYTE_TEMPLATE).with_taught_stops()
