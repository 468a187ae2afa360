"""Reads prompts for RL and evaluation and renders them to token ids.

Prompts come from rows of JSONL files or data sets. A row has a prompt (text or chat messages), a reference answer, and
any other columns that reward functions need. All columns stay in `Prompt.row`. Bad rows are found here, before anything
is compiled, and errors name file and line.
"""

import dataclasses
import enum
import hashlib
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from posttrain_jax.data import chat, jsonl_text
from posttrain_jax.data.chat_template import Message, plain, tools_of
from posttrain_jax.data.chat_words import LeftOut
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.local_path import local_path
from posttrain_jax.types import InputError, Prompt

# Usual columns of prompts and references; the first one that a row has is used. GSM8K files here have the worked
# solution as `answer` and its result as `final`.
PROMPT_FIELDS = ("messages", "prompt", "question", "problem")
ANSWER_FIELDS = ("final", "answer")


@dataclasses.dataclass(frozen=True)
class Row:
  """Holds one row and its origin.

  Attributes:
    columns: the values of the row by column.
    source: "FILE:LINE" or "NAME, row N", for error messages.
  """

  columns: Mapping[str, Any]
  source: str


class OverLimit(enum.StrEnum):
  """Lists the actions on a prompt with more tokens than the limit.

  A prompt is never cut, because a cut prompt would be another problem.
  """

  ERROR = "error"  # raise an error that names the row
  DROP = "drop"  # leave the prompt out and count it


_WORDS = 5  # characters of a template that are more than a sign, with which a prompt may end by itself


@dataclasses.dataclass(frozen=True)
class PromptFormat:
  r"""Describes how a row becomes a prompt.

  Attributes:
    template: text with "{prompt}" in it, e.g. "{prompt}\nAnswer with 'Answer: <number>'.". It is put around the
      prompt's text. If the row has messages, it is put around the last one that is not the assistant's.
    chat: renders a prompt that is text with the tokeniser's chat template, as the user's turn. Rows of messages always
      use the chat template.
    system: system message for chats that do not have one; None: no system message.
    chat_arguments: variables of the chat template, such as `enable_thinking`.
    left_out: action on words of a chat that the chat template leaves out.
  """

  template: str = "{prompt}"
  chat: bool = False
  system: str | None = None
  chat_arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  left_out: LeftOut = LeftOut.ERROR

  def __post_init__(self):
    """Checks the template.

    Raises:
      InputError: if `template` does not contain "{prompt}".
    """
    if "{prompt}" not in self.template:
      raise InputError(f"prompts.template: {self.template!r} has no '{{prompt}}'")

  def ask(self, prompt: str | Sequence[Message]) -> str | list[Message]:
    """Returns the model's input: text, or messages if it is a chat.

    Args:
      prompt: text, or the messages so far.

    Raises:
      InputError: if there is a system message without a chat, or if the prompt is in the template already.
    """
    if isinstance(prompt, str):
      text = self._within(prompt)
      if not self.chat:
        if self.system is not None:
          raise InputError("a system message needs a chat: set prompts.chat, or leave prompts.system out")
        return text
      messages = [{"role": "user", "content": text}]
    else:
      messages = plain(prompt)
      asking = next((message for message in reversed(messages) if message["role"] != "assistant"), {})
      if isinstance(asking.get("content"), str):
        asking["content"] = self._within(asking["content"])
    if self.system is not None and messages[0].get("role") != "system":
      messages = [{"role": "system", "content": self.system}, *messages]
    return messages

  def _within(self, text: str) -> str:
    before, after = (part.strip() for part in self.template.split("{prompt}", 1))
    words = len(before + after) >= _WORDS
    if words and text.strip().startswith(before) and text.strip().endswith(after):
      raise InputError(
        f"template: {self.template!r} is around {text!r:.60} already, expected '{{prompt}}' for such rows"
      )
    return self.template.replace("{prompt}", text)  # not str.format: template and prompt may contain braces


def read_jsonl(path: str | pathlib.Path) -> list[Row]:
  r"""Reads the rows of a JSONL file.

  The file is gzipped if its name ends in .gz. Only "\n" ends a line. Blank lines and a byte-order mark are skipped.

  Raises:
    InputError: if the file cannot be read or has no rows, or if a line is not a JSON object.
  """
  path = local_path(path)
  text, rows = jsonl_text.read_text(path), []
  # Not splitlines: it also splits at characters such as U+2028, which strings in JSON may contain.
  for number, line in enumerate(text.split("\n"), 1):
    if not line.strip():
      continue
    source = f"{path}:{number}"
    try:
      columns = json.loads(line)
      if "\\u" in line:
        json.dumps(columns, ensure_ascii=False).encode()  # fails on half a character, which no tokeniser accepts
    except (ValueError, RecursionError) as error:
      hint = "" if rows else jsonl_text.hint(path, text)
      raise InputError(f"{source}: malformed JSON: {error}{hint}") from None
    if not isinstance(columns, dict):
      hint = "" if rows else jsonl_text.hint(path, text)
      raise InputError(f"{source}: found a JSON {type(columns).__name__}, expected an object{hint}")
    rows.append(Row(columns, source))
  if not rows:
    raise InputError(f"{path}: no rows")
  return rows


def file_digest(path: str | pathlib.Path) -> str:
  """Computes the sha256 of a file's bytes on disk, as 64 hexadecimal digits.

  Raises:
    InputError: if the file cannot be read.
  """
  try:
    with open(local_path(path), "rb") as file:
      return hashlib.file_digest(file, "sha256").hexdigest()
  except OSError as error:
    raise InputError(f"{path}: cannot be read: {error.strerror}") from None


