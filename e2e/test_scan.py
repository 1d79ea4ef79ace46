"""The gate of `make scan`, with the real scanner: what has a known hole does not pass."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from e2e.cluster import REPOSITORY

pytestmark = [pytest.mark.scanner, pytest.mark.full]


def test_a_known_hole_with_a_fix_is_found_and_fails_the_scan(tmp_path: Path) -> None:
    """An image that holds nothing but the record of PyYAML 5.1, which runs code of the documents that it reads
    (CVE-2020-14343, CRITICAL, repaired in 5.4)."""
    record = tmp_path / "usr/lib/python3/site-packages/PyYAML-5.1.dist-info/METADATA"
    record.parent.mkdir(parents=True)
    record.write_text("Metadata-Version: 2.1\nName: PyYAML\nVersion: 5.1\nLicense: MIT\n")
    image = "task-api:known-hole"
    build = ["docker", "build", "--quiet", "--tag", image, "--file", "-", str(tmp_path)]
    subprocess.run(build, input="FROM scratch\nCOPY usr /usr\n", text=True, capture_output=True, check=True)
    layout = tmp_path / "layout"
    try:
        save = [sys.executable, str(REPOSITORY / "scripts/layout.py"), "save", image, str(layout)]
        subprocess.run(save, capture_output=True, check=True)
    finally:
        subprocess.run(["docker", "image", "rm", image], capture_output=True, check=True)
    done = subprocess.run(
        [REPOSITORY / "scripts/scan.sh", layout],
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "CVE-2020-14343" in done.stdout
