"""Gives every test eight virtual CPU devices, and settings under which a silent mistake is an error."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
  os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"

import jax
import pytest
from absl import flags

jax.config.update("jax_numpy_rank_promotion", "raise")
flags.FLAGS.mark_as_parsed()  # Grain reads absl flags


@pytest.fixture(autouse=True, scope="module")
def compiled_quickly(request):
  """Leaves out LLVM's optimisations in the default suite.

  Most programs compile for seconds and compute for moments.

  Processes that tests start inherit it, since bits may be compared with theirs. Programs are optimised as a user's are
  where bits are what is tested (`tests/sampling`, `tests/pipelines/resume_test.py`) and in slow tests.
  """
  quick = request.config.option.markexpr == "not slow"
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", str(int(quick)))
    jax.config.update("jax_disable_most_optimizations", quick)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def x64():
  """Enables float64 for the tests that compare with float64 goldens."""
  with jax.enable_x64(True):
    yield
