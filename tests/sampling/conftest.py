import pytest


@pytest.fixture(autouse=True, scope="module")
def compiled_quickly():
  """Programs are optimised as a user's are: whether bits depend on a slot or on the company is decided there."""
