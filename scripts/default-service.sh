#!/usr/bin/env bash
# Prints the service that a command is about where SERVICE names none: the kit's first one, and once that has made room
# for others (make remove-service) the first of them by name.
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/isolate.sh
export LC_ALL=C # by which names have the same order on every machine

for project in services/task-api/pyproject.toml services/*/pyproject.toml; do
  if [[ -f $project ]]; then
    service=${project%/*}
    echo "${service##*/}"
    exit
  fi
done
echo 'There is no service in services/. Make one: make new-service NAME=orders' >&2
exit 1
