#!/usr/bin/env bash
# Guess: an example that a model provides for the OpenAPI document is published unchanged.
# What happens: its null members are dropped, at any depth. A complete example then lacks some `required` members, and linters (Redocly,
# Spectral) report it as invalid.
# Packages: fastapi 0.165.0, pydantic 2.14.3
# Source: fastapi.openapi.utils.get_openapi ends with jsonable_encoder(..., exclude_none=True)
# Date: 2026-11-29
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check fastapi==0.165.0 pydantic==2.14.3
cat > example.py << 'PY'
import json

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict

EXAMPLE = {"title": "Water the plants", "due": None, "more": [{"note": None}]}


class Task(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    title: str
    due: str | None
    more: list[dict[str, str | None]]


app = FastAPI()


@app.get("/task")
def task() -> Task:
    return Task.model_validate(EXAMPLE)


print("pydantic:", json.dumps(Task.model_json_schema()["examples"][0]))
print("fastapi: ", json.dumps(app.openapi()["components"]["schemas"]["Task"]["examples"][0]))
PY
venv/bin/python example.py | tee actual
if ! grep -q '^pydantic:.*"due": null' actual || ! grep -Fxq 'fastapi:  {"more": [{}], "title": "Water the plants"}' actual; then
  echo 'Changed: expected pydantic to keep the null and FastAPI to drop it'
  exit 1
fi
