#!/usr/bin/env bash
# Trains a policy with reinforcement learning from a fresh checkout, in minutes on two CPU cores:
#
#   bash launch/quickstart.sh [--workdir=DIR] [--seed=0] [--config.FIELD=value...]
#
# It installs the package into .venv if .venv is missing or setup.py has changed. Then it runs configs/tiny_dapo.py:
# supervised warm-up, DAPO, held-out evaluation before and after. DIR gets report.html. The last line of the output is
# one JSON object. Run again on the same DIR, it continues where it stopped.
set -euo pipefail

usage="bash launch/quickstart.sh [--workdir=DIR] [--seed=0] [--config.FIELD=value...]"
workdir="" seed=0 overrides=()
for argument in "$@"; do
  case $argument in
    --workdir=?*) workdir=$(realpath -m -- "${argument#*=}") ;; # relative to the directory of the call
    --seed=?*) seed=${argument#*=} ;;
    --config.*) overrides+=("$argument") ;;
    -h | --help) echo "usage: $usage" && exit 0 ;;
    *) echo "error: found $argument, expected: $usage" >&2 && exit 2 ;;
  esac
done
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. launch/environment.sh

prepare_environment ""
exec .venv/bin/python -m experiments.quickstart \
  --workdir="${workdir:-runs/quickstart-seed$seed}" --config.seed="$seed" ${overrides[@]+"${overrides[@]}"}
