"""What is checked of OpenAPI documents: each is that of the code, and has all that its readers need."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from pathlib import Path

from scripts.lint.check import Failed


def check(project: Path, python: str) -> None:
    """Raises Failed unless openapi.json is what the project's code says, and its operations are explained.

    project: a service's folder, relative as all paths here. python: one that has all packages of the service.
    """
    (source,) = project.glob("src/*/__main__.py")
    made = subprocess.run(
        [python, "-m", source.parent.name, "openapi"],
        env={"PYTHONPATH": f"{project}/src:packages/chassis/src", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        raise Failed(made.stderr)
    if made.stdout != (project / "openapi.json").read_text():
        raise Failed(
            f"{project}/openapi.json is not what the code says. Write it again, and look at its diff: make openapi"
        )
    operations = {
        f"{method.upper()} {path}": operation
        for path, methods in json.loads(made.stdout)["paths"].items()
        for method, operation in methods.items()
    }
    ids = Counter(operation["operationId"] for operation in operations.values())
    wrong = [
        f"{name} has no {member}"
        for name, operation in operations.items()
        for member in ("summary", "description", "tags")
        if not operation.get(member)
    ]
    wrong += [
        f"{name} shares the id {operation['operationId']} with another"
        for name, operation in operations.items()
        if ids[operation["operationId"]] > 1
    ]
    if wrong:
        raise Failed("\n".join(wrong))
