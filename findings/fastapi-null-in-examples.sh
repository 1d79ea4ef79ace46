#!/usr/bin/env bash
# Guess: an example that a model gives for the OpenAPI document is published as it stands.
# What happens: its members that are null are not in the document, in whatever depth. An example of an object with all of its
# members then lacks some that `required` names, and linters (Redocly, Spectral) call the example wrong.
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
venv/bin/python example.py | tee seen
if ! grep -q '^pydantic:.*"due": null' seen || ! grep -Fxq 'fastapi:  {"more": [{}], "title": "Water the plants"}' seen; then
  echo 'That has changed: pydantic kept the null, and FastAPI left it out.'
  exit 1
fi
