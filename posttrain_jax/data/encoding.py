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
from posttrain_jax.data.chat_template import plain, tools_of
from posttrain_jax.data.chat_words import LeftOut
from posttrain_jax.data.prompts import PromptFormat, Row, refuse_tools
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
  rows: Iterable[Row],
  tokenizer: Tokenizer,
  *,
  chat: bool,
  system: str | None = None,
  template: str = "{prompt}",
  chat_arguments: Mapping[str, Any] | None = None,
  left_out: LeftOut = LeftOut.ERROR,
) -> list[Example]:
  """Tokenises demonstrations in the form that each row's columns give.

  Args:
    rows: each with "messages", "prompt" and "completion", or "question" and "answer". A prompt that is a list of
      messages is the chat so far. Its last turn may be the assistant's, which the completion then continues. The
      "tools" of a row are shown to the model by the chat template.
    tokenizer: the model's tokeniser.
    chat: renders prompts and completions that are text with the chat template, as a user's and an assistant's turn.
      Rows of messages always use the chat template.
    system: system message for chats that do not have one; None: no system message.
    template: text with "{prompt}" in it, put around a prompt's text. If the prompt is a list of messages, it is put
      around the last one that is not the assistant's. `prompts.PromptFormat.template` does the same when answers are
      sampled. Rows of "messages" are whole chats and stay as they are.
    chat_arguments: variables of the chat template; None: none.
    left_out: action on words of a chat that the chat template leaves out.

  Raises:
    InputError: if a row has other columns or values, cannot be tokenised, has an empty answer or no token to learn, or
      if there is a system message or a tool without a chat. The message is one line with the row's source.
  """
  examples = []
  for row in rows:
    columns, begun = _columns(row, template, chat=chat, system=system)
    if "messages" in columns:
      options = dict(system=system, begun=begun, chat_arguments=chat_arguments, left_out=left_out)
      examples.append(_encode_chat(Row(columns, row.source), tokenizer, **options))
    else:
      examples += encode_completions([Row(columns, row.source)], tokenizer)
  return examples


def encode_chats(
  rows: Iterable[Row],
  tokenizer: Tokenizer,
  *,
  system: str | None = None,
  chat_arguments: Mapping[str, Any] | None = None,
  left_out: LeftOut = LeftOut.ERROR,
) -> list[Example]:
  """Tokenises rows of "messages".

  The words of every assistant turn are learned, end token included.

  Args:
    rows: the chats, each optionally with "tools".
    tokenizer: must have a chat template.
    system: system message for chats that do not have one; None: no system message.
    chat_arguments: variables of the chat template; None: none.
    left_out: action on words that the chat template leaves out.

  Raises:
    InputError: as in `chat.encode_demonstration`, or if a row has no token to learn. The message names the row's
      source.
  """
  options = dict(system=system, begun="", chat_arguments=chat_arguments, left_out=left_out)
  return [_encode_chat(row, tokenizer, **options) for row in rows]


def _encode_chat(
  row: Row,
  tokenizer: Tokenizer,
  *,
  system: str | None,
  begun: str,
  chat_arguments: Mapping[str, Any] | None,
  left_out: LeftOut,
) -> Example:
  messages = row.columns.get("messages")
  try:
    if system is not None and not _has_system(messages):
      messages = [{"role": "system", "content": system}, *messages]
    arguments = {**(chat_arguments or {}), "tools": tools_of(row.columns)}
    tokens, mask = chat.encode_demonstration(messages, tokenizer, begun=begun, left_out=left_out, **arguments)
  except InputError as error:
    raise InputError(f"{row.source}: {error}") from None
  return _checked(tokens, mask, row.source)


