#!/usr/bin/env bash
# Shows what is deployed: pods, how the HPA sees them, and what /health of SERVICE says.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/cluster.sh
need_cluster

kubectl get pods --output wide
echo
kubectl get hpa,ingress
echo
host=${SERVICE:-task-api}.localhost
curl --silent --show-error --insecure --max-time 5 \
  --resolve "$host:$(published_port 443):127.0.0.1" "https://$host:$(published_port 443)/health"
echo
