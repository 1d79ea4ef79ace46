"""Copies of the repository with a second service, which may replace the first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from repository_copy import copy_repository, lend_environments

NAME = "spare-parts"
"""The second service. Its package has a different name, and its name is not shorter than that of the first."""
GIT = ("git", "-c", "user.name=T", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false")


def attempt(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS")) and k != "SERVICE"}
    environment = inherited | {"IMAGE": "none", "HTTP_PORT": "1", "HTTPS_PORT": "2"}  # required for collecting tests
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def run(folder: Path, *command: str) -> str:
    done = attempt(folder, *command)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def commit(folder: Path) -> None:
    run(folder, "git", "add", "--all")
    run(folder, *GIT, "commit", "--quiet", "--message", "all")


def clone(two: Path, folder: Path) -> Path:
    run(two, "git", "clone", "--quiet", "--no-hardlinks", str(two), str(folder))
    return folder


def remove(folder: Path, name: str) -> subprocess.CompletedProcess[str]:
    return attempt(folder, sys.executable, "-m", "scripts.remove_service", name)


def two_services(folder: Path) -> Path:
    """A commit with a second service in this folder; returns the folder."""
    copy = copy_repository(folder)
    lend_environments(copy)
    # Nothing to install: the environments are links.
    installs = (copy / "scripts/install.sh").read_text()
    (copy / "scripts/install.sh").write_text("#!/bin/sh\n")
    run(copy, "make", "new-service", f"NAME={NAME}")
    (copy / "scripts/install.sh").write_text(installs)
    commit(copy)
    return copy


def only_second_service(two: Path, folder: Path) -> Path:
    """A clone in this folder with only the other service; returns the folder."""
    clone(two, folder)
    lend_environments(folder)
    for service in sorted(path.name for path in (folder / "services").iterdir() if path.name != NAME):
        done = remove(folder, service)
        assert done.returncode == 0, done.stderr
    return folder
