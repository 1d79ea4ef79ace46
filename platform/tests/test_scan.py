"""The logic around the scanner, with a docker that records its calls (the scanner itself: e2e/test_scan.py)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from manifests import REPOSITORY


def scan(
    folder: Path, *, exit_code: int = 0, pull: int = 0, **environment: str
) -> tuple[subprocess.CompletedProcess[str], str]:
    docker = folder / "bin/docker"
    docker.parent.mkdir(exist_ok=True)
    docker.write_text(
        f'#!/bin/sh\necho "$@" >> "{folder}/calls"\n'
        f"case $1 in image) exit 1 ;; pull) exit {pull} ;; run) exit {exit_code} ;; esac\n"
    )
    docker.chmod(0o755)
    done = subprocess.run(
        [REPOSITORY / "scripts/scan.sh", folder / "layout"],
        env={"PATH": f"{docker.parent}:{os.environ['PATH']}", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    calls = folder / "calls"
    return done, calls.read_text() if calls.exists() else ""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "layout").mkdir()
    (tmp_path / "layout/index.json").write_text("{}")
    return tmp_path


def test_scanner_gets_the_layout_read_only_and_no_socket(folder: Path) -> None:
    done, calls = scan(folder)
    assert done.returncode == 0, done.stderr
    assert f"--volume {folder}/layout:/layout:ro" in calls
    assert "docker.sock" not in calls
    assert "@sha256:" in calls


def test_finding_fails_the_scan(folder: Path) -> None:
    assert scan(folder, exit_code=1)[0].returncode == 1


def test_unavailable_scanner_fails_the_scan(folder: Path) -> None:
    done, calls = scan(folder, pull=1)
    assert done.returncode == 3
    assert "so nothing was scanned" in done.stderr
    assert "run" not in calls.split()


def test_local_scanner_gets_the_flags_of_the_container(folder: Path, tmp_path: Path) -> None:
    _, calls = scan(folder)
    flags = calls.splitlines()[-1].split(" --input /layout ")[1]
    trivy = tmp_path / "trivy"
    trivy.write_text('#!/bin/sh\necho "$@"\nexit 1\n')
    trivy.chmod(0o755)
    (folder / "calls").unlink()
    done, calls = scan(folder, TRIVY=str(trivy))
    assert (done.returncode, done.stdout) == (1, f"image --input {folder}/layout {flags}\n")
    assert calls == ""  # no container


def test_missing_local_scanner_fails_the_scan(folder: Path) -> None:
    done, calls = scan(folder, TRIVY="./no-trivy")
    assert (done.returncode, calls) == (3, "")
    assert "TRIVY is ./no-trivy" in done.stderr
    assert "scripts/go-tools.sh trivy" in done.stderr


def test_folder_without_a_layout_is_rejected(tmp_path: Path) -> None:
    done, calls = scan(tmp_path)
    assert (done.returncode, calls) == (2, "")
    assert "make layout" in done.stderr
