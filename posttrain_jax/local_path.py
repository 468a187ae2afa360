"""Reads paths as users write them.

`~` is expanded, and other file systems than the machine's own are refused.

Everything that takes a path from a user calls `local_path` first.
"""

import os
import pathlib
import re

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/{1,2}(?!/*$)")


def local_path(path: str | os.PathLike, where: str = "") -> pathlib.Path:
  """Returns a path with `~` expanded.

  Args:
    path: as a user wrote it.
    where: the flag or config field that it comes from, for the message; empty if unknown.

  Raises:
    InputError: if it is an address with a scheme, such as gs://bucket/run, or if `~` names no known user.
  """
  text = os.fspath(path)
  said = f"{where}={text}" if where.startswith("--") else f"{where}: {text}" if where else text
  if _SCHEME.match(text):
    raise _error(
      f"{said}: only paths of this machine's file system work today, expected one: copy the files here, or mount the "
      "bucket (gcsfuse, s3fs) and name the mounted directory"
    )
  try:
    return pathlib.Path(text).expanduser()
  except RuntimeError as error:
    raise _error(f"{said}: {error}, expected a path of this machine") from None


def output_file(path: str | os.PathLike, where: str) -> pathlib.Path:
  """Returns the path of a file to write, checked before the work.

  Args:
    path: as a user wrote it.
    where: the flag that it comes from.

  Raises:
    InputError: as `local_path`, or if the path is a directory or its folder does not exist.
  """
  output = local_path(path, where)
  if not output.absolute().parent.is_dir() or output.is_dir():
    raise _error(f"{where}={path}: expected a file in a directory that exists")
  return output


def _error(text: str) -> ValueError:
  from posttrain_jax.types import InputError  # imports JAX, which a wrong flag should not wait for

  return InputError(text)
