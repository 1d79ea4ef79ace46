"""Dependencies between projects: services depend on the chassis and on no other service, the chassis on none."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from manifests import REPOSITORY
from repository_copy import copy_repository
from test_surroundings import tag

CHASSIS = REPOSITORY / "packages/chassis"
SERVICES = sorted(file.parent for file in REPOSITORY.glob("services/*/pyproject.toml"))


def packages(project: Path) -> set[str]:
    """The import names of a project's packages."""
    return {file.parent.name for file in project.glob("src/*/__init__.py")}


def imported(project: Path) -> set[str]:
    """The top-level packages imported by a project's code and tests, anywhere in a file."""
    names_: set[str] = set()
    for file in (*project.glob("src/**/*.py"), *project.glob("tests/**/*.py")):
        if ".venv" in file.parts:  # of a test, for a client: thousands of files, which are not the project's
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                names.append(node.module)
            names_ |= {name.partition(".")[0] for name in names}
    return names_


def test_no_service_imports_another() -> None:
    assert SERVICES
    for service in SERVICES:
        other_packages = set().union(*(packages(other) for other in SERVICES if other != service))
        assert "chassis" in imported(service)
        assert not imported(service) & other_packages, service


def test_chassis_imports_no_service() -> None:
    assert packages(CHASSIS) == {"chassis"} <= imported(CHASSIS)
    assert not imported(CHASSIS) & set().union(*map(packages, SERVICES))


@pytest.mark.parametrize("project", [CHASSIS, *SERVICES], ids=lambda project: project.name)
def test_no_project_has_circular_imports(project: Path) -> None:
    source = project / "src"
    modules = {
        ".".join(file.relative_to(source).with_suffix("").parts).removesuffix(".__init__"): file
        for file in source.rglob("*.py")
    }

    def named(file: Path) -> set[str]:
        """The project's modules that this one imports."""
        names_: set[str] = set()
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module in modules:
                below = {f"{node.module}.{alias.name}" for alias in node.names} & modules.keys()
                names_ |= below or {node.module}
            elif isinstance(node, ast.Import):
                names_ |= {alias.name for alias in node.names} & modules.keys()
        return names_

    graph = {name: named(file) for name, file in modules.items()}
    assert sum(map(len, graph.values())) >= len(modules)
    TopologicalSorter(graph).prepare()  # CycleError lists the modules of the cycle


def test_changed_line_of_the_chassis_changes_the_image_of_every_service(tmp_path: Path) -> None:
    copy = copy_repository(tmp_path)
    second = copy / "services/one-more/src"
    second.mkdir(parents=True)
    (second.parent / "requirements.txt").touch()
    services = [service.name for service in SERVICES] + ["one-more"]

    def tags() -> list[str]:
        return [tag(copy, SERVICE=service) for service in services]

    before = tags()
    with (copy / "packages/chassis/src/chassis/__init__.py").open("a") as file:
        file.write("# a changed line\n")
    after = tags()
    assert len({*before, *after}) == 2 * len(services)
