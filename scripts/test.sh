#!/usr/bin/env bash
# Runs the tests of each service, in the service's own environment.
#
#   scripts/test.sh SERVICE...
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

failed=()
for service in "$@"; do
  echo "Testing $service"
  # REQUIRE_ALL=1 makes a missing PostgreSQL a failure; without it those tests are left out, and a line says so.
  (cd "services/$service" && .venv/bin/python -m pytest --quiet --numprocesses auto --maxschedchunk 1) || failed+=("$service")
done
if ((${#failed[@]})); then
  echo "Failed: ${failed[*]}. Run one alone: cd services/${failed[0]} && .venv/bin/python -m pytest -k NAME" >&2
  exit 1
fi
