"""Prompts for RL and evaluation: rows of JSONL files or data sets, checked and rendered to token ids.

A row has its prompt as text or as chat messages, a reference answer, and whatever other columns reward functions need;
all columns stay in `Prompt.row`. What is wrong with a row is found here, before anything is compiled, and is reported
with file and line.
"""

import dataclasses
import enum
import gzip
import hashlib
import json
import pathlib
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from posttrain_jax.data import chat
from posttrain_jax.data.chat import Message
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.types import InputError, Prompt

# Where data sets in use keep their prompts and references, the first one found counts. GSM8K files here have the worked
# solution as `answer` and its result as `final`.
PROMPT_FIELDS = ("messages", "prompt", "question", "problem")
ANSWER_FIELDS = ("final", "answer")


@dataclasses.dataclass(frozen=True)
class Row:
  """One row and where it came from.

  Attributes:
    columns: the row.
    source: "FILE:LINE" or "NAME, row N", for error messages.
  """

  columns: Mapping[str, Any]
  source: str


class OverLimit(enum.StrEnum):
  """What is done with a prompt of more tokens than the limit. Cutting it is no option: it would be another problem."""

  ERROR = "error"
  DROP = "drop"


@dataclasses.dataclass(frozen=True)
class PromptFormat:
  r"""How a row becomes a prompt.

  Attributes:
    template: put around the prompt's text, e.g. "{prompt}\nAnswer with 'Answer: <number>'."; around the last message's
      if the row has messages.
    chat: through the tokeniser's chat template, the text as the user's turn. Rows of messages always are.
    system: a system message for chats that have none of their own; None: none.
    chat_arguments: variables of the chat template, such as `enable_thinking`.
  """

  template: str = "{prompt}"
  chat: bool = False
  system: str | None = None
  chat_arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    """Raises InputError on a template without a place for the prompt."""
    if "{prompt}" not in self.template:
      raise InputError(f"prompts.template: {self.template!r} has no '{{prompt}}'")

  def ask(self, prompt: str | Sequence[Message]) -> str | list[Message]:
    """What a model is asked: text, or messages where there is a chat.

    Args:
      prompt: text, or the messages so far.

    Raises:
      InputError: there is a system message and no chat.
    """
    if isinstance(prompt, str):
      text = self._within(prompt)
      if not self.chat:
        if self.system is not None:
          raise InputError("a system message needs a chat: set prompts.chat, or leave prompts.system out")
        return text
      messages = [{"role": "user", "content": text}]
    else:
      messages = [dict(message) for message in prompt]
      if isinstance(messages[-1].get("content"), str):
        messages[-1]["content"] = self._within(messages[-1]["content"])
    if self.system is not None and messages[0].get("role") != "system":
      messages = [{"role": "system", "content": self.system}, *messages]
    return messages

  def _within(self, text: str) -> str:
    return self.template.replace("{prompt}", text)  # not str.format: both the template and the prompt may hold braces


def read_jsonl(path: str | pathlib.Path) -> list[Row]:
  r"""Reads the rows of a JSONL file, gzipped if its name ends in .gz. Lines end at "\n" alone; blank ones are left out.

  Raises:
    InputError: the file cannot be read or has no rows, or a line is no JSON object.
  """
  path = pathlib.Path(path)
  try:
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")
  except FileNotFoundError:
    raise InputError(f"{path}: no such file") from None
  except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
    raise InputError(f"{path}: cannot be read: {error}") from None
  rows = []
  # Not splitlines: strings in JSON may hold characters such as U+2028, which it takes for line ends.
  for number, line in enumerate(text.split("\n"), 1):
    if not line.strip():
      continue
    source = f"{path}:{number}"
    try:
      columns = json.loads(line)
      if "\\u" in line:
        json.dumps(columns, ensure_ascii=False).encode()  # half a character, which no tokeniser takes
    except (ValueError, RecursionError) as error:
      raise InputError(f"{source}: malformed JSON: {error}") from None
    if not isinstance(columns, dict):
      raise InputError(f"{source}: found a JSON {type(columns).__name__}, expected an object")
    rows.append(Row(columns, source))
  if not rows:
    raise InputError(f"{path}: no rows")
  return rows


def file_digest(path: str | pathlib.Path) -> str:
  """sha256 of a file's bytes as they are on disk, 64 hexadecimal digits.

  Raises:
    InputError: the file cannot be read.
  """
  try:
    with open(path, "rb") as file:
      return hashlib.file_digest(file, "sha256").hexdigest()
  except OSError as error:
    raise InputError(f"{path}: cannot be read: {error.strerror}") from None


