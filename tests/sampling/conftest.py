import pytest

from posttrain_jax import compiled_once
from tests import compiler_flags


@pytest.fixture(autouse=True, scope="module")
def compiled_quickly(request):
  """Optimises programs as a user's are: this decides whether bits depend on a slot or on other requests.

  A file that looks at nothing of the kind has COMPARES_BITS = False; its programs are compiled quickly by default.
  """
  quick = not getattr(request.module, "COMPARES_BITS", True) and request.config.option.markexpr == "not slow"
  compiled_once.forget()
  with compiler_flags.quickly() if quick else compiler_flags.as_for_users():
    yield
  compiled_once.forget()
