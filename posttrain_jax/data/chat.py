"""Encodes chats as tokens with a model's own chat template."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from posttrain_jax.data.chat_template import Message, assistant_spans, render
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.types import InputError


def encode_prompt(messages: Sequence[Message], tokenizer: Tokenizer, **arguments: Any) -> list[int]:
  """Encodes a chat up to the point where the assistant answers.

  Args:
    messages: the turns so far.
    tokenizer: must have a chat template.
    **arguments: as in `render`.

  Returns:
    Token ids, the header of the assistant's turn last.

  Raises:
    InputError: as in `render`, or if the tokeniser has no chat template.
  """
  template = _template_of(tokenizer)
  text = render(messages, template, add_generation_prompt=True, **tokenizer.special_tokens | arguments)
  return tokenizer.encode(text)


def encode_demonstration(
  messages: Sequence[Message], tokenizer: Tokenizer, **arguments: Any
) -> tuple[np.ndarray, np.ndarray]:
  """Encodes a chat and marks the tokens that the assistant said.

  The assistant's words are tokenised apart from the text around them, as they are when they are sampled. So no token
  crosses the end of a header. Up to there the ids equal those of `encode_prompt`, if the template writes earlier turns
  unchanged.

  Args:
    messages: the turns, at least one of them the assistant's.
    tokenizer: must have a chat template, and be byte-level or closed. A tokeniser that puts a space before every text
      would put one before every piece.
    **arguments: as in `render`.

  Returns:
    (tokens int32 [T], mask bool [T], True on tokens to learn).

  Raises:
    InputError: as in `assistant_spans`, or if the tokeniser has no chat template, or if there is no assistant token.
  """
  template = _template_of(tokenizer)
  text, spans = assistant_spans(messages, template, **tokenizer.special_tokens | arguments)
  tokens, mask = [], []
  edges = [0, *itertools.chain.from_iterable(spans), len(text)]
  for i, (start, end) in enumerate(itertools.pairwise(edges)):
    piece = tokenizer.encode(text[start:end])
    tokens += piece
    mask += [i % 2 == 1] * len(piece)  # pieces alternate: other, assistant, other, ...
  if not any(mask):
    raise InputError(f"chat: no assistant token to learn from in {len(messages)} messages")
  return np.array(tokens, np.int32), np.array(mask, bool)


def _template_of(tokenizer: Tokenizer) -> str:
  if tokenizer.chat_template is None:
    raise InputError("chat: the tokeniser has no chat template")
  return tokenizer.chat_template
