#!/usr/bin/env bash
# Follows what all pods of SERVICE log, a line each with the pod's name before it, until Ctrl-C.
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/cluster.sh
need_cluster

# The HPA may start more pods than the five that kubectl follows by itself.
kubectl logs --selector "app=${SERVICE:-$(scripts/default-service.sh)}" --all-containers --prefix --follow --tail 20 --max-log-requests 50
