#!/usr/bin/env bash
# Tests the chart, manifests, scripts, workflows and documentation: everything that belongs to no service and needs no
# cluster. Tests skipped for lack of Docker, Go or Linux are listed at the end; with REQUIRE_ALL=1 that is a failure.
# Arguments go to pytest: scripts/test-platform.sh platform/tests/test_values.py -k quota
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/versions.sh
. scripts/versions.sh

PATH=$PWD/.venv/bin:$PWD/.tools:$PATH
selected='' skipped=()
skip() { # marker, tests and their requirement
  selected+="${selected:+ and }not $1"
  skipped+=("$2")
}

if ! docker info > /dev/null 2>&1; then
  skip docker 'alert rules in Prometheus 2, backup and restore: need Docker, https://docs.docker.com/get-docker/'
fi
if ! command -v go > /dev/null; then
  skip go 'alert rules in Prometheus 3, and the tests of the library chart: need Go, https://go.dev/dl/'
elif ! scripts/go-tools.sh; then
  exit 1
fi
if [[ $(uname -s) != Linux ]]; then
  skip linux 'the standalone dev server, which only runs in the image: needs Linux'
fi
if ! command -v helm > /dev/null; then
  echo 'The chart tests need Go, https://go.dev/dl/, or Helm, https://helm.sh/docs/intro/install/' >&2
  exit 1
fi

if (($# == 0)); then set -- platform/tests; fi
if ! python -m pytest --quiet --numprocesses auto -p scripts.platform_workers -m "$selected" "$@"; then
  echo 'Run a single test: scripts/test-platform.sh platform/tests -k NAME' >&2
  exit 1
fi
# The ${x[@]+...} form is for bash 3.2, where an empty array counts as unset.
for tests in ${skipped[@]+"${skipped[@]}"}; do echo "Skipped: $tests"; done
if ((${#skipped[@]})) && [[ ${REQUIRE_ALL:-} == 1 ]]; then
  echo 'REQUIRE_ALL=1: skipping is a failure' >&2
  exit 1
fi
