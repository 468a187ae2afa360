"""Starts a browser for the tests of a file."""

import pytest


@pytest.fixture(scope="module")  # its event loop would stop other tests from running theirs
def browser():
  from tests.headless import launched  # only where a browser is asked for

  with launched() as browser:
    yield browser