def rows_digest(rows: Iterable[Mapping[str, Any]]) -> str:
  """Computes the sha256 of rows without a file, such as those of a procedural task."""
  digest = hashlib.sha256()
  for row in rows:
    digest.update(json.dumps(row, sort_keys=True).encode() + b"\n")
  return digest.hexdigest()


def named_rows(rows: Iterable[Mapping[str, Any]], name: str) -> list[Row]:
  """Makes rows that come from a data set instead of a file."""
  return [Row(columns, f"{name}, row {i}") for i, columns in enumerate(rows)]


def own_prompt(row: Mapping[str, Any]) -> str | list[Message]:
  """Returns the prompt that a row has, text or messages: the first of PROMPT_FIELDS."""
  return next(row[field] for field in PROMPT_FIELDS if row.get(field) is not None)


def make_prompts(
  rows: Sequence[Row],
  tokenizer: Tokenizer,
  *,
  max_length: int,
  prompt_format: PromptFormat = PromptFormat(),
  prompt_field: str | None = None,
  answer_field: str | None = None,
  answer_required: bool = True,
  over_limit: OverLimit = OverLimit.ERROR,
  limit_field: str = "max_length",
) -> tuple[list[Prompt], int]:
  """Checks rows and renders their prompts.

  Args:
    rows: the rows.
    tokenizer: the model's tokeniser.
    max_length: limit on the tokens of a prompt.
    prompt_format: how a row becomes a prompt.
    prompt_field: column of the prompt, which is text or messages; None: the first of PROMPT_FIELDS that the row has.
    answer_field: column of the reference answer, which is text or a number; None: the first of ANSWER_FIELDS that the
      row has.
    answer_required: whether a row must have a reference answer. If not, whoever judges must check what it needs.
    over_limit: action on a prompt with more than `max_length` tokens.
    limit_field: the config field of that limit, which messages name.

  Returns:
    (prompts, number of prompts dropped for their length). `Prompt.index` is the position in `rows`, even if other
    prompts were dropped. `Prompt.row` has all columns, with the reference answer as "answer".

  Raises:
    InputError: if there are no rows, if a row has no prompt or lacks a required answer, if one of these has another
      type or is empty, if a prompt cannot be tokenised, if a prompt is over the limit and `over_limit` is ERROR, or if
      all prompts are dropped. The message is one line with file and line.
  """
  prompts, dropped = [], 0
  for index, row in enumerate(rows):
    prompt = _find(row, prompt_field, PROMPT_FIELDS, "prompt")
    columns = _with_answer(row, answer_field, required=answer_required)
    try:
      tokens = _tokens(row.columns, prompt, prompt_format, tokenizer)
    except InputError as error:
      raise InputError(f"{row.source}: {error}") from None
    if len(tokens) > max_length:
      if over_limit == OverLimit.ERROR:
        raise InputError(f"{row.source}: prompt of {len(tokens)} tokens, the limit is {max_length} ({limit_field})")
      dropped += 1
      continue
    prompts.append(Prompt(index, tuple(tokens), columns, source=row.source))
  if not prompts:
    found = f"all {dropped} prompts are over the limit of {max_length} tokens ({limit_field})" if dropped else "no rows"
    raise InputError(f"{rows[0].source.rsplit(':', 1)[0] if rows else 'prompts'}: {found}")
  return prompts, dropped


def _with_answer(row: Row, answer_field: str | None, *, required: bool) -> dict[str, Any]:
  """Returns a row's columns with the reference answer as "answer"."""
  candidates = ANSWER_FIELDS if answer_field is None else (answer_field,)
  if not required and all(row.columns.get(field) is None for field in candidates):
    return dict(row.columns)
  answer = row.columns[_find(row, answer_field, ANSWER_FIELDS, "answer")]
  bad = isinstance(answer, bool) or not isinstance(answer, str | int | float) or not str(answer).strip()
  if required and (bad or answer != answer):
    raise InputError(f"{row.source}: answer is {_shown(answer)}, expected text or a number")
  return {**row.columns, "answer": answer}


def _find(row: Row, named: str | None, usual: Sequence[str], what: str) -> str:
  """Returns the column to read: the named one, or the first usual one."""
  candidates = usual if named is None else (named,)
  field = next((field for field in candidates if row.columns.get(field) is not None), None)
  if field is None:
    raise InputError(
      f"{row.source}: no {what}: found columns {', '.join(row.columns) or 'none'}; expected "
      f"{' or '.join(repr(field) for field in candidates)}"
    )
  return field


def _tokens(columns: Mapping[str, Any], field: str, prompt_format: PromptFormat, tokenizer: Tokenizer) -> list[int]:
  prompt, tools = columns[field], tools_of(columns)
  are_messages = isinstance(prompt, list) and all(isinstance(message, dict) for message in prompt)
  if not prompt or not (isinstance(prompt, str) or are_messages):
    raise InputError(f"{field} is {_shown(prompt)}, expected text or a list of messages, not empty")
  asked = prompt_format.ask(prompt)
  if isinstance(asked, str):
    refuse_tools(tools)
    return tokenizer.encode_prompt(asked)
  arguments = {**prompt_format.chat_arguments, "tools": tools}
  return chat.encode_prompt(asked, tokenizer, left_out=prompt_format.left_out, **arguments)


def refuse_tools(tools: Any) -> None:
  """Refuses tools of a row that is not a chat.

  Only a chat template can show them.

  Raises:
    InputError: if there are any.
  """
  if tools:
    raise InputError("tools need a chat: set chat, or leave the column 'tools' out")


def _shown(value: Any) -> str:
  text = repr(value)
  return text if len(text) <= 40 else f"{text[:40]}..."
