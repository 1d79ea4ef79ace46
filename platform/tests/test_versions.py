"""versions.env holds each external version once; where a format cannot read it, the copy must agree."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import yaml
from machine import Machine
from manifests import CHART, REPOSITORY, default_values, raw

VERSIONS = dict(
    line.split("=", 1) for line in (REPOSITORY / "versions.env").read_text().splitlines() if re.match(r"[A-Z]", line)
)


def only(pattern: str, text: str) -> str:
    """The one thing that the pattern's group finds in the text, however often."""
    found = set(re.findall(pattern, text))
    assert len(found) == 1, f"{pattern} finds {found}"
    return str(found.pop())


def text(path: str) -> str:
    return (REPOSITORY / path).read_text()


def test_the_dockerfiles_base() -> None:
    assert only(r"ARG PYTHON_IMAGE=(\S+)", text("Dockerfile")) == VERSIONS["PYTHON_IMAGE"]


def test_the_image_gets_locked_packages_alone_and_compiles_none() -> None:
    """By hash, so that nobody can swap one; wheels, so that no package's code runs while it is installed."""
    commands = [c for c in text("Dockerfile").replace("\\\n", " ").splitlines() if c.startswith("RUN")]
    (install,) = [c for c in commands if re.search(r"\bpip\b.*\binstall\b", c)]
    assert "--require-hashes --only-binary :all: --requirement /build/requirements.txt " in install
    assert re.fullmatch(
        r"(COPY \S+/requirements\.txt) /build/requirements\.txt",
        only(r"(?m)^(.* /build/requirements.txt)$", text("Dockerfile")),
    )


def test_the_database_of_chart_manifests_and_tests() -> None:
    values = default_values()
    assert values["database"]["bundled"]["image"] == VERSIONS["POSTGRES_IMAGE"]
    (stateful_set,) = (m for m in raw() if m["kind"] == "StatefulSet")
    assert stateful_set["spec"]["template"]["spec"]["containers"][0]["image"] == VERSIONS["POSTGRES_IMAGE"]
    tests = text("packages/chassis/testing/databases.py")
    assert only(r'POSTGRES_IMAGE = "(\S+)"', tests) == VERSIONS["POSTGRES_IMAGE"]


def test_the_registry_of_tests() -> None:
    assert only(r'DockerContainer\("(registry\S+)"\)', text("e2e/conftest.py")) == VERSIONS["REGISTRY_IMAGE"]


def test_the_tools_of_mise() -> None:
    node = only(r":v([\d.]+)@", VERSIONS["KIND_NODE_IMAGE"])
    assert tomllib.loads(text("mise.toml")) == {
        "tools": {
            "python": only(r"^python:(\d+\.\d+)-slim$", VERSIONS["PYTHON_IMAGE"]),
            "kind": VERSIONS["KIND_VERSION"].removeprefix("v"),
            "kubectl": node,
            "helm": VERSIONS["HELM_VERSION"].removeprefix("v"),
            "tilt": VERSIONS["TILT_VERSION"].removeprefix("v"),
            "go": VERSIONS["GO_VERSION"],
        }
    }


def test_the_dev_container_is_of_one_release_of_each_thing_and_has_the_python_of_the_image() -> None:
    container = json.loads(re.sub(r"^ *//.*$| // .*$", "", text(".devcontainer/devcontainer.json"), flags=re.MULTILINE))
    python = only(r"^python:(\d+\.\d+)-slim$", VERSIONS["PYTHON_IMAGE"])
    assert re.fullmatch(
        rf"mcr\.microsoft\.com/devcontainers/python:\d+\.\d+\.\d+-{re.escape(python)}-\w+", container["image"]
    )
    (docker,) = container["features"]
    assert re.fullmatch(r"ghcr\.io/devcontainers/features/docker-in-docker:\d+\.\d+\.\d+", docker)
    assert (REPOSITORY / container["postCreateCommand"]).stat().st_mode & 0o111


def test_the_dev_container_gets_the_tools_of_mise_by_the_mise_of_versions_env(tmp_path: Path) -> None:
    machine = Machine(tmp_path, 18080)
    for tool in ("mise", "sudo", "make"):
        machine.has(tool, f'echo "{tool} $*"')
    machine.has("curl", 'echo "echo $*"')
    machine.has("sh", "exec bash")
    done = machine.run(".devcontainer/set-up.sh")[1].splitlines()
    assert done[:2] == [
        f"-fsSL https://github.com/jdx/mise/releases/download/{VERSIONS['MISE_VERSION']}/install.sh",
        "mise install --yes",
    ]
    assert done[-1] == "make doctor"


def test_the_api_has_one_version_in_the_places_that_contributing_names() -> None:
    service = "services/task-api"
    versions = {
        f"`{service}/pyproject.toml`": tomllib.loads(text(f"{service}/pyproject.toml"))["project"]["version"],
        f"`{service}/src/task_api/__init__.py`": only(
            r'__version__ = "(\S+)"', text(f"{service}/src/task_api/__init__.py")
        ),
        "`appVersion`": yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"],
        "`openapi.json`": json.loads(text(f"{service}/openapi.json"))["info"]["version"],
    }
    assert len(set(versions.values())) == 1, versions
    (named,) = re.findall(r"^- the API, (.+?);$", text("CONTRIBUTING.md"), re.MULTILINE | re.DOTALL)
    assert [place for place in versions if place not in named] == []


def test_nothing_says_latest_of_an_image_from_outside() -> None:
    for file in [*Path(REPOSITORY / "platform").rglob("*.yaml"), REPOSITORY / "kind-config.yaml"]:
        for image in re.findall(r"image: (\S+:latest)", file.read_text()):
            assert image == "your-dockerhub-username/task-api:latest", f"{file}: {image}"
