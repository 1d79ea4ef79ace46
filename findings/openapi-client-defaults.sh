#!/usr/bin/env bash
# Guess: of a property that is not required a generated client sends what was set, and nothing else; a `default` in the schema says
# what the server takes where nothing is sent, in words for the reader.
# What happens: openapi-python-client sets such a property to its default, of strings and numbers, and sends it with every object.
# In a merge patch that is a change that nobody asked for: a client that sets the priority writes the position 0, too. Where
# the default is of an enumeration or a list behind a reference it is not sent.
# Packages: openapi-python-client 0.29.1
# Source: https://spec.openapis.org/oas/v3.1.1.html#schema-object
# Date: 2026-11-29
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv v
v/bin/pip install --quiet --disable-pip-version-check openapi-python-client==0.29.1

cat > openapi.yaml << 'YAML'
openapi: 3.1.0
info: {title: a, version: "1"}
paths:
  /notes/1:
    patch:
      operationId: change
      requestBody:
        content:
          application/merge-patch+json:
            schema: {$ref: "#/components/schemas/NotePatch"}
      responses:
        "204": {description: Changed}
components:
  schemas:
    NotePatch:
      type: object
      properties:
        color: {type: string}
        position: {type: number, default: 0.0}
YAML
v/bin/openapi-python-client generate --path openapi.yaml --meta none --output-path client > log 2>&1 || { cat log && exit 1; }

sent=$(v/bin/python -c 'from client.models import NotePatch; print(NotePatch(color="red").to_dict())')
echo "Of a patch that sets the color alone is sent: $sent"
if [[ $sent != *"'position': 0.0"* ]]; then
  echo "This has changed: the position was expected, too" >&2
  exit 1
fi
