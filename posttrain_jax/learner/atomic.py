"""Files that are there whole or not at all."""

import os
import pathlib


def write_text(path: pathlib.Path, text: str) -> None:
  """Writes or replaces a file; whoever reads it, also after a kill or power loss, finds the old text or the new one."""
  temporary = path.with_name(path.name + ".tmp")
  with open(temporary, "w", encoding="utf-8") as file:
    file.write(text)
    file.flush()
    os.fsync(file.fileno())
  os.replace(temporary, path)
  directory = os.open(path.parent, os.O_RDONLY)
  try:
    os.fsync(directory)  # the new name itself
  finally:
    os.close(directory)
