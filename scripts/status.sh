#!/usr/bin/env bash
# Shows what is deployed: pods, how the HPA sees them, and what /health of SERVICE says.
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/cluster.sh
scripts/doctor.sh curl
need_cluster

# One kind at a time, and no --output wide: lines that fit a terminal.
kubectl get pods
echo
kubectl get hpa
echo
kubectl get ingress
host=${SERVICE:-task-api}.localhost
printf '\nhttps://%s:%s/health says:\n' "$host" "$(published_port 443)"
health=$(curl --silent --show-error --insecure --max-time 5 \
  --resolve "$host:$(published_port 443):127.0.0.1" "https://$host:$(published_port 443)/health")
# The ingress controller's own answer, where no pod is ready, is not JSON.
"$(scripts/find-python.sh)" -m json.tool <<< "$health" 2> /dev/null || echo "$health"
