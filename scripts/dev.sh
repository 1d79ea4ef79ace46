#!/usr/bin/env bash
# Creates the local cluster without a release in it, or uses the existing one, and starts Tilt. Arguments go to Tilt:
# scripts/dev.sh -- --port 8100
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/cluster.sh

scripts/doctor.sh tilt
scripts/up.sh prepare
HTTPS_PORT=$(published_port 443) # for the Tiltfile's links
export HTTPS_PORT
exec tilt up --context "$CONTEXT" "$@"
