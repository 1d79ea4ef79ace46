#!/usr/bin/env bash
# Runs a command of the service named by SERVICE on this machine.
#
#   SERVICE=task-api scripts/run.sh serve
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/isolate.sh

export PYTHONPATH=services/$SERVICE/src:packages/chassis/src
. scripts/local-env.sh
exec "services/$SERVICE/.venv/bin/python" -m "${SERVICE//-/_}" "$@"
