"""Checks of OpenAPI documents: each matches the code, and documents all operations."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from pathlib import Path

from scripts.lint.check import Failed


def check(project: Path, python: str) -> None:
    """Raises Failed unless openapi.json matches the project's code, and its operations are documented.

    project: a service's folder, relative as all paths here. python: an interpreter with all packages of the service.
    """
    (source,) = project.glob("src/*/__main__.py")
    result = subprocess.run(
        [python, "-m", source.parent.name, "openapi"],
        env={"PYTHONPATH": f"{project}/src:packages/chassis/src", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise Failed(result.stderr)
    if result.stdout != (project / "openapi.json").read_text():
        raise Failed(
            f"{project}/openapi.json does not match the code. Regenerate it, and review its diff: make openapi"
        )
    operations = {
        f"{method.upper()} {path}": operation
        for path, methods in json.loads(result.stdout)["paths"].items()
        for method, operation in methods.items()
    }
    ids = Counter(operation["operationId"] for operation in operations.values())
    problems = [
        f"{name} has no {member}"
        for name, operation in operations.items()
        for member in ("summary", "description", "tags")
        if not operation.get(member)
    ]
    problems += [
        f"{name} has the same operationId as another operation: {operation['operationId']}"
        for name, operation in operations.items()
        if ids[operation["operationId"]] > 1
    ]
    if problems:
        raise Failed("\n".join(problems))
