#!/usr/bin/env bash
# Guess: a library that creates merge patches detects every difference between two JSON documents, including a change from 1 to `true`.
# For two equal documents it creates the patch that changes nothing, `{}`.
# What happens: Python's json-merge-patch compares with Python's equality, for which 1 equals `True` and 0 equals `False`: the patch is
# empty, and the change is lost. npm's json-merge-patch returns `undefined` for two equal documents, which JSON cannot represent, so a
# PATCH is sent without a body.
# Packages: json-merge-patch 0.3.0 (Python); npm json-merge-patch 1.0.2
# Source: https://www.rfc-editor.org/rfc/rfc7396#section-1
# Date: 2026-11-29
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv v
v/bin/pip install --quiet --disable-pip-version-check json-merge-patch==0.3.0
npm install --silent --no-fund --no-audit --prefix . json-merge-patch@1.0.2 > /dev/null

by_python() {
  v/bin/python -c 'import json, json_merge_patch, sys
print(json_merge_patch.create_patch(*map(json.loads, sys.argv[1:])))' "$@"
}
by_node() { node -e 'console.log(require("json-merge-patch").generate(...process.argv.slice(1).map(JSON.parse)))' "$@"; }

changed=''
check() { # what, expected, actual
  echo "$1: $3"
  if [[ $2 != "$3" ]]; then changed=1; fi
}
check 'Python, 1 to true' '{}' "$(by_python '{"on": 1}' '{"on": true}')"
check 'Python, false to 0' '{}' "$(by_python '{"on": false}' '{"on": 0}')"
check 'npm, 1 to true' '{ on: true }' "$(by_node '{"on": 1}' '{"on": true}')"
check 'npm, equal documents' undefined "$(by_node '{"on": 1}' '{"on": 1}')"
if [[ $changed ]]; then
  echo "Changed: expected two empty patches, one with true, and undefined" >&2
  exit 1
fi
