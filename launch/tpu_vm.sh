#!/usr/bin/env bash
# A job on Cloud TPU VMs: makes them, directly or through the queue, installs on all hosts, and starts the job there.
#
#   bash launch/tpu_vm.sh --name=NAME --zone=ZONE --type=v5litepod-16 [--version=v2-alpha-tpuv5-lite]
#     [--queued=1] [--spot=1] [--slices=1] [--grace=300] [--repository=URL] [--dry_run] METHOD [--config=... --workdir=DIR ...]
#
# DIR has to be on a file system that all hosts mount (Filestore). On each host systemd runs the process: SIGTERM when
# the machine goes down, again after any end but exit code 0 or 2, GRACE seconds to finish a checkpoint in. When Google
# takes a spot VM back it is 30 seconds at most, so `checkpoint.every` decides what is lost. With --dry_run the commands
# are printed. Run it again with the same name to start the job again, on the VMs that are there or on new ones.
#
#   gcloud compute tpus tpu-vm ssh NAME --zone=ZONE --command="journalctl --unit=posttrain --follow"     # what it says
#   gcloud compute tpus tpu-vm ssh NAME --zone=ZONE --worker=all --command="sudo systemctl stop posttrain"
#
# Options of gcloud: docs.cloud.google.com/tpu/docs/queued-resources, /tpu/docs/spot, and
# /sdk/gcloud/reference/compute/tpus.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
. "$here/arguments.sh"
parse_arguments "bash launch/tpu_vm.sh --name=NAME --zone=ZONE --type=TYPE [--version=RUNTIME] [--queued=1] [--spot=1] \
[--slices=N] [--grace=SECONDS] [--repository=URL] [--dry_run] METHOD [ARGUMENT...]" \
  "name=? zone=? type=? version=v2-alpha-tpuv5-lite queued= spot= slices=1 grace=300 \
repository=$(git -C "$here" remote get-url origin 2>/dev/null || echo '?')" "$@"
[ "$slices" = 1 ] || [ -n "$queued" ] || fail "--slices=$slices: slices come together through the queue, add --queued=1"

nodes=("$name")
machine=(--accelerator-type="$type" --runtime-version="$version" ${spot:+--spot})
if [ -n "$queued" ]; then
  if [ "$slices" = 1 ]; then
    which=(--node-id="$name")
  else
    which=(--node-count="$slices" --node-prefix="$name")
    nodes=()
    for ((i = 0; i < slices; i++)); do nodes+=("$name-$i"); done
  fi
  if [ -n "$dry_run" ] || ! gcloud compute tpus queued-resources describe "$name" --zone="$zone" >/dev/null 2>&1; then
    run gcloud compute tpus queued-resources create "$name" --zone="$zone" "${which[@]}" "${machine[@]}"
  fi
  until [ -n "$dry_run" ]; do
    state=$(gcloud compute tpus queued-resources describe "$name" --zone="$zone" --format="value(state.state)")
    echo "$name: $state" >&2
    case $state in
      ACTIVE) break ;;
      FAILED | SUSPENDED) fail "$name is $state, delete it: gcloud compute tpus queued-resources delete $name --force" ;;
    esac
    sleep 30
  done
elif [ -n "$dry_run" ] || ! gcloud compute tpus tpu-vm describe "$name" --zone="$zone" >/dev/null 2>&1; then
  run gcloud compute tpus tpu-vm create "$name" --zone="$zone" "${machine[@]}"
fi

# What each host does. KillMode=mixed: SIGTERM to the process alone, not to the workers that judge its answers.
# Ubuntu 22.04, which most runtimes are, has Python 3.11 beside its own.
install="{ test -d posttrain || git clone $(quoted "$repository") posttrain; } && cd posttrain && git pull --ff-only && \
. launch/environment.sh && { (find_python) >/dev/null 2>&1 || { sudo apt-get -q update && \
{ sudo apt-get -qy install python3.11-venv || sudo apt-get -qy install python3-venv; }; }; } && prepare_environment tpu"
start="sudo systemctl stop posttrain 2>/dev/null; sudo systemctl reset-failed posttrain 2>/dev/null; \
sudo systemd-run --unit=posttrain --uid=\$(id -u) --setenv=HOME=\$HOME --working-directory=\$HOME/posttrain \
--property=KillMode=mixed --property=TimeoutStopSec=$grace --property=Restart=on-failure --property=RestartSec=10 \
--property=RestartPreventExitStatus=2 bash launch/run.sh $(quoted "${job[@]}")"
for step in "$install" "$start"; do
  started=()
  for node in "${nodes[@]}"; do
    run gcloud compute tpus tpu-vm ssh "$node" --zone="$zone" --worker=all --command="$step" &
    started+=($!)
    [ -z "$dry_run" ] || wait $! # in order, to be read
  done
  for each in "${started[@]}"; do wait "$each"; done
done
