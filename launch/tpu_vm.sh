#!/usr/bin/env bash
# Starts a job on Cloud TPU VMs: creates the VMs, directly or through the queue, and installs the package on all hosts.
#
#   bash launch/tpu_vm.sh --name=NAME --zone=ZONE --type=v5litepod-16 [--version=v2-alpha-tpuv5-lite]
#     [--queued=1] [--spot=1] [--slices=1] [--grace=300] [--repository=URL] [--dry_run] METHOD [--config=... --workdir=DIR ...]
#
# DIR must be on a file system that all hosts mount (Filestore). On each host systemd runs the process. systemd sends
# SIGTERM when the machine shuts down, and then allows --grace seconds for a checkpoint. It starts the process again
# after any exit code except 0 and 2. A spot VM has at most 30 seconds before Google takes it back, so
# `checkpoint.every` decides how much is lost. With --dry_run the commands are only printed. To start the job again, run
# the script with the same name; it uses the existing VMs or creates new ones.
#
#   gcloud compute tpus tpu-vm ssh NAME --zone=ZONE --command="journalctl --unit=posttrain --follow"     # its output
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

# The commands for each host. KillMode=mixed sends SIGTERM to the process only, not to its workers that judge answers.
# Most runtimes are Ubuntu 22.04, which has Python 3.11 as an extra package.
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
    [ -z "$dry_run" ] || wait $! # print the commands in order
  done
  for each in "${started[@]}"; do wait "$each"; done
done
