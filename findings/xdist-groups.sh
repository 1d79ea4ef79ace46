#!/usr/bin/env bash
# Guess: with `pytest -n 2 --dist loadgroup`, tests with the same xdist_group mark run sequentially in one worker, as pytest-xdist
# documents; it reports an incompatible version of pytest.
# What happens: with pytest 9.2.0 and pytest-xdist 3.8.0 the mark is ignored. Tests of one group silently run in both workers at once, so
# shared resources (a database, a port, a namespace) are used concurrently. xdist writes the group into the private attribute `_nodeid` of
# a test, which pytest 9.2 no longer reads. It works with pytest 8.4.2.
# Packages: pytest 9.2.0, pytest-xdist 3.8.0; for comparison pytest 8.4.2
# Source: xdist/remote.py (pytest_collection_modifyitems) and _pytest/nodes.py of these versions
# Date: 2026-11-29
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

cat > test_group.py << 'PYTHON'
import os
import time

import pytest


@pytest.mark.xdist_group("one")
@pytest.mark.parametrize("number", range(6))
def test_in_one_worker(number):
    time.sleep(0.3)
    with open("workers", "a") as file:
        print(os.environ["PYTEST_XDIST_WORKER"], file=file)
PYTHON

workers_with() { # version of pytest
  python3 -m venv "$1"
  "$1/bin/pip" install --quiet --disable-pip-version-check "pytest==$1" pytest-xdist==3.8.0
  rm -f workers
  "$1/bin/python" -m pytest --quiet -n 2 --dist loadgroup > log || { cat log && exit 1; }
  sort -u workers | wc -l | tr -d ' '
}

old=$(workers_with 8.4.2)
new=$(workers_with 9.2.0)
echo "Workers that ran the tests of one group: $old with pytest 8.4.2, $new with pytest 9.2.0"
if [[ $old != 1 || $new != 2 ]]; then
  echo "Changed: expected 1 and 2" >&2
  exit 1
fi
