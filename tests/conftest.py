"""Gives every test eight virtual CPU devices, and settings under which a silent mistake is an error."""

import gc
import os
import pathlib
import resource

from tests import compiler_flags

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {compiler_flags.QUICK}"
if "xla_force_host_platform_device_count" not in os.environ["XLA_FLAGS"]:
  os.environ["XLA_FLAGS"] += " --xla_force_host_platform_device_count=8"

os.environ["POSTTRAIN_JAX_WARMUPS"] = ""  # what one test's warm-up leaves behind is not for another test

import jax
import pytest
from absl import flags

from posttrain_jax import compiled_once

jax.config.update("jax_numpy_rank_promotion", "raise")
flags.FLAGS.mark_as_parsed()  # Grain reads absl flags


# The files that take longest go first, so that no worker has one of them left when the other is done.
_FIRST = (
  "pipelines/two_process_test.py",
  "pipelines/grpo_test.py",
  "pipelines/ppo_test.py",
  "learner/two_process_test.py",
  "learner/policy_learner_test.py",
  "sampling/engine_bits_test.py",
  "sampling/engine_distribution_test.py",
  "learner/mesh_test.py",
  "pipelines/resume_test.py",
  "learner/preference_update_test.py",
  "learner/policy_gradient_test.py",
  "pipelines/carry_run_test.py",
  "docs/extending_test.py",
  "docs/build_test.py",
)
_PLACES = {pathlib.Path(__file__).parent / name: place for place, name in enumerate(_FIRST)}


def pytest_collection_modifyitems(items):
  items.sort(key=lambda item: _PLACES.get(item.path, len(_FIRST)))


def pytest_collection_finish():
  """Leaves modules and tests out of garbage collection, and collects less often.

  Else a tenth of the time goes to visits of objects that stay until the end.
  """
  gc.collect()
  gc.freeze()
  gc.set_threshold(10_000, 20, 20)


@pytest.fixture(autouse=True, scope="module")
def compiled_quickly(request):
  """Leaves out LLVM's optimisations and XLA's fusion emitters in the default suite.

  Most programs of tests compile for seconds and compute for moments; this makes them compile about three times as fast.
  Processes that tests start inherit it, since bits may be compared with theirs and they take programs from the same
  cache. Programs are compiled as a user's are where that decides about bits (`tests/sampling`) and in slow tests.
  """
  if request.config.option.markexpr != "not slow":
    with compiler_flags.as_for_users():
      yield
    return
  with compiler_flags.quickly():
    yield


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
