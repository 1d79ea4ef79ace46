#!/usr/bin/env bash
# Prints the Python 3.11 of this machine, or that of PYTHON; fails without a word where there is none.
set -euo pipefail

for candidate in ${PYTHON:-} python3.11 python3 python; do
  # Asked, not just found: a pyenv shim is there without the version behind it, and Debian's has no venv of its own.
  if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, 11))' > /dev/null 2>&1; then
    echo "$candidate"
    exit
  fi
done
exit 1