def rows_digest(rows: Iterable[Mapping[str, Any]]) -> str:
  """sha256 of rows that no file holds, such as those of a procedural task."""
  digest = hashlib.sha256()
  for row in rows:
    digest.update(json.dumps(row, sort_keys=True).encode() + b"\n")
  return digest.hexdigest()


def named_rows(rows: Iterable[Mapping[str, Any]], name: str) -> list[Row]:
  """Rows that come from a data set instead of a file."""
  return [Row(columns, f"{name}, row {i}") for i, columns in enumerate(rows)]


def make_prompts(
  rows: Sequence[Row],
  tokenizer: Tokenizer,
  *,
  max_length: int,
  prompt_format: PromptFormat = PromptFormat(),
  prompt_field: str | None = None,
  answer_field: str | None = None,
  over_limit: OverLimit = OverLimit.ERROR,
) -> tuple[list[Prompt], int]:
  """Checks rows and renders their prompts.

  Args:
    rows: the rows.
    tokenizer: the model's.
    max_length: the most tokens of a prompt.
    prompt_format: how a row becomes a prompt.
    prompt_field: column of the prompt: text, or messages; the first of PROMPT_FIELDS that there is if None.
    answer_field: column of the reference answer: text or a number; the first of ANSWER_FIELDS that there is if None.
    over_limit: what is done with a prompt of more tokens.

  Returns:
    (prompts, number of prompts dropped for their length). `Prompt.index` is the position in `rows`, also where others
    were dropped; `Prompt.row` has all columns, with the reference answer as "answer".

  Raises:
    InputError: no rows; a row without a prompt or an answer; one of another type, or empty; a prompt that cannot be
      tokenised or is over the limit; or all are dropped. One line with file and line.
  """
  prompts, dropped = [], 0
  for index, row in enumerate(rows):
    prompt = _find(row, prompt_field, PROMPT_FIELDS, "prompt")
    answer = row.columns[_find(row, answer_field, ANSWER_FIELDS, "answer")]
    if (
      isinstance(answer, bool)
      or not isinstance(answer, str | int | float)
      or not str(answer).strip()
      or answer != answer
    ):
      raise InputError(f"{row.source}: answer is {_shown(answer)}, expected text or a number")
    try:
      tokens = _tokens(row.columns[prompt], prompt, prompt_format, tokenizer)
    except InputError as error:
      raise InputError(f"{row.source}: {error}") from None
    if len(tokens) > max_length:
      if over_limit == OverLimit.ERROR:
        raise InputError(f"{row.source}: prompt of {len(tokens)} tokens, the limit is {max_length}")
      dropped += 1
      continue
    prompts.append(Prompt(index, tuple(tokens), {**row.columns, "answer": answer}))
  if not prompts:
    found = f"all {dropped} prompts are over the limit of {max_length} tokens" if dropped else "no rows"
    raise InputError(f"{rows[0].source.rsplit(':', 1)[0] if rows else 'prompts'}: {found}")
  return prompts, dropped


def _find(row: Row, named: str | None, usual: Sequence[str], what: str) -> str:
  """The column to read: the named one, or the first usual one that the row has."""
  candidates = usual if named is None else (named,)
  field = next((field for field in candidates if row.columns.get(field) is not None), None)
  if field is None:
    raise InputError(
      f"{row.source}: no {what}: found columns {', '.join(row.columns) or 'none'}; expected "
      f"{' or '.join(repr(field) for field in candidates)}"
    )
  return field


def _tokens(prompt: Any, field: str, prompt_format: PromptFormat, tokenizer: Tokenizer) -> list[int]:
  are_messages = isinstance(prompt, list) and all(isinstance(message, dict) for message in prompt)
  if not prompt or not (isinstance(prompt, str) or are_messages):
    raise InputError(f"{field} is {_shown(prompt)}, expected text or a list of messages, not empty")
  asked = prompt_format.ask(prompt)
  if isinstance(asked, str):
    return tokenizer.encode(asked, add_special_tokens=True)
  return chat.encode_prompt(asked, tokenizer, **prompt_format.chat_arguments)


def _shown(value: Any) -> str:
  text = repr(value)
  return text if len(text) <= 40 else f"{text[:40]}..."
