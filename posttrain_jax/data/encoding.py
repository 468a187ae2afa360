"""Encodes demonstrations as tokens and marks the tokens to learn.

The model learns what the assistant said, end token included. In a chat, roles decide which text that is.

A row is a chat (`{"messages": [...]}`), or a prompt and its answer (`{"prompt", "completion"}`,
`{"question", "answer"}`). A prompt is text, or the messages so far.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from posttrain_jax.data import chat
from posttrain_jax.data.prompts import Row
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.types import InputError

# Columns of a prompt and its completion. The first pair that a row has is used.
COMPLETION_FIELDS = (("prompt", "completion"), ("question", "answer"))


@dataclasses.dataclass(frozen=True)
class Example:
  """Holds one demonstration as token ids.

  Attributes:
    tokens: int32 [n].
    mask: bool [n], True on tokens to learn.
    source: origin of the demonstration for error messages: "FILE:LINE" or "NAME, row N".
  """

  tokens: np.ndarray
  mask: np.ndarray
  source: str = "demonstrations"


def encode_demonstrations(
  rows: Iterable[Row], tokenizer: Tokenizer, *, chat: bool, system: str | None = None, template: str = "{prompt}"
) -> list[Example]:
  """Tokenises demonstrations in the form that each row's columns give.

  Args:
    rows: each with "messages", "prompt" and "completion", or "question" and "answer". A prompt that is a list of
      messages is the chat so far.
    tokenizer: the model's tokeniser.
    chat: renders prompts and completions that are text with the chat template, as a user's and an assistant's turn.
      Rows of messages always use the chat template.
    system: system message for chats that do not have one; None: no system message.
    template: text with "{prompt}" in it, put around prompts that are text. `prompts.PromptFormat.template` does the
      same when answers are sampled.

  Raises:
    InputError: if a row has other columns or values, cannot be tokenised, or has no token to learn, or if there is a
      system message without a chat. The message is one line with the row's source.
  """
  examples = []
  for row in rows:
    columns = _columns(row, template, chat=chat, system=system)
    if "messages" in columns:
      examples += encode_chats([Row(columns, row.source)], tokenizer, system=system)
    else:
      examples += encode_completions([Row(columns, row.source)], tokenizer)
  return examples


def encode_chats(rows: Iterable[Row], tokenizer: Tokenizer, *, system: str | None = None) -> list[Example]:
  """Tokenises rows of "messages".

  The words of every assistant turn are learned, end token included.

  Args:
    rows: the chats.
    tokenizer: must have a chat template.
    system: system message for chats that do not have one; None: no system message.

  Raises:
    InputError: as in `chat.encode_demonstration`, or if a row has no token to learn. The message names the row's
      source.
  """
  examples = []
  for row in rows:
    messages = row.columns.get("messages")
    try:
      if system is not None and not _has_system(messages):
        messages = [{"role": "system", "content": system}, *messages]
      tokens, mask = chat.encode_demonstration(messages, tokenizer)
    except InputError as error:
      raise InputError(f"{row.source}: {error}") from None
    examples.append(_checked(tokens, mask, row.source))
  return examples


def encode_completions(rows: Iterable[Row], tokenizer: Tokenizer) -> list[Example]:
  """Tokenises rows of "prompt" and "completion".

  The completion is learned, and so is the end token that is put after it. The two texts are tokenised apart, as a
  prompt and a sampled answer are, so no token crosses the border. A prompt gets the special tokens that the tokeniser
  adds by itself (Llama 3: BOS), as prompts in RL do.

  Raises:
    InputError: if a row lacks one of the two texts, a text cannot be tokenised, or no token is to be learned. The
      message names the row's source.
  """
  examples = []
  for row in rows:
    texts = row.columns
    for field in ("prompt", "completion"):
      if not isinstance(texts.get(field), str):
        raise InputError(f"{row.source}: {field} is {texts.get(field)!r}, expected text")
    try:
      prompt = tokenizer.encode(texts["prompt"], add_special_tokens=True)
      completion = tokenizer.encode(texts["completion"])
    except InputError as error:
      raise InputError(f"{row.source}: {error}") from None
    if tokenizer.eos_id is not None:
      completion.append(tokenizer.eos_id)
    mask = [False] * len(prompt) + [True] * len(completion)
    examples.append(_checked(np.array(prompt + completion, np.int32), np.array(mask, bool), row.source))
  return examples


def _columns(row: Row, template: str, *, chat: bool, system: str | None) -> Mapping[str, Any]:
  """Returns the row as {"messages"} or as {"prompt", "completion"}."""
  if row.columns.get("messages") is not None:
    return row.columns
  found = [pair for pair in COMPLETION_FIELDS if all(row.columns.get(field) is not None for field in pair)]
  if not found:
    pairs = " or ".join(f"'{first}' and '{second}'" for first, second in COMPLETION_FIELDS)
    columns = ", ".join(row.columns) or "none"
    raise InputError(f"{row.source}: found columns {columns}; expected 'messages' or {pairs}")
  prompt, completion = (row.columns[field] for field in found[0])
  if not isinstance(completion, str):
    raise InputError(f"{row.source}: {found[0][1]} is {completion!r}, expected text")
  said = {"role": "assistant", "content": completion}
  if isinstance(prompt, list):
    return {"messages": [*prompt, said]}
  if not isinstance(prompt, str):
    raise InputError(f"{row.source}: {found[0][0]} is {prompt!r}, expected text or a list of messages")
  prompt = template.replace("{prompt}", prompt)  # not str.format: prompts may hold braces
  if chat:
    return {"messages": [{"role": "user", "content": prompt}, said]}
  if system is not None:
    raise InputError(f"{row.source}: a system message needs a chat, found a prompt that is text")
  return {"prompt": prompt, "completion": completion}


def _has_system(messages: Any) -> bool:
  """Tells whether a chat begins with a system message.

  A value that is not a chat gives True, so that it reaches `data.chat`, which refuses it.
  """
  if not isinstance(messages, list) or not messages or not isinstance(messages[0], Mapping):
    return True
  return messages[0].get("role") == "system"


def _checked(tokens: np.ndarray, mask: np.ndarray, source: str) -> Example:
  if not mask[1:].any():  # no token comes before the first one, so nothing predicts it
    raise InputError(f"{source}: no token to be learned among {len(tokens)}")
  return Example(tokens, mask, source)
