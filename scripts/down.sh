#!/usr/bin/env bash
# Removes what `make up` made: the cluster, its kubeconfig and logs, and the images tagged by content.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/cluster.sh
scripts/doctor.sh docker kind

if cluster_exists; then
  kind delete cluster --name "$CLUSTER" --kubeconfig "$KUBECONFIG" --quiet
  echo "Removed the cluster $CLUSTER with all its data"
else
  echo "There is no cluster $CLUSTER"
fi
rm -rf .kube
echo "Removed .kube (kubeconfig and logs)"

docker image ls --filter 'reference=task-api:content-*' --format '{{.Repository}}:{{.Tag}}' | while read -r image; do
  docker image rm "$image" > /dev/null
  echo "Removed the image $image"
done
