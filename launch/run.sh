#!/usr/bin/env bash
# What every host of a job runs: one process of the binary, joined to those on the other hosts.
#
#   bash launch/run.sh METHOD [--config=... --config.FIELD=value --workdir=DIR ...]
#
# METHOD is sft, dpo, grpo or dapo. JAX finds the other hosts on Cloud TPU, GKE and Slurm; elsewhere they are named by
# --coordinator=HOST:PORT --processes=N --process=I. The process replaces this shell, so that SIGTERM reaches it: it then
# saves a checkpoint at the end of its step and ends with 75. Start again after any exit code but 0 (done) and 2 (bad
# config or input): the run goes on from its newest checkpoint.
set -euo pipefail
[ $# -gt 0 ] || { echo "error: expected: bash launch/run.sh METHOD [--config=... --workdir=DIR ...]" >&2 && exit 2; }
method=$1
shift
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-.venv/bin/python}
command -v "$python" >/dev/null || python=python3 # in a container the package is installed into the system's Python
exec "$python" -m "experiments.$method" --distributed "$@"
