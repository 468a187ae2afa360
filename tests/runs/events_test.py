"""Tests TensorBoard's event files.

The format of records is tested in journal_test.
"""

import pytest

from posttrain_jax.runs.events import Events


def test_a_write_that_fails_is_heard_where_it_was_asked_for():
  class Full:
    def write(self, data):
      raise OSError(28, "No space left on device")

  events = Events.__new__(Events)
  events._file = Full()
  with pytest.raises(OSError, match="No space left"):
    events.add(1, "loss", 2.0)


def test_two_starts_of_a_process_have_files_of_their_own(tmp_path):
  for first in (0, 3):
    events = Events(tmp_path / "tensorboard", first)
    events.add(first, "loss", 1.0)
    events.flush()
    events.close()
  assert len(list((tmp_path / "tensorboard").iterdir())) == 2
