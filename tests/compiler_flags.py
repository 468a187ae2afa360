"""Chooses how programs of tests are compiled: quickly, or as a user's are."""

import contextlib
import functools
import os

import jax
import jaxlib
import pytest
from jax._src import compiler

# Without fusion emitters, and each program in one piece: pieces are for many cores, and cost an eighth more. From
# jaxlib 0.11 on, XLA has no fusion emitters to leave out. It ends a process that has a flag which it does not know.
QUICK = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
QUICK = QUICK if jaxlib.version.__version_info__ < (0, 11) else ""
_make_options = compiler.get_compile_options  # JAX has no setting for flags of XLA after its start


def one_device():
  """Returns the environment of a process with one device, as a user has it.

  It takes compiled programs from the same cache as this process.
  """
  flags = [flag for flag in os.environ["XLA_FLAGS"].split() if "xla_force_host_platform_device_count" not in flag]
  return {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": " ".join(flags)}


@contextlib.contextmanager
def as_for_users():
  """Compiles programs as a user's are, in this process and those that it starts."""

  @functools.wraps(_make_options)
  def with_defaults(*args, **kwargs):
    options = _make_options(*args, **kwargs)
    defaults = [("xla_cpu_use_fusion_emitters", True), ("xla_cpu_parallel_codegen_split_count", 32)]
    options.env_option_overrides = [*options.env_option_overrides, *defaults]
    return options

  with pytest.MonkeyPatch.context() as patch:
    if QUICK:
      patch.setenv("XLA_FLAGS", os.environ["XLA_FLAGS"].replace(QUICK, ""))
      patch.setattr(compiler, "get_compile_options", with_defaults)
    yield


@contextlib.contextmanager
def quickly():
  """Compiles programs quickly, in this process and those that it starts, within `as_for_users` too.

  LLVM's optimisations are left out, and what `QUICK` says.
  """
  before = jax.config.read("jax_disable_most_optimizations")
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    if QUICK not in os.environ["XLA_FLAGS"]:
      patch.setenv("XLA_FLAGS", f"{os.environ['XLA_FLAGS']} {QUICK}")
    patch.setattr(compiler, "get_compile_options", _make_options)
    jax.config.update("jax_disable_most_optimizations", True)
    yield
  jax.config.update("jax_disable_most_optimizations", before)
