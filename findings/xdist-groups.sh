#!/usr/bin/env bash
# Guess: with `pytest -n 2 --dist loadgroup`, tests under one mark xdist_group run one after the other in one worker, as
# pytest-xdist documents; where a version of pytest no longer fits, it says so.
# What happens: with pytest 9.2.0 and pytest-xdist 3.8.0 the mark is not seen. Tests of one group run in both workers at
# once, without a warning, so what a group shares (a database, a port, a namespace) is used by two. xdist writes the
# group into the private attribute `_nodeid` of a test, which pytest 9.2 reads no more. With pytest 8.4.2 it holds.
# Packages: pytest 9.2.0, pytest-xdist 3.8.0; beside them pytest 8.4.2
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
  echo "This has changed: 1 and 2 were expected" >&2
  exit 1
fi
