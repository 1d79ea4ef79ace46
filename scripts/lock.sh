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
# Without yattag, which has no wheel: Cosmic Ray needs it only for its HTML report.
compile requirements-mutants.in --no-emit-package yattag --output-file requirements-mutants.txt
chassis=packages/chassis/pyproject.toml
compile "$chassis" --all-extras --group "$chassis:dev" --output-file packages/chassis/requirements-dev.txt
for service in "$@"; do
  # Includes the chassis' dependencies. The chassis itself is installed by path: an index may have another package of
  # that name.
  compile "$chassis" "services/$service/pyproject.toml" --output-file "services/$service/requirements.txt"
  compile "$chassis" "services/$service/pyproject.toml" --group "services/$service/pyproject.toml:dev" \
    --constraint "services/$service/requirements.txt" --output-file "services/$service/requirements-dev.txt"
done
# Tested in the chassis' environment, so pinned to its versions. Without annotations: those would name the skeleton in
# the lock files of services created from it.
for skeleton in skeletons/*/service; do
  options=(--no-annotate --constraint packages/chassis/requirements-dev.txt)
  compile "$chassis" "$skeleton/pyproject.toml" "${options[@]}" --output-file "$skeleton/requirements.txt"
  compile "$chassis" "$skeleton/pyproject.toml" --group "$skeleton/pyproject.toml:dev" "${options[@]}" \
    --output-file "$skeleton/requirements-dev.txt"
done
# Clients of a service that its tests build and run, and servers that the cluster tests use, apart from its own
# packages.
for requirements in services/*/tests/clients/requirements.in services/*/tests/clients/*/requirements.in \
  e2e/*/s3/requirements.in; do
  [[ ! -f $requirements ]] || compile "$requirements" --output-file "${requirements%.in}.txt"
done
# After the services: shared packages use the service's versions.
compile bench/requirements.in --constraint services/task-api/requirements.txt --output-file bench/requirements.txt
