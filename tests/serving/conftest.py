"""Serves one tiny model of bytes, which the tests of a file share compiled; starts a browser."""

import pytest

from tests.serving.served import new_model, save_byte_model


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
  """Returns the workdir of a run with one checkpoint."""
  return save_byte_model(tmp_path_factory.mktemp("served") / "tiny")


@pytest.fixture(scope="module")
def model(folder):
  """Returns the running model."""
  running = new_model(folder)
  yield running
  running.close()


@pytest.fixture(scope="module")
def browser():
  """Returns a headless browser."""
  from tests.serving import chat_browsing  # skips where there is none

  with chat_browsing.launched() as started:
    yield started
