#!/usr/bin/env bash
# Makes the local cluster without a release in it, or takes the one that is there, and hands over to Tilt.
# Arguments go to Tilt: scripts/dev.sh -- --port 8100
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/cluster.sh

scripts/doctor.sh tilt
scripts/up.sh prepare
HTTPS_PORT=$(published_port 443) # for the Tiltfile's links
export HTTPS_PORT
exec tilt up --context "$CONTEXT" "$@"
