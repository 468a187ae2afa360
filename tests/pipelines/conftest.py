"""Runs of loops are compiled without LLVM's optimisations: each compiles for many seconds and computes for one.

What is optimised away or made another bit is tested where it is computed: in `tests/sampling`, `tests/learner` and
`tests/models`, and by `resume_test`, whose processes compile as a user's do.
"""

import jax
import pytest


@pytest.fixture(autouse=True, scope="module")
def compiled_quickly():
  jax.config.update("jax_disable_most_optimizations", True)
  yield
  jax.config.update("jax_disable_most_optimizations", False)
