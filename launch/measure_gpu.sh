#!/usr/bin/env bash
# Measures this code on one NVIDIA GPU, within nine minutes and without a network:
#
#   bash launch/measure_gpu.sh [--wheels=DIR] [FLAG=VALUE of experiments.measure_gpu...]
#
# It needs a Python 3.11 or newer with JAX for CUDA: $PYTHON, or else python3. Other packages that are missing are
# installed from the wheels in DIR into build/measure_gpu; `pip download -d DIR .` fills such a folder where there is a
# network. The last line of the output is one JSON object. Exit codes: 0 all checks passed, 2 bad input or a package is
# missing, 1 anything else.
set -euo pipefail

usage="bash launch/measure_gpu.sh [--wheels=DIR] [--FLAG=VALUE...]"
began=$SECONDS seconds=540 wheels="" flags=()
for argument in "$@"; do
  case $argument in
    --wheels=?*) wheels=$(realpath -m -- "${argument#*=}") ;; # relative to the directory of the call
    --seconds=?*) seconds=${argument#*=} ;;
    --*=?*) flags+=("$argument") ;;
    -h | --help) echo "usage: $usage" && exit 0 ;;
    *) echo "error: found $argument, expected: $usage" >&2 && exit 2 ;;
  esac
done
case $seconds in
  *[!0-9]*) echo "error: --seconds=$seconds, expected a whole number" >&2 && exit 2 ;;
esac
if [ -n "$wheels" ] && [ ! -d "$wheels" ]; then
  echo "error: --wheels=$wheels: there is no such folder" >&2 && exit 2
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-python3}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
  echo "error: $python is no Python 3.11 or newer; name one: PYTHON=/path/to/python bash $0" >&2 && exit 2
fi
packages=$PWD/build/measure_gpu
export PYTHONPATH="$PWD:$packages${PYTHONPATH:+:$PYTHONPATH}"
export CUDA_VISIBLE_DEVICES="${CUDA_VISIBLE_DEVICES:-0}"
# Parts are processes of their own, which compile some programs alike.
export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-$packages/xla}"
export XLA_PYTHON_CLIENT_MEM_FRACTION="${XLA_PYTHON_CLIENT_MEM_FRACTION:-0.92}"
if [ -z "${JAX_PLATFORMS:-}" ]; then
  # JAX itself is not taken from the wheels, as those of an index compute on CPUs.
  found=$("$python" -c 'import jax; print(jax.default_backend())' 2>/dev/null) || found="no JAX"
  if [ "$found" != gpu ]; then
    echo "error: $python has $found, expected JAX for CUDA and a GPU that it sees" >&2 && exit 2
  fi
fi
"$python" -m posttrain_jax.performance.wheels \
  "$wheels" "$packages" posttrain_jax.performance.device_report experiments.flags
exec "$python" -m experiments.measure_gpu --seconds=$((seconds - (SECONDS - began))) ${flags[@]+"${flags[@]}"}
