#!/usr/bin/env bash
# Static checks, with one line and the duration per check (scripts/lint/checks.py).
#
#   scripts/lint.sh SERVICE...
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/versions.sh
. scripts/versions.sh

if ! git rev-parse --git-dir > /dev/null 2>&1; then
  echo 'make lint lists the files with Git, and this folder is not a Git repository. Create one: git init && git add --all' >&2
  exit 1
fi
# Tools pinned in versions.env take precedence over installed ones.
PATH=$PWD/.venv/bin:$PWD/.tools:$PATH
exec .venv/bin/python -m scripts.lint "$@"
