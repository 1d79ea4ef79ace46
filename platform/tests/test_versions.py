"""versions.env has each external version once; copies in formats that cannot read it must agree."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import yaml
from machine import Machine
from manifests import CHART, REPOSITORY
from under_test import PACKAGE, SERVICE

VERSIONS = dict(
    line.split("=", 1) for line in (REPOSITORY / "versions.env").read_text().splitlines() if re.match(r"[A-Z]", line)
)


def only(pattern: str, text: str) -> str:
    """The single value of the pattern's group in the text, however often it occurs."""
    values = set(re.findall(pattern, text))
    assert len(values) == 1, f"{pattern} finds {values}"
    return str(values.pop())


def text(path: str) -> str:
    return (REPOSITORY / path).read_text()


def test_dockerfile_uses_the_base_image_of_versions_env() -> None:
    assert only(r"ARG PYTHON_IMAGE=(\S+)", text("Dockerfile")) == VERSIONS["PYTHON_IMAGE"]


def test_image_gets_only_locked_wheels_and_compiles_nothing() -> None:
    """Hashes prevent replaced packages; wheels run no package code during the installation."""
    commands = [c for c in text("Dockerfile").replace("\\\n", " ").splitlines() if c.startswith("RUN")]
    (install,) = [c for c in commands if re.search(r"\bpip\b.*\binstall\b", c)]
    assert "--require-hashes --only-binary :all: --requirement /build/requirements.txt " in install
    assert re.fullmatch(
        r"(COPY \S+/requirements\.txt) /build/requirements\.txt",
        only(r"(?m)^(.* /build/requirements.txt)$", text("Dockerfile")),
    )


def test_tests_use_the_registry_image_of_versions_env() -> None:
    assert only(r'DockerContainer\("(registry\S+)"\)', text("e2e/conftest.py")) == VERSIONS["REGISTRY_IMAGE"]


def test_mise_toml_has_the_tools_of_versions_env() -> None:
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


def test_dev_container_has_one_release_of_each_tool_and_the_images_python() -> None:
    container = json.loads(re.sub(r"^ *//.*$| // .*$", "", text(".devcontainer/devcontainer.json"), flags=re.MULTILINE))
    python = only(r"^python:(\d+\.\d+)-slim$", VERSIONS["PYTHON_IMAGE"])
    assert re.fullmatch(
        rf"mcr\.microsoft\.com/devcontainers/python:\d+\.\d+\.\d+-{re.escape(python)}-\w+", container["image"]
    )
    (docker,) = container["features"]
    assert re.fullmatch(r"ghcr\.io/devcontainers/features/docker-in-docker:\d+\.\d+\.\d+", docker)
    assert (REPOSITORY / container["postCreateCommand"]).stat().st_mode & 0o111


def test_dev_container_installs_the_tools_with_the_mise_of_versions_env(tmp_path: Path) -> None:
    machine = Machine(tmp_path, 18080)
    for tool in ("mise", "sudo", "make"):
        machine.add_tool(tool, f'echo "{tool} $*"')
    machine.add_tool("curl", 'echo "echo $*"')
    machine.add_tool("sh", "exec bash")
    done = machine.run(".devcontainer/set-up.sh")[1].splitlines()
    assert done[:2] == [
        f"-fsSL https://github.com/jdx/mise/releases/download/{VERSIONS['MISE_VERSION']}/install.sh",
        "mise install --yes",
    ]
    assert done[-1] == "make doctor"


def test_api_version_is_the_same_in_the_places_listed_in_contributing() -> None:
    service = f"services/{SERVICE}"
    versions = {
        f"`{service}/pyproject.toml`": tomllib.loads(text(f"{service}/pyproject.toml"))["project"]["version"],
        f"`{service}/src/{PACKAGE}/__init__.py`": only(
            r'__version__ = "(\S+)"', text(f"{service}/src/{PACKAGE}/__init__.py")
        ),
        "`appVersion`": yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"],
        "`openapi.json`": json.loads(text(f"{service}/openapi.json"))["info"]["version"],
    }
    assert len(set(versions.values())) == 1, versions
    (named,) = re.findall(r"^- the API, (.+?);$", text("CONTRIBUTING.md"), re.MULTILINE | re.DOTALL)
    assert [place for place in versions if place not in named] == []


def test_no_external_image_is_tagged_latest() -> None:
    for file in [*Path(REPOSITORY / "platform").rglob("*.yaml"), REPOSITORY / "kind-config.yaml"]:
        for image in re.findall(r"image: (\S+:latest)", file.read_text()):
            assert image == f"your-dockerhub-username/{SERVICE}:latest", f"{file}: {image}"
