#!/usr/bin/env bash
# From a fresh checkout to a policy that reinforcement learning made better, in minutes on two CPU cores:
#
#   bash launch/quickstart.sh [--workdir=DIR] [--seed=0] [--config.FIELD=value...]
#
# Installs into .venv first, when it is absent or setup.py has changed. Then configs/tiny_dapo.py: supervised warm-up,
# DAPO, held-out evaluation before and after. DIR gets report.html; the last line printed is one JSON object. Run again
# on the same DIR it goes on where it stopped.
set -euo pipefail

usage="bash launch/quickstart.sh [--workdir=DIR] [--seed=0] [--config.FIELD=value...]"
workdir="" seed=0 overrides=()
for argument in "$@"; do
  case $argument in
    --workdir=?*) workdir=$(realpath -m -- "${argument#*=}") ;; # as seen from where the script was called
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
