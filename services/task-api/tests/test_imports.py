"""Who may know whom: the service knows of tasks by domain.py alone, so that another domain can take its place."""

from __future__ import annotations

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from places import SERVICE

PACKAGE = SERVICE / "src/task_api"
OF_THE_DOMAIN = ("domain.py", "store", "tasks")
SKELETON = [file for file in sorted(PACKAGE.rglob("*.py")) if file.relative_to(PACKAGE).parts[0] not in OF_THE_DOMAIN]


@pytest.mark.parametrize("file", SKELETON, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_what_every_service_needs_does_not_know_what_this_one_is_for(file: Path) -> None:
    assert not re.findall(r"^.*\b(?:task_api\.|import )(?:store|tasks)\b.*$", file.read_text(), re.MULTILINE)


def test_the_domain_does_not_know_who_serves_it() -> None:
    above = "app|server|edge|health|settings|tracing"
    for part in OF_THE_DOMAIN:
        for file in [PACKAGE / part] if part.endswith(".py") else (PACKAGE / part).rglob("*.py"):
            assert not re.findall(rf"^.*\btask_api(?:\.| import .*\b)(?:{above})\b.*$", file.read_text(), re.MULTILINE)


def module(file: Path) -> str:
    return ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module(file): file for file in PACKAGE.rglob("*.py")}


def imported(file: Path) -> set[str]:
    """The package's modules that this one names in its imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module in MODULES:
            below = {f"{node.module}.{alias.name}" for alias in node.names} & MODULES.keys()
            found |= below or {node.module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & MODULES.keys()
    return found


def test_imports_do_not_go_round_in_circles() -> None:
    graph = {name: imported(file) for name, file in MODULES.items()}
    assert sum(map(len, graph.values())) > 100
    TopologicalSorter(graph).prepare()  # or CycleError, which names the modules of the circle
