#!/usr/bin/env bash
# Runs a command of the service named by SERVICE on this machine, with its data in .data/.
#
#   SERVICE=task-api scripts/run.sh serve
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export PYTHONPATH=services/$SERVICE/src
export TASKS_DATABASE_URL=${TASKS_DATABASE_URL:-sqlite:///.data/$SERVICE.db}
exec "services/$SERVICE/.venv/bin/python" -m "${SERVICE//-/_}" "$@"
