"""What uv installs, where it looks for it, and what it does not: with the real one, and packages made here."""

from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from base64 import urlsafe_b64encode
from hashlib import sha256
from pathlib import Path

import pytest
from manifests import REPOSITORY
from scripts import uv

MODULE = "version = '1.0'\n"


def wheel(folder: Path) -> str:
    """A package named one, and its hash."""
    files = {
        "one.py": MODULE,
        "one-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: one\nVersion: 1.0\n",
        "one-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: here\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        f"{name},sha256={urlsafe_b64encode(sha256(text.encode()).digest()).rstrip(b'=').decode()},{len(text)}\n"
        for name, text in files.items()
    )
    file = folder / "one-1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in {**files, "one-1.0.dist-info/RECORD": record + "one-1.0.dist-info/RECORD,,\n"}.items():
            archive.writestr(name, text)
    return sha256(file.read_bytes()).hexdigest()


class Kit:
    """A copy of the kit's scripts with its uv, and a folder of packages in place of an index."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "with spaces"
        (self.folder / ".tools").mkdir(parents=True)
        shutil.copytree(REPOSITORY / "scripts", self.folder / "scripts")
        shutil.copy(uv.LOCK, self.folder)
        (self.folder / ".tools/uv").symlink_to(REPOSITORY / ".tools/uv")
        (folder / "packages").mkdir()
        self.hash = wheel(folder / "packages")
        self.lock = self.folder / "one.txt"
        self.lock.write_text(f"one==1.0 \\\n    --hash=sha256:{self.hash}\n")
        self.variables = {"UV_CACHE_DIR": str(folder / "cache"), "PIP_CONFIG_FILE": str(folder / "pip.conf")}
        (folder / "pip.conf").write_text(f"[global]\nno-index = true\n[install]\nfind-links =\n    {folder}/packages\n")

    def install(self, environment: str, **variables: str) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))}
        return subprocess.run(
            ["scripts/install.sh", environment, "one.txt", f"{environment}/stamp"],
            cwd=self.folder,
            env={**clean, **self.variables, **variables},
            capture_output=True,
            text=True,
            check=False,
        )

    def module(self, environment: str) -> Path:
        (found,) = (self.folder / environment).glob("lib/python*/site-packages/one.py")
        return found


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    return Kit(tmp_path_factory.mktemp("kit"))


def test_packages_come_from_where_pips_settings_say_by_uv(kit: Kit) -> None:
    done = kit.install(
        "env", UV_SYSTEM_PYTHON="1", UV_TARGET="/nowhere", UV_CONSTRAINT="/nowhere", UV_LINK_MODE="symlink"
    )
    assert done.stdout.startswith("Installing 1 packages of one.txt ("), done.stdout + done.stderr
    assert kit.module("env").read_text() == MODULE
    assert not kit.module("env").is_symlink()
    assert kit.install("env").stdout == ""


def test_a_uv_toml_of_the_user_does_not_change_what_is_installed(kit: Kit, tmp_path: Path) -> None:
    (tmp_path / "uv").mkdir()
    (tmp_path / "uv/uv.toml").write_text('exclude-newer = "2001-01-01"\nno-binary = true\n')
    done = kit.install("configured", XDG_CONFIG_HOME=str(tmp_path))
    assert done.stdout.startswith("Installing 1 packages of one.txt ("), done.stdout + done.stderr


def test_a_line_changed_in_an_environment_is_changed_in_no_other(kit: Kit) -> None:
    kit.install("edited")
    with kit.module("edited").open("a") as file:
        file.write("import pdb\n")
    kit.install("fresh")
    assert kit.module("fresh").read_text() == MODULE


@pytest.mark.parametrize(
    "line", ["one==1.0\n", f"one==1.0 \\\n    --hash=sha256:{'0' * 64}\n"], ids=["none", "another"]
)
def test_a_package_without_its_hash_is_not_installed_by_pip_either(kit: Kit, line: str) -> None:
    before = kit.lock.read_text()
    kit.lock.write_text(line)
    try:
        done = kit.install("refused")
    finally:
        kit.lock.write_text(before)
    assert done.returncode == 1
    assert "with pip, since uv failed" in done.stdout
    assert not list((kit.folder / "refused").glob("lib/python*/site-packages/one.py"))


def test_a_uv_that_does_not_run_here_is_not_taken(kit: Kit) -> None:
    """As one of another processor, and nothing to fetch another from."""
    (kit.folder / ".tools/uv").rename(kit.folder / ".tools/kept")
    (kit.folder / ".tools/uv/bin").mkdir(parents=True)
    (kit.folder / ".tools/uv/bin/uv").write_bytes(b"\x7fELF of another")
    (kit.folder / ".tools/uv/bin/uv").chmod(0o755)
    try:
        done = kit.install("foreign")
    finally:
        (kit.folder / ".tools/uv").rename(kit.folder / ".tools/foreign")
        (kit.folder / ".tools/kept").rename(kit.folder / ".tools/uv")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Installing 1 packages of one.txt with pip, since uv failed (foreign/install.log) (")
    assert kit.module("foreign").read_text() == MODULE
    assert "uv cannot be installed" in (kit.folder / "foreign/install.log").read_text()


@pytest.mark.parametrize(
    ("said", "pinned"), [("uv 0.0.1 (x)", False), ("uv VERSION (x)", True), ("uv VERSION9 (x)", False)]
)
def test_a_uv_is_the_kits_if_its_version_is_the_locked_one(tmp_path: Path, said: str, pinned: bool) -> None:
    (locked,) = [line.split()[0] for line in uv.LOCK.read_text().splitlines() if line.startswith("uv==")]
    script = tmp_path / "uv"
    script.write_text(f"#!/bin/sh\necho '{said.replace('VERSION', locked.removeprefix('uv=='))}'\n")
    script.chmod(0o755)
    assert uv.is_pinned(script) is pinned


def test_pips_settings_are_read_in_pips_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://one/simple\nretries = 1\ntimeout = 1\n"
        "[install]\nindex-url = https://it's:me%%40@two/simple\nretries = 2\n[download]\nretries = 4\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setenv("PIP_RETRIES", "3")
    found = uv.pip_settings()
    assert (found["timeout"], found["retries"]) == ("1", "3")
    assert found["index-url"].startswith("https://it's:me")


@pytest.mark.parametrize(
    ("pip", "expected"),
    [
        ({}, {}),
        ({"index-url": "https://me:secret@mirror/simple"}, {"UV_DEFAULT_INDEX": "https://me:secret@mirror/simple"}),
        (
            {"extra-index-url": "\nhttps://a/simple\nhttps://b/simple"},
            {"UV_INDEX": "https://a/simple https://b/simple"},
        ),
        ({"find-links": "/a\nhttps://b"}, {"UV_FIND_LINKS": "/a,https://b"}),
        ({"trusted-host": "a b:8080"}, {"UV_INSECURE_HOST": "a b:8080"}),
        ({"default-timeout": "180", "retries": "2"}, {"UV_HTTP_TIMEOUT": "180", "UV_HTTP_RETRIES": "2"}),
        ({"keyring-provider": "subprocess"}, {"UV_KEYRING_PROVIDER": "subprocess"}),
        ({"keyring-provider": "import"}, {}),  # uv has none: pip takes over where it is needed
        ({"no-cache-dir": "true"}, {"UV_NO_CACHE": "1"}),
        ({"no-cache-dir": "off"}, {}),
        ({"client-cert": "/me.pem"}, {"SSL_CLIENT_CERT": "/me.pem"}),
        (
            {"proxy": "proxy:3128"},
            dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://proxy:3128"),
        ),
        ({"target": "/nowhere", "user": "true", "no-binary": ":all:", "constraint": "x"}, {}),
    ],
    ids=lambda value: "+".join(value) or "none",
)
def test_uv_looks_where_pip_does(pip: dict[str, str], expected: dict[str, str]) -> None:
    assert uv.uv_settings(pip, {"SSL_CERT_FILE": "/as/exported.pem"}) == expected


@pytest.mark.parametrize(
    ("pip", "environment", "expected"),
    [
        ({"cert": "/ca.pem"}, {"SSL_CERT_FILE": "/other.pem"}, {"SSL_CERT_FILE": "/ca.pem"}),
        ({"cert": "/"}, {}, {"SSL_CERT_DIR": "/"}),
        ({}, {"REQUESTS_CA_BUNDLE": "/ca.pem"}, {"SSL_CERT_FILE": "/ca.pem"}),
        ({}, {}, {"UV_SYSTEM_CERTS": "1"}),
    ],
)
def test_uv_trusts_whom_pip_trusts(pip: dict[str, str], environment: dict[str, str], expected: dict[str, str]) -> None:
    assert uv.uv_settings(pip, environment) == expected
