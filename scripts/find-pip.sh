#!/usr/bin/env bash
# Prints a Python that has pip: the one of scripts/find-python.sh, or if that has none, as on Debian, an environment
# created in .tools/pip. Fails silently if there is no Python.
set -euo pipefail

has_pip() { # Python; `pip --python` exists since 22.3
  "$1" -I -c 'import pip, sys; sys.exit(tuple(map(int, pip.__version__.split(".")[:2])) < (22, 3))' 2> /dev/null
}

python=$(scripts/find-python.sh)
if ! has_pip "$python"; then
  base=$python python=.tools/pip/bin/python
  has_pip "$python" || "$base" -m venv --clear .tools/pip >&2
fi
echo "$python"
