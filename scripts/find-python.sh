#!/usr/bin/env bash
# Prints a Python on this machine that the kit supports: PYTHON if set, or else 3.11, which the image has, or else the
# newest. Fails silently if there is none.
set -euo pipefail
unset PYTHONHOME # would make each of them use one's library

# uv installs Pythons into a folder that may not be on the PATH.
uv_bin=${HOME:-}/.local/bin
for candidate in ${PYTHON:+"$PYTHON"} python3.11 "$uv_bin/python3.11" python3.14 "$uv_bin/python3.14" python3.13 "$uv_bin/python3.13" \
  python3.12 "$uv_bin/python3.12" python3 python; do
  # Run, not just found: a pyenv shim exists without its version, Debian's Python has no venv, and packages have no
  # wheels for PyPy, for free-threaded builds or for a version newer than they are.
  if "$candidate" -I -c '
import ensurepip, sys, sysconfig, venv
supported = sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED")
sys.exit(not supported or not (3, 11) <= sys.version_info[:2] <= (3, 14))' > /dev/null 2>&1; then
    echo "$candidate"
    exit
  fi
done
exit 1
