"""`make remove-service`: without its first service the kit builds, deploys and tests another one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from documentation import commands_run_by
from e2e.cluster import CONTEXT, REPOSITORY, kubectl
from repository_copy import copy_repository, lend_environments
from under_test import SERVICE

NAME = "e2e-alone"
"""A name that the repository does not use yet."""


def run(folder: Path, *command: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in {"SERVICE", "IMAGE"}}
    environment["KUBECONFIG"] = str(REPOSITORY / ".kube/config")
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=850)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture
def remaining_service(tmp_path: Path) -> Iterator[Path]:
    """A copy of the repository in which another service replaced the first, as documented."""
    copy = copy_repository(tmp_path)
    lend_environments(copy)
    (copy / ".git/info/exclude").write_text(".venv\n.tools\n")  # .gitignore has them as folders, and these are links
    run(copy, "git", "config", "user.name", "T")
    run(copy, "git", "config", "user.email", "t@example.com")
    run(copy, "git", "add", "--all")
    run(copy, "git", "commit", "--quiet", "--message", "all")
    (documented,) = commands_run_by("e2e/test_remove_service.py", "docs/develop.md")
    commands = documented.commands.replace("NAME=orders", f"NAME={NAME}").replace("NAME=task-api", f"NAME={SERVICE}")
    run(copy, "bash", "-euc", commands)
    try:
        yield copy
    finally:
        run(copy, "helm", "uninstall", NAME, "--kube-context", CONTEXT, "--ignore-not-found", "--wait")
        kubectl("delete", "pod", f"{NAME}-test", "--ignore-not-found")
        kubectl("delete", "secret", f"{NAME}-tls", "--ignore-not-found")
        filters = ("--filter", f"reference=*{NAME}", "--filter", f"reference=*/{NAME}")
        images = run(copy, "docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", *filters)
        for image in images.split():
            subprocess.run(["docker", "image", "rm", "--force", image], capture_output=True, check=False)


@pytest.mark.full  # five minutes
def test_another_service_alone_is_deployed_and_tested(remaining_service: Path) -> None:
    assert [path.name for path in (remaining_service / "services").iterdir()] == [NAME]
    run(remaining_service, "make", "up")
    # Those that create no namespaces: the outer run uses them.
    tests = [f"e2e/test_{name}.py" for name in ("service", "image", "up")]
    output = run(remaining_service, "scripts/e2e.sh", "-m", "not full", *tests)
    assert " passed" in output
    assert " failed" not in output