def encode_completions(rows: Iterable[Row], tokenizer: Tokenizer) -> list[Example]:
  """Tokenises rows of "prompt" and "completion".

  The completion is learned, and so is the end token that is put after it, unless it has one already. The two texts are
  tokenised apart, as a prompt and a sampled answer are, so no token crosses the border. A prompt gets the special
  tokens that the tokeniser adds by itself (Llama 3: BOS), as prompts in RL do.

  Raises:
    InputError: if a row lacks one of the two texts, a text cannot be tokenised, the completion is empty, or no token is
      to be learned. The message names the row's source.
  """
  examples = []
  for row in rows:
    texts = row.columns
    for field in ("prompt", "completion"):
      if not isinstance(texts.get(field), str):
        raise InputError(f"{row.source}: {field} is {texts.get(field)!r}, expected text")
    try:
      refuse_tools(tools_of(texts))
      said = tokenizer.without_end(texts["completion"])
      if not said.strip():
        raise InputError(f"completion is {texts['completion']!r}, which is empty; expected words to learn")
      prompt, completion = tokenizer.encode_pieces([texts["prompt"], said], prompt=True)
    except InputError as error:
      raise InputError(f"{row.source}: {error}") from None
    if tokenizer.eos_id is not None:
      completion.append(tokenizer.eos_id)
    mask = [False] * len(prompt) + [True] * len(completion)
    examples.append(_checked(np.array(prompt + completion, np.int32), np.array(mask, bool), row.source))
  return examples


def has_empty_answer(row: Row, tokenizer: Tokenizer) -> bool:
  """Says whether an answer of a row has no words.

  It would teach to end at once.

  Args:
    row: a demonstration in any form. A malformed one has no empty answer; encoding it is an error.
    tokenizer: the model's; an answer that is only an end token is empty.
  """
  if (messages := row.columns.get("messages")) is None:
    said = next((row.columns[last] for first, last in COMPLETION_FIELDS if _has(row, first, last)), None)
    return isinstance(said, str) and not tokenizer.without_end(said).strip()
  try:
    said = chat.without_ends(messages, tokenizer)
  except InputError:
    return False
  return any(chat.is_empty(message) for message in said if message["role"] == "assistant")


def _has(row: Row, *fields: str) -> bool:
  return all(row.columns.get(field) is not None for field in fields)


def _columns(row: Row, template: str, *, chat: bool, system: str | None) -> tuple[Mapping[str, Any], str]:
  """Returns the row as {"messages"} or {"prompt", "completion"}, and the beginning of its last turn."""
  if row.columns.get("messages") is not None:
    return row.columns, ""
  found = [pair for pair in COMPLETION_FIELDS if _has(row, *pair)]
  if not found:
    pairs = " or ".join(f"'{first}' and '{second}'" for first, second in COMPLETION_FIELDS)
    columns = ", ".join(row.columns) or "none"
    raise InputError(f"{row.source}: found columns {columns}; expected 'messages' or {pairs}")
  prompt, completion = (row.columns[field] for field in found[0])
  if not isinstance(completion, str):
    raise InputError(f"{row.source}: {found[0][1]} is {completion!r}, expected text")
  said = {"role": "assistant", "content": completion}
  others = {"tools": row.columns.get("tools")}
  if isinstance(prompt, list):
    prompt = _asked(prompt, template, row.source)
    if prompt and isinstance(prompt[-1], Mapping) and prompt[-1].get("role") == "assistant":
      messages, begun = _continued(prompt, completion, row.source)
      return others | {"messages": messages}, begun
    return others | {"messages": [*prompt, said]}, ""
  if not isinstance(prompt, str):
    raise InputError(f"{row.source}: {found[0][0]} is {prompt!r}, expected text or a list of messages")
  prompt = template.replace("{prompt}", prompt)  # not str.format: prompts may hold braces
  if chat:
    return others | {"messages": [{"role": "user", "content": prompt}, said]}, ""
  if system is not None:
    raise InputError(f"{row.source}: a system message needs a chat, found a prompt that is text")
  return others | {"prompt": prompt, "completion": completion}, ""


def _asked(prompt: list[Any], template: str, source: str) -> list[Any]:
  """Puts the template around the last message that is not the assistant's."""
  try:
    return prompt if template == "{prompt}" else PromptFormat(template).ask(prompt)
  except InputError as error:
    raise InputError(f"{source}: {error}") from None


def _continued(prompt: list[Any], completion: str, source: str) -> tuple[list[dict[str, Any]], str]:
  """Returns the chat whose last turn the prompt begins and the completion ends, and that beginning."""
  try:
    *before, last = plain(prompt)
  except InputError as error:
    raise InputError(f"{source}: {error}") from None
  if last.get("tool_calls"):
    raise InputError(f"{source}: the prompt ends with a call of a tool, expected words that the completion continues")
  return [*before, {**last, "content": last["content"] + completion}], last["content"]


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
