#!/usr/bin/env bash
# Serves the service named by SERVICE on this machine, with its data in .data/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export PYTHONPATH=services/$SERVICE/src
export TASKS_DATABASE_URL=${TASKS_DATABASE_URL:-sqlite:///.data/$SERVICE.db}
exec "services/$SERVICE/.venv/bin/python" -m "${SERVICE//-/_}" serve
