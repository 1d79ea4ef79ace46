"""promtool of both supported Prometheus versions: 2 from its image, 3 from scripts/go-tools.sh."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Literal

import pytest
from manifests import REPOSITORY

Prometheus = Literal["Prometheus 2", "Prometheus 3"]
BOTH_VERSIONS = [
    pytest.param("Prometheus 2", marks=pytest.mark.docker),
    pytest.param("Prometheus 3", marks=pytest.mark.go),
]
PULL_SECONDS = 300
"""The first run has to pull the image."""


def promtool(prometheus: Prometheus, folder: Path, *arguments: str) -> None:
    """Runs promtool in the folder. On errors the test fails with its output."""
    command = _from_image(folder) if prometheus == "Prometheus 2" else [_built()]
    done = subprocess.run(
        [*command, *arguments], cwd=folder, capture_output=True, text=True, timeout=PULL_SECONDS, check=False
    )
    if done.returncode != 0:
        pytest.fail(f"promtool of {prometheus}:\n{done.stdout}{done.stderr}")


def _from_image(folder: Path) -> list[str]:
    default = re.search(r"^PROMETHEUS_IMAGE=(\S+)$", (REPOSITORY / "versions.env").read_text(), re.MULTILINE)
    assert default, "versions.env has no PROMETHEUS_IMAGE"
    image = os.environ.get("PROMETHEUS_IMAGE") or default[1]
    user = f"{os.getuid()}:{os.getgid()}"  # the folder's owner: pytest makes it private
    options = ["--rm", "--network=none", f"--user={user}", f"--volume={folder}:/rules:ro", "--workdir=/rules"]
    return ["docker", "run", *options, "--entrypoint=promtool", image]


def _built() -> str:
    binary = shutil.which("promtool", path=REPOSITORY / ".tools")
    assert binary, "promtool was not built. With Go, https://go.dev/dl/: scripts/go-tools.sh"
    return binary
