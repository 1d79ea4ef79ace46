#!/usr/bin/env bash
# Makes the local cluster without a release in it, or takes the one that is there, and hands over to Tilt.
# Arguments go to Tilt: scripts/dev.sh -- --port 8100
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/cluster.sh

scripts/doctor.sh docker tilt
# With each change of a value of the chart Tilt brings an image into the cluster: by a registry in 3 s, by `kind load` in
# 25 to 54 s.
if ! has_registry; then
  port=${REGISTRY_PORT:-5001} instead='Each image goes to every node as a whole, which takes half a minute'
  if (: < "/dev/tcp/127.0.0.1/$port") 2> /dev/null; then
    echo "There is no local registry: port $port of 127.0.0.1 is taken. $instead. On another port: make dev REGISTRY_PORT=$((port + 1))"
  elif docker image inspect "$REGISTRY_IMAGE" > /dev/null 2>&1 || docker pull --quiet "$REGISTRY_IMAGE" > /dev/null; then
    export REGISTRY=1
  else
    echo "There is no local registry: $REGISTRY_IMAGE cannot be had (above is why). $instead"
  fi
fi
scripts/up.sh prepare
HTTPS_PORT=$(published_port 443) # for the Tiltfile's links
export HTTPS_PORT
exec tilt up --context "$CONTEXT" "$@"
