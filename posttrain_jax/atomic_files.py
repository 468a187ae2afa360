"""Files that are there whole or not at all."""

import os
import pathlib


def write_text(path: pathlib.Path, text: str) -> None:
  """Writes or replaces a file; whoever reads it, also after a kill or power loss, finds the old text or the new one."""
  write_bytes(path, text.encode("utf-8"))


def write_bytes(path: pathlib.Path, content: bytes) -> None:
  """The same for bytes."""
  temporary = path.with_name(path.name + ".tmp")
  with open(temporary, "wb") as file:
    file.write(content)
    file.flush()
    os.fsync(file.fileno())
  os.replace(temporary, path)
  directory = os.open(path.parent, os.O_RDONLY)
  try:
    os.fsync(directory)  # the new name itself
  finally:
    os.close(directory)
