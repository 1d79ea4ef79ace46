#!/usr/bin/env bash
# Tests the chart, the manifests, the scripts, the workflows and the pages: what is not a service's own and needs no cluster.
# What is left out for want of Docker, Go or Linux is said at the end; with REQUIRE_ALL=1 that is a failure.
# Arguments go to pytest: scripts/test-platform.sh platform/tests/test_values.py -k quota
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/versions.sh
. scripts/versions.sh

PATH=$PWD/.venv/bin:$PWD/.tools:$PATH
selected='' left_out=()
leave_out() { # marker, what needs what
  selected+="${selected:+ and }not $1"
  left_out+=("$2")
}

if ! docker info > /dev/null 2>&1; then
  leave_out docker 'the rules of alerts in Prometheus 2, backup and restore: needs Docker, https://docs.docker.com/get-docker/'
fi
if ! command -v go > /dev/null; then
  leave_out go 'the rules of alerts in Prometheus 3, and the tests of the library chart: needs Go, https://go.dev/dl/'
elif ! scripts/go-tools.sh; then
  exit 1
fi
if [[ $(uname -s) != Linux ]]; then
  leave_out linux 'the dev server by itself, which runs in the image alone: needs Linux'
fi
if ! command -v helm > /dev/null; then
  echo 'The tests of the chart need Go, https://go.dev/dl/, or Helm, https://helm.sh/docs/intro/install/' >&2
  exit 1
fi

if (($# == 0)); then set -- platform/tests; fi
if ! python -m pytest --quiet --numprocesses auto --maxschedchunk 1 -m "$selected" "$@"; then
  echo 'One test alone: scripts/test-platform.sh platform/tests -k NAME' >&2
  exit 1
fi
# The form with + is for bash 3.2, where an empty array counts as unset.
for what in ${left_out[@]+"${left_out[@]}"}; do echo "Left out: $what"; done
if ((${#left_out[@]})) && [[ ${REQUIRE_ALL:-} == 1 ]]; then
  echo 'REQUIRE_ALL=1: nothing may be left out' >&2
  exit 1
fi
