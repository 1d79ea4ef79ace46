#!/usr/bin/env bash
# Asks a database of vulnerabilities (OSV) for every package of the locks; exit code 1 if one is known.
#
#   scripts/audit.sh SERVICE...
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/isolate.sh

locks=(requirements-uv.txt requirements-tools.txt requirements-checkov.txt bench/requirements.txt packages/chassis/requirements-dev.txt)
for service in "$@"; do locks+=("services/$service/requirements.txt" "services/$service/requirements-dev.txt"); done
for lock in services/*/tests/clients/requirements.txt services/*/tests/clients/*/requirements.txt e2e/*/s3/requirements.txt; do
  if [[ -f $lock ]]; then locks+=("$lock"); fi
done

log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=()
for lock in "${locks[@]}"; do
  echo "$lock:"
  # The lock names everything with hashes, so nothing is resolved or installed.
  .venv/bin/pip-audit --requirement "$lock" --require-hashes --disable-pip --vulnerability-service osv \
    --progress-spinner off 2> "$log" || failed+=("$lock")
  tail -n 1 "$log" >&2 # its verdict, or the last line of a traceback
done
if ((${#failed[@]})); then
  echo "Not clean, or not asked (see above): ${failed[*]}" >&2
  echo 'Next: take newer versions, make lock UPGRADE=1, then make test lint. Without a network nothing can be asked.' >&2
  exit 1
fi
