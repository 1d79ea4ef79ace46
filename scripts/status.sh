#!/usr/bin/env bash
# Shows the deployment: pods, HPA, and /health of SERVICE.
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/cluster.sh
scripts/doctor.sh curl
need_cluster

# Columns that fit a terminal of 80 characters: kubectl's default ones for these two do not. The metric is `resource`, or
# `containerResource` with autoscaling.containerResource.
hpa='HPA:.metadata.name,CPU%:.status.currentMetrics[*].*.current.averageUtilization'
hpa+=',TARGET%:.spec.metrics[*].*.target.averageUtilization'
hpa+=',MIN:.spec.minReplicas,MAX:.spec.maxReplicas,REPLICAS:.status.currentReplicas'
kubectl get pods
echo
kubectl get hpa --output "custom-columns=$hpa"
echo
kubectl get ingress --output 'custom-columns=INGRESS:.metadata.name,CLASS:.spec.ingressClassName,HOSTS:.spec.rules[*].host'
host=${SERVICE:-$(scripts/default-service.sh)}.localhost
printf '\nhttps://%s:%s/health:\n' "$host" "$(published_port 443)"
health=$(curl --silent --show-error --insecure --max-time 5 \
  --resolve "$host:$(published_port 443):127.0.0.1" "https://$host:$(published_port 443)/health")
# The ingress controller's own response, if no pod is ready, is not JSON.
"$(scripts/find-python.sh)" -m json.tool <<< "$health" 2> /dev/null || echo "$health"
