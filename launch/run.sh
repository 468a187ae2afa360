#!/usr/bin/env bash
# Runs one process of a job; every host of the job calls this script, and the processes join each other.
#
#   bash launch/run.sh METHOD [--config=... --config.FIELD=value --workdir=DIR ...]
#
# METHOD is sft, dpo, grpo or dapo. On Cloud TPU, GKE and Slurm JAX finds the other hosts. On other platforms name them
# with --coordinator=HOST:PORT --processes=N --process=I. The process replaces this shell, so SIGTERM reaches it. It
# then saves a checkpoint at the end of its step and exits with 75. Start it again after any exit code except 0 (done)
# and 2 (bad config or input): the run continues from its newest checkpoint.
set -euo pipefail
[ $# -gt 0 ] || { echo "error: expected: bash launch/run.sh METHOD [--config=... --workdir=DIR ...]" >&2 && exit 2; }
method=$1
shift
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-.venv/bin/python}
command -v "$python" >/dev/null || python=python3 # in a container the package is in the system's Python
exec "$python" -m "experiments.$method" --distributed "$@"
