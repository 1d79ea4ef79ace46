#!/usr/bin/env bash
# Audits every package in the lock files for known vulnerabilities (OSV); exit code 1 if there are any.
#
#   scripts/audit.sh SERVICE...
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/isolate.sh

locks=(requirements-uv.txt requirements-tools.txt requirements-mutants.txt bench/requirements.txt packages/chassis/requirements-dev.txt)
for service in "$@"; do locks+=("services/$service/requirements.txt" "services/$service/requirements-dev.txt"); done
for lock in services/*/tests/clients/requirements.txt services/*/tests/clients/*/requirements.txt e2e/*/s3/requirements.txt; do
  if [[ -f $lock ]]; then locks+=("$lock"); fi
done

log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=()
for lock in "${locks[@]}"; do
  echo "$lock:"
  # The lock lists everything with hashes, so nothing is resolved or installed.
  .venv/bin/pip-audit --requirement "$lock" --require-hashes --disable-pip --vulnerability-service osv \
    --progress-spinner off 2> "$log" || failed+=("$lock")
  tail -n 1 "$log" >&2 # the summary, or the last line of a traceback
done
if ((${#failed[@]})); then
  echo "Vulnerable, or audit failed (see above): ${failed[*]}" >&2
  echo 'Next: upgrade with make lock UPGRADE=1, then run make test lint. The audit needs a network connection.' >&2
  exit 1
fi
