#!/usr/bin/env bash
# Guess: whether `format` is validated or only an annotation is an option of the validator; in jsonschema and jsonschema-rs its default is
# the same for every draft, and a schema that moves to another draft keeps its meaning.
# What happens: jsonschema-rs validates formats in a draft 7 schema but not in the same schema of 2020-12; jsonschema does in neither. And
# jsonschema-rs still enforces `dependencies`, which 2020-12 no longer has, while jsonschema does not.
# Packages: jsonschema 4.26.0, jsonschema-rs 0.60.3
# Source: https://json-schema.org/draft/2020-12/json-schema-validation#section-7.2
# Date: 2026-11-29
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv v
v/bin/pip install --quiet --disable-pip-version-check jsonschema==4.26.0 jsonschema-rs==0.60.3

v/bin/python << 'PYTHON'
import sys

import jsonschema
import jsonschema_rs

actual = {}
for title, schema, value in [
    ("format", {"type": "string", "format": "email"}, "nobody"),
    ("dependencies", {"dependencies": {"a": ["b"]}}, {"a": 1}),
]:
    for draft in ("Draft7Validator", "Draft202012Validator"):
        for library in (jsonschema, jsonschema_rs):
            valid = getattr(library, draft)(schema).is_valid(value)
            print(f"{title}, {draft}, {library.__name__}: {'valid' if valid else 'invalid'}")
            actual[title, draft[5], library.__name__] = valid
expected = {
    ("format", "7", "jsonschema"): True,
    ("format", "7", "jsonschema_rs"): False,
    ("format", "2", "jsonschema"): True,
    ("format", "2", "jsonschema_rs"): True,
    ("dependencies", "7", "jsonschema"): False,
    ("dependencies", "7", "jsonschema_rs"): False,
    ("dependencies", "2", "jsonschema"): True,
    ("dependencies", "2", "jsonschema_rs"): False,
}
if actual != expected:
    sys.exit("Changed: expected formats to be checked by jsonschema-rs in draft 7 only, dependencies by it in both drafts")
PYTHON
