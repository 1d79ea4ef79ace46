#!/usr/bin/env bash
# Prints the default for SERVICE: the kit's first service or, once that was removed (make remove-service), the first by
# name.
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/isolate.sh
export LC_ALL=C # for the same order on every machine

for project in services/task-api/pyproject.toml services/*/pyproject.toml; do
  if [[ -f $project ]]; then
    service=${project%/*}
    echo "${service##*/}"
    exit
  fi
done
echo 'There is no service in services/. Create one: make new-service NAME=orders' >&2
exit 1
