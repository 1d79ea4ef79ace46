#!/usr/bin/env bash
# Runs a command of the service SERVICE on this machine.
#
#   SERVICE=task-api scripts/run.sh serve
#
# If its local.env names a variable as LOCAL_POSTGRESQL that is not set, that variable is set to the URL of a PostgreSQL
# in Docker, started for the duration of the command.
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/isolate.sh

export PYTHONPATH=services/$SERVICE/src:packages/chassis/src
. scripts/local-env.sh
command=("services/$SERVICE/.venv/bin/python" -m "${SERVICE//-/_}" "$@")
url=${LOCAL_POSTGRESQL:-}
if [[ -z $url || -n ${!url:-} || ! $1 =~ ^(serve|migrate)$ ]]; then exec "${command[@]}"; fi
. scripts/local-postgres.sh
with_postgres "$url" "${command[@]}"
