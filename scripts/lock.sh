#!/usr/bin/env bash
# Writes the requirements*.txt files: every package pinned, with hashes, for every platform.
#
#   scripts/lock.sh SERVICE...
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/isolate.sh

pip=$(scripts/find-pip.sh) || { scripts/doctor.sh python; exit 1; }

compile() {
  "$pip" -I scripts/uv.py pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
    --custom-compile-command 'make lock' ${UPGRADE:+--upgrade} "$@"
}

compile requirements-uv.in --output-file requirements-uv.txt
compile requirements-tools.in --output-file requirements-tools.txt
compile requirements-checkov.in --output-file requirements-checkov.txt
chassis=packages/chassis/pyproject.toml
compile "$chassis" --all-extras --group "$chassis:dev" --output-file packages/chassis/requirements-dev.txt
for service in "$@"; do
  # With what the chassis needs. The chassis itself goes in by its path: an index may have another of that name.
  compile "$chassis" "services/$service/pyproject.toml" --output-file "services/$service/requirements.txt"
  compile "$chassis" "services/$service/pyproject.toml" --group "services/$service/pyproject.toml:dev" \
    --constraint "services/$service/requirements.txt" --output-file "services/$service/requirements-dev.txt"
done
# They are tested in the chassis' environment, so what they have is of its version. Without the comments that say for
# whom each package is: those would name the skeleton in the locks of a service that is made of it.
for skeleton in skeletons/*/service; do
  locked=(--no-annotate --constraint packages/chassis/requirements-dev.txt)
  compile "$chassis" "$skeleton/pyproject.toml" "${locked[@]}" --output-file "$skeleton/requirements.txt"
  compile "$chassis" "$skeleton/pyproject.toml" --group "$skeleton/pyproject.toml:dev" "${locked[@]}" \
    --output-file "$skeleton/requirements-dev.txt"
done
# Clients of a service that its tests make and run, and servers that those of the cluster do, apart from its own packages.
for wanted in services/*/tests/clients/requirements.in services/*/tests/clients/*/requirements.in \
  e2e/*/s3/requirements.in; do
  [[ ! -f $wanted ]] || compile "$wanted" --output-file "${wanted%.in}.txt"
done
# After the services: what both have is of the service's version.
compile bench/requirements.in --constraint services/task-api/requirements.txt --output-file bench/requirements.txt
