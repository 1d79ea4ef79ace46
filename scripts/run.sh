#!/usr/bin/env bash
# Runs a command of the service named by SERVICE on this machine.
#
#   SERVICE=task-api scripts/run.sh serve
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export PYTHONPATH=services/$SERVICE/src
# What the service wants to be set on a laptop, where it wants anything. What the environment says already wins.
if [[ -f services/$SERVICE/run.env ]]; then
  while IFS='=' read -r name value; do
    case $name in '' | '#'*) continue ;; esac
    if [[ -z ${!name:-} ]]; then export "$name=$value"; fi
  done < "services/$SERVICE/run.env"
fi
exec "services/$SERVICE/.venv/bin/python" -m "${SERVICE//-/_}" "$@"
