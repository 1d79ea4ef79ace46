#!/usr/bin/env bash
# Guess: `pytest -m 'not docker'` selects every test if no test has this mark. pytest's `strict`, or `strict_markers`, applies to marks in
# test files.
# What happens: with either of them, an -m expression that names an unregistered mark is an error, with the exit code of an invalid
# command line. So one -m for several directories works only if each registers all of its marks.
# Packages: pytest 9.2.0
# Source: https://docs.pytest.org/en/stable/reference/reference.html#confval-strict_markers
# Date: 2026-11-29
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv v
v/bin/pip install --quiet --disable-pip-version-check pytest==9.2.0
echo 'def test_it(): pass' > test_it.py

changed=''
while read -r setting expected; do
  printf '[pytest]\n%s = true\n' "$setting" > pytest.ini
  status=0
  v/bin/python -m pytest --quiet -m 'not docker' > log 2>&1 || status=$?
  echo "$setting: exit code $status"
  grep -i unknown log || true
  if [[ $status != "$expected" ]]; then changed=1; fi
done << 'SETTINGS'
xfail_strict 0
strict_markers 4
strict 4
SETTINGS
if [[ $changed ]]; then
  echo "Changed: expected 0, 4 and 4" >&2
  exit 1
fi
