#!/usr/bin/env bash
# Starts a job on a GKE cluster made by xpk; xpk writes the JobSet.
#
#   bash launch/xpk.sh --name=NAME --cluster=CLUSTER --zone=ZONE --project=PROJECT --type=v5p-32 --image=IMAGE
#     --storage=STORAGE [--slices=1] [--grace=600] [--restarts=20] [--dry_run] METHOD [--config=... --workdir=DIR ...]
#
# launch/Dockerfile makes IMAGE. DIR is below the mount point of STORAGE (`xpk storage create`), which all hosts see. By
# default xpk starts a workload again after exit codes 42 and 127 to 255. This script adds 1 and 75, but not 2.
#
# Options of xpk: github.com/AI-Hypercomputer/xpk, src/xpk/parser/workload.py.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/arguments.sh"
parse_arguments "bash launch/xpk.sh --name=NAME --cluster=CLUSTER --zone=ZONE --project=PROJECT --type=TYPE \
--image=IMAGE --storage=STORAGE [--slices=N] [--grace=SECONDS] [--restarts=N] [--dry_run] METHOD [ARGUMENT...]" \
  "name=? cluster=? zone=? project=? type=? image=? storage=? slices=1 grace=600 restarts=20" "$@"
run xpk workload create --workload="$name" --cluster="$cluster" --zone="$zone" --project="$project" \
  --tpu-type="$type" --num-slices="$slices" --docker-image="$image" --storage="$storage" \
  --max-restarts="$restarts" --restart-on-exit-codes=1,75 --termination-grace-period-seconds="$grace" \
  --command="exec bash launch/run.sh $(quoted "${job[@]}")"
