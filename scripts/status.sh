#!/usr/bin/env bash
# Shows the deployed service: pods, how the HPA sees them, and what /health says.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/cluster.sh
need_cluster

kubectl get pods --output wide
echo
kubectl get hpa,ingress
echo
curl --silent --show-error --insecure --max-time 5 \
  --resolve "task-api.localhost:$(published_port 443):127.0.0.1" "https://task-api.localhost:$(published_port 443)/health"
echo
