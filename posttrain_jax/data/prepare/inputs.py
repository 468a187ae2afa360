"""Finds the files of raw text and reads them in blocks of bounded size."""

import glob
import gzip
import hashlib
import itertools
import os
import pathlib
import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple

from posttrain_jax.data import jsonl_text
from posttrain_jax.data.prepare.documents import InputSettings, TextPiece, documents
from posttrain_jax.data.prepare.refusal import refuse
from posttrain_jax.local_path import local_path

BLOCK_BYTES = 4 * 2**20  # of raw text; what a worker holds at a time
_ROWS, _TEXT = (".jsonl", ".ndjson"), (".txt", ".text", ".md")
_EXPECTED = f"expected {', '.join((*_ROWS, *_TEXT))}, each also with .gz"
_MARK = b"\xef\xbb\xbf"  # a byte-order mark in UTF-8
_START = 2**16  # bytes of a file that are read to look at its first document


class InputFile(NamedTuple):
  """Holds a file of raw text.

  Attributes:
    path: where it is.
    name: its path below the folder that was named, which does not change if the folder moves.
    rows: whether it is JSONL, and not plain text.
  """

  path: pathlib.Path
  name: str
  rows: bool


def find_files(paths: Sequence[str]) -> list[InputFile]:
  """Returns the files that paths name, each once.

  The order is that of the paths, and that of the names within a folder or a pattern.

  Raises:
    InputError: if a path does not exist, a pattern or folder has no file, or a file is of another kind.
  """
  found: dict[str, InputFile] = {}
  for given in paths:
    path = local_path(given, "input.paths")
    if path.is_dir():
      inner = sorted(each for each in path.rglob("*") if each.is_file())
      files = [each for each in inner if _kind(each) is not None]
      if not files:
        shown = f"found {inner[0].name}" if inner else "it is empty"
        refuse(f"input.paths: {path}: no file of raw text in this folder ({shown}), {_EXPECTED}")
      root = path.absolute().parent
    elif path.exists():
      files, root = [path], path.absolute().parent
    elif glob.has_magic(str(path)):
      files = [pathlib.Path(each) for each in sorted(glob.glob(str(path), recursive=True)) if os.path.isfile(each)]
      root = pathlib.Path(*itertools.takewhile(lambda part: not glob.has_magic(part), path.absolute().parts))
      if not files:
        refuse(f"input.paths: {path}: no file fits this pattern")
    else:
      refuse(f"input.paths: {path}: no such file or folder")
    for file in files:
      kind = _kind(file)
      if kind is None:
        refuse(f"input.paths: {file}: found a name that ends in {file.suffix or 'nothing'!r}, {_EXPECTED}")
      name = file.absolute().relative_to(root).as_posix()
      found.setdefault(os.path.realpath(file), InputFile(file, name, kind))
  return list(found.values())


def check_files(files: Sequence[InputFile], settings: InputSettings) -> str:
  """Checks that every file can be read to its end, and first documents.

  A file of JSONL may be of another kind or lack the field, so the first row of each is read. A file of plain text is
  one document of many, so the first one stands for all.

  Returns:
    The sha256 of all names and contents.

  Raises:
    InputError: if a file cannot be read, or if one of these documents is missing or cannot be read.
  """
  is_text_read = False
  for index, file in enumerate(files):
    if file.rows and not _check_first(index, file, settings):
      refuse(f"{file.path}: no document, expected rows of JSONL")
    if not file.rows and not is_text_read:
      is_text_read = _check_first(index, file, settings)
  if not is_text_read and not any(file.rows for file in files):
    refuse(f"{files[0].path}: no document, expected text")
  digest = hashlib.sha256()
  for file in files:
    with _reading(file), open(file.path, "rb") as raw:
      digest.update(f"{file.name}\n{hashlib.file_digest(raw, 'sha256').hexdigest()}\n".encode())
    if file.path.suffix == ".gz":
      with _reading(file), gzip.open(file.path) as stream:
        while stream.read(BLOCK_BYTES):
          pass
  return digest.hexdigest()


def blocks(files: Sequence[InputFile], settings: InputSettings) -> Iterator[list[TextPiece]]:
  """Yields the whole input in blocks; they depend on nothing but the input and the settings."""
  block, size = [], 0
  for index, file in enumerate(files):
    for piece in _pieces(index, file, settings):
      block.append(piece)
      size += len(piece.content)
      if size >= BLOCK_BYTES:
        yield block
        block, size = [], 0
  if block:
    yield block


def _kind(path: pathlib.Path) -> bool | None:
  """Tells whether a file has rows of JSONL; None for other than plain text."""
  name = path.name.lower().removesuffix(".gz")
  return True if name.endswith(_ROWS) else False if name.endswith(_TEXT) else None


class _reading:
  """Turns the errors of a file into InputErrors that name it."""

  def __init__(self, file: InputFile):
    self._path = file.path

  def __enter__(self):
    return self

  def __exit__(self, kind, error, trace):
    if isinstance(error, OSError | EOFError | zlib.error):
      refuse(f"{self._path}: cannot be read: {error}")


def _check_first(index: int, file: InputFile, settings: InputSettings) -> bool:
  """Refuses a file's first document if it cannot be read; returns whether there is one."""
  with _reading(file), _opened(file) as stream:
    start = stream.read(_START).removeprefix(_MARK)
  for piece in _pieces(index, file, settings):
    for document in documents(piece, settings):
      if document.problem:
        is_other = file.rows and "JSON" in document.problem  # a row of another kind, not one that lacks the field
        hint = jsonl_text.hint(file.path, start.decode("utf-8", "replace")) if is_other else ""
        refuse(f"{file.path}:{document.line}: {document.problem}{hint}")
      return True
  return False


def _opened(file: InputFile) -> BinaryIO:
  return gzip.open(file.path) if file.path.suffix == ".gz" else open(file.path, "rb")


def _pieces(index: int, file: InputFile, settings: InputSettings) -> Iterator[TextPiece]:
  """Yields a file in pieces of whole documents of about a block's size."""
  separator = b"\n" if file.rows else settings.separator.encode()
  line, rest, at_start = 1, b"", True
  with _reading(file), _opened(file) as stream:
    while True:
      content = stream.read(BLOCK_BYTES)
      is_end, rest = not content, rest + (content.removeprefix(_MARK) if at_start else content)
      at_start = False
      end = len(rest) if is_end else 0
      if separator and separator in rest and not is_end:
        end = rest.rfind(separator) + len(separator)
      if end:
        yield TextPiece(index, file.rows, line, rest[:end], True)
        line, rest = line + rest.count(b"\n", 0, end), rest[end:]
      elif len(rest) > settings.longest:
        yield TextPiece(index, file.rows, line, rest[:1000], False)
        skipped, rest, is_end = _skip(stream, rest, separator)
        line += skipped
      if is_end:
        return


def _skip(stream: BinaryIO, rest: bytes, separator: bytes) -> tuple[int, bytes, bool]:
  """Skips the rest of a document over the limit.

  Returns:
    (line ends that were skipped, what was read after the document, whether the file ended in it).
  """
  lines = 0
  while True:
    keep = len(separator) - 1 if separator else 0
    tail = rest[len(rest) - keep :] if keep else b""
    lines += rest.count(b"\n") - tail.count(b"\n")
    content = stream.read(BLOCK_BYTES)
    if not content:
      return lines, b"", True
    rest = tail + content
    if separator and separator in rest:
      end = rest.find(separator) + len(separator)
      return lines + rest.count(b"\n", 0, end), rest[end:], False
