#!/usr/bin/env bash
# Removes everything that `make up` created: the cluster, the registry, kubeconfig and logs, and the images tagged
# content-* and, by Tilt, tilt-*.
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/cluster.sh
scripts/doctor.sh docker kind

if cluster_exists; then
  kind delete cluster --name "$CLUSTER" --kubeconfig "$KUBECONFIG" --quiet
  echo "Removed the cluster $CLUSTER with all its data"
else
  echo "There is no cluster $CLUSTER"
fi
if docker container inspect "$REGISTRY_NAME" > /dev/null 2>&1; then
  docker rm --force --volumes "$REGISTRY_NAME" > /dev/null
  echo "Removed the registry $REGISTRY_NAME with its images"
fi
if [[ -e .kube ]]; then
  rm -rf .kube
  echo "Removed .kube (kubeconfig and logs)"
fi

for service in $(deployable_services); do
  docker image ls --filter "reference=$service:content-*" --filter "reference=localhost:*/$service:content-*" \
    --filter "reference=$service:tilt-*" --filter "reference=localhost:*/$service:tilt-*" \
    --format '{{.Repository}}:{{.Tag}}' | while read -r image; do
    docker image rm "$image" > /dev/null
    echo "Removed the image $image"
  done
done
