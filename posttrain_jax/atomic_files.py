"""Writes files atomically: a reader finds the whole file or none."""

import json
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any


def write_text(path: pathlib.Path, text: str) -> None:
  """Writes or replaces a file with UTF-8 text, atomically and durably.

  A reader finds the old text or the new one, also after a kill or a power loss. When this returns, the new text is on
  disk.
  """
  write_bytes(path, text.encode("utf-8"))


def write_rows(path: pathlib.Path, rows: Iterable[Mapping[str, Any]]) -> None:
  """Writes or replaces a JSONL file, one line for each row, as `write_text` does with text."""
  write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def write_bytes(path: pathlib.Path, content: bytes) -> None:
  """Writes or replaces a file with bytes, as `write_text` does with text."""
  temporary = path.with_name(path.name + ".tmp")
  with open(temporary, "wb") as file:
    file.write(content)
    file.flush()
    os.fsync(file.fileno())
  os.replace(temporary, path)
  directory = os.open(path.parent, os.O_RDONLY)
  try:
    os.fsync(directory)  # puts the new name on disk
  finally:
    os.close(directory)
