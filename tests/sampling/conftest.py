import pytest

from posttrain_jax import compiled_once
from tests import compiler_flags


@pytest.fixture(autouse=True, scope="module")
def compiled_quickly():
  """Optimises programs as a user's are: this decides whether bits depend on a slot or on other requests."""
  compiled_once.forget()
  with compiler_flags.as_for_users():
    yield
  compiled_once.forget()
