#!/usr/bin/env bash
# Guess: hypothesis-jsonschema generates values that are valid for the given schema, or reports that it does not support the draft.
# What happens: it silently ignores `prefixItems`, which replaced the list form of `items` in 2020-12: nearly every array that it
# generates for such a schema is invalid.
# Packages: hypothesis-jsonschema 0.23.1, hypothesis 6.170.15, jsonschema 4.26.0
# Source: https://json-schema.org/draft/2020-12/release-notes#changes-to-items-and-additionalitems
# Date: 2026-11-29
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv v
v/bin/pip install --quiet --disable-pip-version-check hypothesis-jsonschema==0.23.1 hypothesis==6.170.15 jsonschema==4.26.0

v/bin/python << 'PYTHON'
import sys

import jsonschema
from hypothesis import HealthCheck, given, settings
from hypothesis_jsonschema import from_schema

actual = {}
for draft, items, validator in [
    ("07", {"items": [{"type": "string"}]}, jsonschema.Draft7Validator),
    ("2020-12", {"prefixItems": [{"type": "string"}]}, jsonschema.Draft202012Validator),
]:
    schema = {"type": "array", "minItems": 1, **items}
    valid = []

    @settings(max_examples=50, database=None, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(from_schema(schema))
    def make(value):
        valid.append(validator(schema).is_valid(value))

    make()
    actual[draft] = valid.count(False)
    print(f"Draft {draft}: {actual[draft]} of {len(valid)} values are invalid")
if actual["07"] or actual["2020-12"] < 25:
    sys.exit("Changed: expected none and nearly all")
PYTHON
