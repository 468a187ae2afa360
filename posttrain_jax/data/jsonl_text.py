"""Reads the text of a JSONL file, and recognises other kinds of files."""

import csv
import gzip
import json
import pathlib
import zlib

from posttrain_jax.types import InputError

_EXPECTED = "expected JSONL, one JSON object a line"
_TO_JSONL = "pandas.read_{kind}('{name}').to_json('{stem}.jsonl', orient='records', lines=True)"


def read_text(path: pathlib.Path) -> str:
  """Reads a UTF-8 file, gzipped if its name ends in .gz.

  A byte-order mark is left out.

  Raises:
    InputError: if the file cannot be read or is not UTF-8; the message names the line.
  """
  try:
    content = path.read_bytes()
    content = gzip.decompress(content) if path.suffix == ".gz" else content
  except FileNotFoundError:
    raise InputError(f"{path}: no such file") from None
  except IsADirectoryError:
    raise InputError(f"{path}: is a directory, expected a file") from None
  except (OSError, EOFError, zlib.error) as error:
    raise InputError(f"{path}: cannot be read: {error}") from None
  try:
    return content.decode("utf-8-sig")
  except UnicodeDecodeError as error:
    if content[:4] == b"PAR1":
      raise InputError(f"{path}: cannot be read: found Parquet, {_EXPECTED}; {_writes(path, 'parquet')}") from None
    if content[:2] == b"\x1f\x8b":
      raise InputError(f"{path}: cannot be read: found gzip, expected a name that ends in .gz") from None
    found = "UTF-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "LATIN1"  # LATIN1 is a guess
    line = content.count(b"\n", 0, error.start) + 1
    raise InputError(
      f"{path}: cannot be read: line {line} is not UTF-8 (byte 0x{content[error.start]:02x}), expected UTF-8; "
      f"`iconv -f {found} -t UTF-8` converts it if it is {found}"
    ) from None


def hint(path: pathlib.Path, text: str) -> str:
  """Guesses what a file is whose first line is not a JSON object.

  Returns:
    "; " and what the file seems to be, with a command that makes JSONL of it; empty where there is no guess.
  """
  start = text.lstrip()
  if start.startswith("["):
    name = f"<(zcat {path.name})" if path.suffix == ".gz" else path.name
    return f"; the file seems to be one JSON array, {_EXPECTED}; `jq -c '.[]' {name} > new.jsonl` writes it so"
  if start.startswith("{"):
    try:
      json.loads(text)
    except (ValueError, RecursionError):
      return ""
    return f"; the file is one JSON object over several lines, {_EXPECTED}; `jq -c . {path.name}` writes it so"
  header = start.split("\n", 1)[0].strip()
  for separator, kind in ((",", "csv"), ("\t", "table")):
    columns = next(csv.reader([header], delimiter=separator), [])
    if len(columns) > 1 and all(column.strip() for column in columns):
      shown = ", ".join(columns[:6])
      return f"; the file seems to be CSV with the columns {shown}, {_EXPECTED}; {_writes(path, kind)}"
  return ""


def _writes(path: pathlib.Path, kind: str) -> str:
  stem = path.name.split(".")[0]
  return f"`{_TO_JSONL.format(kind=kind, name=path.name, stem=stem)}` in Python writes it so"
