"""Encodes chats as tokens with a model's own chat template."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from posttrain_jax.data.chat_template import Message, assistant_spans, plain, render
from posttrain_jax.data.chat_words import LeftOut, check_words
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.types import InputError


class EmptyAnswer(InputError):
  """Signals an answer without words, which would teach to end at once."""


def encode_prompt(
  messages: Sequence[Message], tokenizer: Tokenizer, *, left_out: LeftOut = LeftOut.ERROR, **arguments: Any
) -> list[int]:
  """Encodes a chat up to the point where the assistant answers.

  Args:
    messages: the turns so far. If the last one is the assistant's, the assistant goes on in that turn.
    tokenizer: must have a chat template.
    left_out: action on words that the template leaves out.
    **arguments: as in `render`.

  Returns:
    Token ids, the header of the assistant's turn last, or the beginning of that turn.

  Raises:
    InputError: as in `render`, or if the tokeniser has no chat template, if the template leaves out words, or if the
      chat ends with the assistant's call of a tool.
  """
  header, begun = prompt_pieces(messages, tokenizer, left_out=left_out, **arguments)
  return list(itertools.chain.from_iterable(tokenizer.encode_pieces([header, begun])))


def prompt_pieces(
  messages: Sequence[Message], tokenizer: Tokenizer, *, left_out: LeftOut = LeftOut.ERROR, **arguments: Any
) -> tuple[str, str]:
  """Renders what `encode_prompt` encodes: (text up to the assistant's header, beginning of the assistant's turn).

  The beginning is empty if the last turn is not the assistant's.
  """
  template, messages = template_of(tokenizer), without_ends(messages, tokenizer)
  begun = ""
  if messages[-1]["role"] == "assistant":
    *messages, last = messages
    if last.get("tool_calls") or not messages:
      found = "a call of a tool" if messages else "no turn before it"
      raise InputError(f"chat: the assistant's turn at the end has {found}, expected words for the assistant to go on")
    begun = last["content"]
  text = render(messages, template, add_generation_prompt=True, **tokenizer.special_tokens | arguments)
  if left_out == LeftOut.ERROR:
    check_words(messages, text, tools=arguments.get("tools"))
  if text.rstrip().endswith("<think>") and begun.lstrip().startswith("<think>"):
    # The header opens the block of reasoning already, and so does the turn.
    text, begun = text.rstrip().removesuffix("<think>"), begun.lstrip()
  return text, begun


def encode_demonstration(
  messages: Sequence[Message],
  tokenizer: Tokenizer,
  *,
  begun: str = "",
  left_out: LeftOut = LeftOut.ERROR,
  **arguments: Any,
) -> tuple[np.ndarray, np.ndarray]:
  """Encodes a chat and marks the tokens that the assistant said.

  The assistant's words are tokenised apart from the text around them, as they are when they are sampled. So no token
  crosses the end of a header. Up to there the ids equal those of `encode_prompt`, if the template writes earlier turns
  unchanged. An end token at the end of what the assistant said is not written twice.

  Args:
    messages: the turns, at least one of them the assistant's.
    tokenizer: must have a chat template.
    begun: beginning of the last turn that belongs to the prompt, and is not learned.
    left_out: action on words that the template leaves out.
    **arguments: as in `render`.

  Returns:
    (tokens int32 [T], mask bool [T], True on tokens to learn).

  Raises:
    EmptyAnswer: if a turn of the assistant has no words.
    InputError: as in `assistant_spans`, or if the tokeniser has no chat template, if the template leaves out words, or
      if there is no assistant token.
  """
  template, messages = template_of(tokenizer), without_ends(messages, tokenizer)
  arguments = tokenizer.special_tokens | arguments
  spoken = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
  for i in spoken:
    if is_empty(messages[i], begun if i == len(messages) - 1 else ""):
      raise EmptyAnswer(f"chat: message {i} is an empty answer, expected words of the assistant")
  text, spans = assistant_spans(messages, template, **arguments)
  if left_out == LeftOut.ERROR:
    learned = {i: text[start:end] for i, (start, end) in zip(spoken, spans)}
    check_words(messages, text, learned=learned, tools=arguments.get("tools"))
  pieces, learns, position = [], [], 0
  for i, (start, end) in zip(spoken, spans):
    starts = [start]
    if i == len(messages) - 1:
      starts = _last_starts(messages, begun, text, (start, end), template, arguments)
    edges = [position, *starts, end]
    pieces += [text[before:after] for before, after in itertools.pairwise(edges)]
    learns += [False] * len(starts) + [True]
    position = end
  tokens, mask = [], []
  for piece, is_learned in zip(tokenizer.encode_pieces([*pieces, text[position:]]), [*learns, False]):
    tokens += piece
    mask += [is_learned] * len(piece)
  if not any(mask):
    raise InputError(f"chat: no assistant token to learn from in {len(messages)} messages")
  return np.array(tokens, np.int32), np.array(mask, bool)


def without_ends(messages: Sequence[Message], tokenizer: Tokenizer) -> list[dict[str, Any]]:
  """Copies a chat without the end tokens after what the assistant said.

  The template writes them.
  """
  return [
    {**message, "content": tokenizer.without_end(message["content"])}
    if message["role"] == "assistant" and isinstance(message.get("content"), str)
    else message
    for message in plain(messages)
  ]


def is_empty(message: Message, begun: str = "") -> bool:
  """Says whether an assistant's message has no words after its beginning, and calls no tool."""
  content = (message.get("content") or "").removeprefix(begun)
  return not (content.strip() or message.get("tool_calls") or message.get("reasoning_content"))


def template_of(tokenizer: Tokenizer) -> str:
  """Returns the chat template.

  Raises:
    InputError: if the tokeniser has none.
  """
  if tokenizer.chat_template is None:
    raise InputError("chat: the tokeniser has no chat template")
  return tokenizer.chat_template


def _last_starts(
  messages: Sequence[Message], begun: str, text: str, span: tuple[int, int], template: str, arguments: dict[str, Any]
) -> list[int]:
  """Returns where the last turn's words begin, and where the learned ones do.

  A prompt may contain more than the header that all turns share. With thinking off, Qwen3's prompt also has an empty
  block of reasoning. Then the model does not write that block, so it is not learned.
  """
  start, end = span
  if len(messages) > 1:
    try:
      prompt = render(messages[:-1], template, add_generation_prompt=True, **arguments)
    except InputError:  # a template may refuse a chat that ends here
      prompt = ""
    if text.startswith(prompt):
      start = max(start, min(len(prompt), end))
  if not begun:
    return [start]
  # Without the white space at the end, which templates may trim.
  for given in (begun, begun.rstrip()):
    if text.startswith(given, start, end):
      return [start, start + len(given)]
  raise InputError("chat template: changes the beginning of the assistant's turn that belongs to the prompt")
