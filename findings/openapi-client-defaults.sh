#!/usr/bin/env bash
# Guess: for optional properties a generated client sends only what was set; a `default` in the schema documents what the server assumes
# if nothing is sent.
# What happens: openapi-python-client sets such a property to its default, for strings and numbers, and sends it with every object. In a
# merge patch that is an unintended change: a client that sets the priority also overwrites the position with 0. A default of an
# enumeration or a list behind a reference is not sent.
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
echo "Sent for a patch that sets only the color: $sent"
if [[ $sent != *"'position': 0.0"* ]]; then
  echo "Changed: expected the position as well" >&2
  exit 1
fi
