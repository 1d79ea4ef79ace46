#!/usr/bin/env bash
# Checks everything that can be checked by reading it, a line and a time per check (scripts/lint/checks.py).
#
#   scripts/lint.sh SERVICE...
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/versions.sh
. scripts/versions.sh

if ! git rev-parse --git-dir > /dev/null 2>&1; then
  echo 'Which files are the repository'"'"'s, Git says, and this folder is no clone. Make it one: git init && git add --all' >&2
  exit 1
fi
# Tools of versions.env before those that happen to be on this machine.
PATH=$PWD/.venv/bin:$PWD/.tools:$PATH
exec .venv/bin/python -m scripts.lint "$@"
