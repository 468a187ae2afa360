"""Starts one browser for all tests of the page."""

import pytest


@pytest.fixture(scope="session")
def browser():
  from tests.labelling import browsing  # only where a browser is asked for

  with browsing.launched() as browser:
    yield browser
