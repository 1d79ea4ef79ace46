#!/usr/bin/env bash
# Mutation testing of modules in which a silent fault costs much (scripts/mutants/): a fault that no test notices is
# printed, and fails the run unless the project's mutants.toml accepts it.
#
#   scripts/mutants.sh [WORD...]   only modules whose path contains one of the words
#
#   MINUTES=60   no mutant is started after this time
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/isolate.sh
# As in scripts/test.sh.
unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY

if [[ ! ${MINUTES:-1} =~ ^[0-9]{1,9}$ ]]; then
  echo "MINUTES=$MINUTES is not an integer. For example: make mutants MINUTES=60" >&2
  exit 2
fi
PATH=$PWD/.venv/bin:$PWD/.tools:$PATH exec .tools/mutants/bin/python -m scripts.mutants "$@"
