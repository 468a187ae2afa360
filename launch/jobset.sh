#!/usr/bin/env bash
# Starts a job on GKE as a JobSet. With --dry_run it prints the manifest instead of passing it to kubectl.
#
#   bash launch/jobset.sh --name=NAME --image=IMAGE --accelerator=tpu-v5p-slice --topology=2x2x4 --hosts=4
#     --claim=PVC [--slices=1] [--chips=4] [--grace=600] [--restarts=20] [--dry_run] METHOD [--config=... --workdir=/runs/DIR ...]
#
# launch/Dockerfile makes IMAGE. PVC is a claim that many nodes can mount (Filestore); pods mount it as /runs. --hosts
# is the number of hosts of a slice, each with --chips chips. If a pod fails, all pods are started again, except after
# exit code 2. After SIGTERM (eviction, maintenance, deletion) pods have --grace seconds; on spot nodes GKE allows at
# most 25.
#
# JobSet's fields: jobset.sigs.k8s.io/docs/tasks/failure_policy (JobSet 0.6 or newer); TPU node selectors:
# docs.cloud.google.com/kubernetes-engine/docs/how-to/tpus.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/arguments.sh"
parse_arguments "bash launch/jobset.sh --name=NAME --image=IMAGE --accelerator=TYPE --topology=AxBxC --hosts=N \
--claim=PVC [--slices=N] [--chips=N] [--grace=SECONDS] [--restarts=N] [--dry_run] METHOD [ARGUMENT...]" \
  "name=? image=? accelerator=? topology=? hosts=? claim=? slices=1 chips=4 grace=600 restarts=20" "$@"

words=""
for word in bash launch/run.sh "${job[@]}"; do
  # In YAML's single quotes, a quote is written twice and all other characters stand for themselves.
  words+="
                    - '${word//\'/\'\'}'"
done
manifest="apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata:
  name: $name
  annotations:
    alpha.jobset.sigs.k8s.io/exclusive-topology: cloud.google.com/gke-nodepool  # a slice is a node pool of its own
spec:
  failurePolicy:
    maxRestarts: $restarts
    rules:
      - action: FailJobSet
        onJobFailureReasons: [PodFailurePolicy]  # exit code 2, see below
  replicatedJobs:
    - name: slice
      replicas: $slices
      template:
        spec:
          parallelism: $hosts
          completions: $hosts
          backoffLimit: 0  # any pod that fails fails its job, and the JobSet starts all of them again
          podFailurePolicy:
            rules:
              - action: FailJob
                onExitCodes:
                  containerName: posttrain
                  operator: In
                  values: [2]  # bad config or input: starting again would end the same way
          template:
            spec:
              restartPolicy: Never
              terminationGracePeriodSeconds: $grace
              hostNetwork: true  # faster between slices
              dnsPolicy: ClusterFirstWithHostNet
              nodeSelector:
                cloud.google.com/gke-tpu-accelerator: $accelerator
                cloud.google.com/gke-tpu-topology: $topology
              containers:
                - name: posttrain
                  image: $image
                  command:$words
                  ports:
                    - containerPort: 8471  # between the TPUs' hosts
                    - containerPort: 8080  # between slices
                    - containerPort: 8476  # jax.distributed
                  resources:
                    limits:
                      google.com/tpu: $chips
                  volumeMounts:
                    - name: runs
                      mountPath: /runs
              volumes:
                - name: runs
                  persistentVolumeClaim:
                    claimName: $claim"
if [ -n "$dry_run" ]; then
  echo "$manifest"
else
  kubectl apply --filename=- <<<"$manifest"
fi
