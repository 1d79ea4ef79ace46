#!/usr/bin/env bash
# Prints a Python of this machine that the kit runs with: that of PYTHON, or 3.11, which the image has, or else the
# newest. Fails without a word where there is none.
set -euo pipefail
unset PYTHONHOME # would send each of them to the library of one

# uv puts its own where a PATH need not lead.
uvs=${HOME:-}/.local/bin
for candidate in ${PYTHON:+"$PYTHON"} python3.11 "$uvs/python3.11" python3.14 "$uvs/python3.14" python3.13 "$uvs/python3.13" \
  python3.12 "$uvs/python3.12" python3 python; do
  # Asked, not just found: a pyenv shim is there without the version behind it, Debian's has no venv of its own, and
  # packages have no wheels for PyPy, for a Python without its lock, for one that is newer than they are.
  if "$candidate" -I -c '
import ensurepip, sys, sysconfig, venv
good = sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED")
sys.exit(not good or not (3, 11) <= sys.version_info[:2] <= (3, 14))' > /dev/null 2>&1; then
    echo "$candidate"
    exit
  fi
done
exit 1
