"""Tells a disk that fails from other errors.

It reports the failure in one line, whichever code met it.
"""

import errno
import os

_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
# TensorStore reports the system's error as text in an exception of its own.
_TEXTS = tuple(os.strerror(number) for number in _ERRORS)


class DiskFailure(Exception):
  """Reports in one line that a file could not be written, and which checkpoint is good."""


def disk_failure(error: BaseException) -> str | None:
  """Describes the failure of a disk that an error is, or comes from.

  It is None if there was no such failure.

  A full disk, a quota, a limit on the size of files, a disk that is read-only or broken are failures of a disk.
  """
  seen: list[int] = []
  while error is not None and id(error) not in seen:
    seen.append(id(error))
    if isinstance(error, OSError) and error.errno in _ERRORS:
      return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
    text = str(error)
    if not isinstance(error, OSError) and any(each in text for each in _TEXTS):
      return next(each for each in _TEXTS if each in text)
    error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
  return None
