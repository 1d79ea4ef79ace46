#!/usr/bin/env bash
# Sends load to SERVICE through the ingress of the local cluster (127.0.0.1) for a limited time.
#
#   scripts/load.sh            for SECONDS_OF_LOAD (30)
#   scripts/load.sh demo-hpa   for 120 s, then until the replicas are scaled down; writes reports/demo-hpa.svg
#
# CONNECTIONS is the number of concurrent clients: 20, and 50 for the demonstration. LOAD_PATH is the path they request,
# by default that of services/SERVICE/local.env.
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/cluster.sh
scripts/doctor.sh wrk python
need_cluster
export SERVICE=${SERVICE:-$(scripts/default-service.sh)}
. scripts/local-env.sh

arguments=(--seconds "${SECONDS_OF_LOAD:-30}" --connections "${CONNECTIONS:-20}")
if [[ ${1:-} == demo-hpa ]]; then
  arguments=(--seconds "${SECONDS_OF_LOAD:-120}" --connections "${CONNECTIONS:-50}" --picture reports/demo-hpa.svg)
fi
"$(scripts/find-python.sh)" -m scripts.load "$SERVICE" --path "${LOAD_PATH:-/health}" --port "$(published_port 443)" \
  --context "$CONTEXT" "${arguments[@]}"
