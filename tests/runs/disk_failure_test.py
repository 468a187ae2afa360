"""Tests which errors are a disk's, however they are wrapped."""

import errno

import pytest

from posttrain_jax.runs.disk_failure import disk_failure


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO])
def test_errors_of_a_disk(number):
  found = disk_failure(OSError(number, "text", "/run/metrics.jsonl"))
  assert found == "/run/metrics.jsonl: text"
  assert disk_failure(OSError(number, "text")) == "text"


def test_errors_that_come_from_one():
  try:
    try:
      raise OSError(errno.ENOSPC, "No space left on device", "/run/a")
    except OSError as error:
      raise RuntimeError("saving failed") from error
  except RuntimeError as error:
    assert disk_failure(error) == "/run/a: No space left on device"
  stored = ValueError("RESOURCE_EXHAUSTED: Failed to write [OS error 28: ENOSPC No space left on device]")
  assert disk_failure(stored) == "No space left on device"


def test_an_error_that_was_dealt_with_is_none():
  try:
    try:
      raise OSError(errno.ENOSPC, "No space left on device", "/run/a")
    except OSError:
      raise RuntimeError("another matter") from None
  except RuntimeError as error:
    assert disk_failure(error) is None


def test_other_errors_are_not():
  first, second = ValueError("a"), ValueError("b")
  first.__cause__, second.__cause__ = second, first  # a ring ends
  assert disk_failure(first) is None
  assert disk_failure(FileNotFoundError(errno.ENOENT, "No such file", "/x")) is None
  assert disk_failure(OSError("No space left")) is None  # no error of the system
