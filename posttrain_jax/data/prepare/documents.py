"""Cuts raw bytes into documents, and says why one cannot be read."""

import dataclasses
import enum
import json
from collections.abc import Iterator
from typing import NamedTuple

from posttrain_jax.data.prepare.refusal import refuse


class Unreadable(enum.StrEnum):
  """Lists the actions on a document that cannot be read.

  The first row of a file of JSONL must be readable; else the file is not what it seems to be.
  """

  DROP = "drop"  # leave it out and count it
  ERROR = "error"  # raise an error that names its line


@dataclasses.dataclass(frozen=True, kw_only=True)
class InputSettings:
  """Holds the `input` section.

  Attributes:
    paths: files, folders or patterns such as data/*.jsonl.gz.
    field: the field of a row of JSONL that has the text.
    separator: text between two documents of a plain text file; empty: a file is one document.
    longest: most bytes of a document.
    unreadable: action on a document that cannot be read.
  """

  paths: tuple[str, ...]
  field: str
  separator: str
  longest: int
  unreadable: Unreadable

  def __post_init__(self):
    """Raises InputError if there are no paths, no field, or no room for a document."""
    if not self.paths:
      refuse("input.paths: none, expected files, folders or patterns of raw text")
    if not self.field:
      refuse("input.field: '', expected the name of the field of JSONL that has the text")
    if not 1 <= self.longest <= 2**30:
      refuse(f"input.longest: {self.longest}, expected 1 to {2**30} bytes")


class TextPiece(NamedTuple):
  """Holds consecutive whole documents of one file.

  Attributes:
    file: position of the file in the input.
    rows: whether they are rows of JSONL, and not plain text.
    line: number of the first line, from 1.
    content: the raw bytes; of a document over the limit, its beginning.
    is_whole: False for one document over the limit.
  """

  file: int
  rows: bool
  line: int
  content: bytes
  is_whole: bool


class RawDocument(NamedTuple):
  """Holds a document and its place.

  Attributes:
    file: position of the file in the input.
    line: number of its first line.
    text: the text, not empty; of an unreadable one, as much as is known.
    problem: why it cannot be read; empty if it can.
  """

  file: int
  line: int
  text: str
  problem: str


def documents(piece: TextPiece, settings: InputSettings) -> Iterator[RawDocument]:
  """Yields the documents of a piece; blank lines and empty texts between separators are none."""
  separator = b"\n" if piece.rows else settings.separator.encode()
  parts = piece.content.split(separator) if separator and piece.is_whole else [piece.content]
  line = piece.line
  for part in parts:
    if not part.isspace() and part:
      text, problem = "", f"is longer than {settings.longest} bytes (input.longest)"
      if piece.is_whole and len(part) <= settings.longest:
        # Empty lines beside a separator belong to neither document.
        text, problem = _row(part, settings.field) if piece.rows else _plain(part.strip(b"\r\n") if separator else part)
      if problem:
        text = text or part[:1000].decode("utf-8", "replace")
      leading = 0 if piece.rows else part[: len(part) - len(part.lstrip())].count(b"\n")
      yield RawDocument(piece.file, line + leading, text, problem)
    line += part.count(b"\n") + separator.count(b"\n")


def _plain(content: bytes) -> tuple[str, str]:
  try:
    return content.decode("utf-8"), ""
  except UnicodeDecodeError as error:
    return "", f"is not UTF-8 (byte 0x{content[error.start]:02x})"


def _row(content: bytes, field: str) -> tuple[str, str]:
  line, problem = _plain(content)
  if problem:
    return "", problem
  try:
    row = json.loads(line)
  except (ValueError, RecursionError) as error:
    return "", f"malformed JSON: {error}"
  if not isinstance(row, dict):
    return "", f"found a JSON {type(row).__name__}, expected an object"
  text = row.get(field)
  if not isinstance(text, str):
    found = type(text).__name__ if field in row else f"the fields {', '.join(row) or 'none'}"
    return "", f"found {found}, expected text in the field {field!r}"
  if not text.strip():
    return line, f"the field {field!r} has no text"
  if "\\u" in line:
    try:
      text.encode()
    except UnicodeEncodeError:
      return line, "has half a character (a lone surrogate)"
  return text, ""
