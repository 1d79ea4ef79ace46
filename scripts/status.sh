#!/usr/bin/env bash
# Shows what is deployed: pods, how the HPA sees them, and what /health of SERVICE says.
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/cluster.sh
scripts/doctor.sh curl
need_cluster

# Lines that fit a terminal of 80 columns: kubectl's own of these two do not.
hpa='HPA:.metadata.name,CPU%:.status.currentMetrics[*].resource.current.averageUtilization'
hpa+=',TARGET%:.spec.metrics[*].resource.target.averageUtilization'
hpa+=',MIN:.spec.minReplicas,MAX:.spec.maxReplicas,REPLICAS:.status.currentReplicas'
kubectl get pods
echo
kubectl get hpa --output "custom-columns=$hpa"
echo
kubectl get ingress --output 'custom-columns=INGRESS:.metadata.name,CLASS:.spec.ingressClassName,HOSTS:.spec.rules[*].host'
host=${SERVICE:-$(scripts/default-service.sh)}.localhost
printf '\nhttps://%s:%s/health says:\n' "$host" "$(published_port 443)"
health=$(curl --silent --show-error --insecure --max-time 5 \
  --resolve "$host:$(published_port 443):127.0.0.1" "https://$host:$(published_port 443)/health")
# The ingress controller's own answer, where no pod is ready, is not JSON.
"$(scripts/find-python.sh)" -m json.tool <<< "$health" 2> /dev/null || echo "$health"
