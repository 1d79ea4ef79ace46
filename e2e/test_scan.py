"""The gate of `make scan`, with the real scanner: vulnerabilities with a fix fail it, those without a fix pass.

Trivy is the one built by scripts/go-tools.sh, and its database has a single advisory at a time, written by
e2e/advisories. The last test uses Trivy's own container and database.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from e2e.cluster import REPOSITORY
from under_test import SERVICE

SERVICES = sorted(
    chart.parent.name
    for chart in REPOSITORY.glob("platform/helm/*/Chart.yaml")
    if "type: application" in chart.read_text()
)
FIXES = {"zlib": "9:9.9", "fastapi": "99.9"}
"""Versions that no image has yet, of a Debian source package (its binary package is zlib1g) and a Python package."""


@dataclass(frozen=True)
class Scan:
    code: int
    report: str
    log: str


@dataclass(frozen=True)
class Image:
    """An image as a layout, and what is known about it without the scanner."""

    trivy: str
    layout: Path
    cache: Path
    debian_release: str
    debian_packages: int

    def scan(self, advisories: Path, package: str, severity: str, fix: str | None) -> Scan:
        """Runs scripts/scan.sh, with a database of one advisory: for that package, in each version before the fix."""
        for file in self.cache.glob("db/*"):
            file.unlink()
        bucket = f"debian {self.debian_release}" if package == "zlib" else "pip::one advisory"
        run(str(advisories), str(self.cache), bucket, package, severity, *([fix] if fix else []))
        done = subprocess.run(
            [REPOSITORY / "scripts/scan.sh", self.layout],
            env={
                **os.environ,
                "TRIVY": self.trivy,
                "TRIVY_CACHE_DIR": str(self.cache),
                "TRIVY_SKIP_DB_UPDATE": "true",
                "TRIVY_SKIP_JAVA_DB_UPDATE": "true",
                "TRIVY_OFFLINE_SCAN": "true",
                "TRIVY_SKIP_VERSION_CHECK": "true",
                "TRIVY_DISABLE_TELEMETRY": "true",
            },
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return Scan(done.returncode, done.stdout, done.stderr)


def run(*command: str, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=REPOSITORY, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def trivy() -> str:
    binary = REPOSITORY / ".tools/trivy"
    assert binary.exists(), f"{binary} was not built. With Go, https://go.dev/dl/: scripts/go-tools.sh trivy"
    return str(binary)


@pytest.fixture(scope="module")
def advisories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program that writes a database of one advisory."""
    program = tmp_path_factory.mktemp("advisories") / "advisories"
    run("go", "build", "-C", "e2e/advisories", "-trimpath", "-o", str(program), ".", CGO_ENABLED="0", GOWORK="off")
    return program


@pytest.fixture(scope="module", params=SERVICES)
def image(request: pytest.FixtureRequest, trivy: str, tmp_path_factory: pytest.TempPathFactory) -> Image:
    service = str(request.param)
    name = os.environ.get("IMAGE") if service == SERVICE else None
    if name is None:
        name = f"{service}:latest"
        run("scripts/image.sh", SERVICE=service)
    folder = tmp_path_factory.mktemp(service)
    run(sys.executable, "scripts/layout.py", "save", name, str(folder / "layout"))
    in_image = ["docker", "run", "--rm", "--network", "none", "--entrypoint"]
    (release,) = re.findall(r'^VERSION_ID="(\d+)"$', run(*in_image, "cat", name, "/etc/os-release"), re.MULTILINE)
    packages = run(*in_image, "dpkg-query", name, "--show", "--showformat", "${Package}\n").splitlines()
    return Image(trivy, folder / "layout", folder / "cache", release, len(packages))


def assert_packages_were_detected(scan: Scan, image: Image) -> None:
    """Otherwise a scan that detects no packages would count as one without findings."""
    assert f'os_version="{image.debian_release}" pkg_num={image.debian_packages}\n' in scan.log, scan.log
    assert re.search(r"/fastapi-[\d.]+\.dist-info/METADATA", scan.report), scan.report


@pytest.mark.full
@pytest.mark.parametrize("severity", ["HIGH", "CRITICAL"])
@pytest.mark.parametrize(("package", "shown"), [("zlib", "zlib1g"), ("fastapi", "fastapi")])
def test_vulnerability_with_a_fix_fails_the_scan(
    image: Image, advisories: Path, package: str, shown: str, severity: str
) -> None:
    scan = image.scan(advisories, package, severity, FIXES[package])
    assert scan.code == 1, scan
    finding = rf"{shown} .*CVE-2000-0001 .*{severity} .*fixed .*{FIXES[package]} "
    assert re.search(finding, scan.report), scan.report
    assert_packages_were_detected(scan, image)


@pytest.mark.full
@pytest.mark.parametrize(("severity", "fixed"), [("HIGH", False), ("CRITICAL", False), ("MEDIUM", True)])
@pytest.mark.parametrize("package", FIXES)
def test_vulnerability_without_a_fix_or_of_lower_severity_passes(
    image: Image, advisories: Path, package: str, severity: str, fixed: bool
) -> None:
    """Each differs in one word from a database that fails the scan, above."""
    scan = image.scan(advisories, package, severity, FIXES[package] if fixed else None)
    assert scan.code == 0, scan
    assert "CVE-2000-0001" not in scan.report
    assert_packages_were_detected(scan, image)


@pytest.mark.full
def test_database_is_written_with_the_module_that_the_scanner_reads_it_with(trivy: str) -> None:
    module = "github.com/aquasecurity/trivy-db"
    written = run("go", "list", "-C", "e2e/advisories", "-m", "-f", "{{.Version}}", module).strip()
    (read,) = re.findall(rf"^\tdep\t{module}\t(\S+)", run("go", "version", "-m", trivy), re.MULTILINE)
    assert written == read, (
        f"e2e/advisories uses a different version. Use Trivy's: go get -C e2e/advisories {module}@{read}"
    )


@pytest.mark.scanner
@pytest.mark.full
def test_vulnerability_with_a_fix_is_found_by_the_scanners_own_container_and_database(tmp_path: Path) -> None:
    """An image with nothing but the metadata of PyYAML 5.1, which executes code in the documents that it reads
    (CVE-2020-14343, CRITICAL, fixed in 5.4)."""
    record = tmp_path / "usr/lib/python3/site-packages/PyYAML-5.1.dist-info/METADATA"
    record.parent.mkdir(parents=True)
    record.write_text("Metadata-Version: 2.1\nName: PyYAML\nVersion: 5.1\nLicense: MIT\n")
    image = f"{SERVICE}:known-vulnerability"
    build = ["docker", "build", "--quiet", "--tag", image, "--file", "-", str(tmp_path)]
    subprocess.run(build, input="FROM scratch\nCOPY usr /usr\n", text=True, capture_output=True, check=True)
    layout = tmp_path / "layout"
    try:
        run(sys.executable, "scripts/layout.py", "save", image, str(layout))
    finally:
        run("docker", "image", "rm", image)
    done = subprocess.run(
        [REPOSITORY / "scripts/scan.sh", layout],
        env={name: value for name, value in os.environ.items() if name != "TRIVY"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "CVE-2020-14343" in done.stdout
