#!/usr/bin/env bash
# Follows the logs of all pods of SERVICE, prefixed with the pod's name, until Ctrl-C.
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/cluster.sh
need_cluster

# The HPA may start more pods than the five that kubectl follows by default.
kubectl logs --selector "app=${SERVICE:-$(scripts/default-service.sh)}" --all-containers --prefix --follow --tail 20 --max-log-requests 50
