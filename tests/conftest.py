"""Eight virtual CPU devices for every test, and the settings under which a silent mistake becomes an error."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
  os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"

import jax
import pytest
from absl import flags

jax.config.update("jax_numpy_rank_promotion", "raise")
flags.FLAGS.mark_as_parsed()  # Grain reads absl flags


@pytest.fixture
def x64():
  """Float64 for the tests that compare with float64 goldens."""
  with jax.enable_x64(True):
    yield
