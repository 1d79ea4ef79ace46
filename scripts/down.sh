#!/usr/bin/env bash
# Removes what `make up` made: the cluster, its kubeconfig and logs, and the images tagged by content.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/cluster.sh
need_docker
need kind 'https://kind.sigs.k8s.io/docs/user/quick-start/#installation'

if cluster_exists; then
  kind delete cluster --name "$CLUSTER" --kubeconfig "$KUBECONFIG" --quiet
  echo "Removed the cluster $CLUSTER with all its data"
else
  echo "There is no cluster $CLUSTER"
fi
rm -rf .kube
echo "Removed .kube (kubeconfig and logs)"

images=$(docker image ls --filter 'reference=task-api:content-*' --format '{{.Repository}}:{{.Tag}}')
if [[ -n $images ]]; then
  # shellcheck disable=SC2086 # a list of names without spaces
  docker image rm $images > /dev/null
  echo "Removed the images" $images
fi
