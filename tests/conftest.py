"""Gives every test eight virtual CPU devices, and settings under which a silent mistake is an error."""

import functools
import os
import resource

os.environ["JAX_PLATFORMS"] = "cpu"
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
  os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"

os.environ["POSTTRAIN_JAX_WARMUPS"] = ""  # what one test's warm-up leaves behind is not for another test

import jax
import jaxlib
import pytest
from absl import flags
from jax._src import compiler

from posttrain_jax import compiled_once

jax.config.update("jax_numpy_rank_promotion", "raise")
flags.FLAGS.mark_as_parsed()  # Grain reads absl flags


@pytest.fixture(autouse=True, scope="module")
def compiled_quickly(request):
  """Leaves out LLVM's optimisations and XLA's fusion emitters in the default suite.

  Most programs of tests compile for seconds and compute for moments; this makes them compile about three times as fast.
  Processes that tests start inherit it, since bits may be compared with theirs. Programs are compiled as a user's are
  where that decides about bits (`tests/sampling`) and in slow tests.
  """
  if request.config.option.markexpr != "not slow" or jaxlib.version.__version_info__ >= (0, 11):
    yield  # from jaxlib 0.11 on, XLA has no such flag
    return
  make_options = compiler.get_compile_options  # JAX has no setting for flags of XLA after its start

  @functools.wraps(make_options)
  def without_fusion_emitters(*args, **kwargs):
    options = make_options(*args, **kwargs)
    options.env_option_overrides = [*options.env_option_overrides, ("xla_cpu_use_fusion_emitters", False)]
    return options

  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    patch.setenv("XLA_FLAGS", os.environ["XLA_FLAGS"] + " --xla_cpu_use_fusion_emitters=false")
    patch.setattr(compiler, "get_compile_options", without_fusion_emitters)
    jax.config.update("jax_disable_most_optimizations", True)
    yield
  jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(autouse=True, scope="module")
def memory_is_bounded():
  """Drops shared programs after a file, once this process has taken 3 GiB.

  All files of a worker would take 6.
  """
  yield
  if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 3 * 2**20:
    compiled_once.forget()


@pytest.fixture(autouse=True)
def without_pictures(request, monkeypatch):
  """Writes reports without their pictures, which take a third of a small run's time; tests/reports has them.

  Runs that fixtures of a whole module make, one for each method, have them, too.
  """
  if "reports" not in request.path.parts:
    monkeypatch.setattr("posttrain_jax.reports.figures.draw", lambda panel, columns: "<svg></svg>")


@pytest.fixture
def x64():
  """Enables float64 for the tests that compare with float64 goldens."""
  with jax.enable_x64(True):
    yield
