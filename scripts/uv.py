"""Runs the uv of requirements-uv.txt, which pip downloads into .tools/uv, verifying its hash.

    "$(scripts/find-pip.sh)" -I scripts/uv.py pip install ...

uv does not read pip's settings, and its own may belong to another machine or project. So pip's settings determine
sources and connections for uv, too. scripts/isolate.sh has unset all UV_* variables that would change that.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements-uv.txt"
FOLDER = ROOT / ".tools/uv"
PIP = [sys.executable, "-I", "-m", "pip", "--disable-pip-version-check"]

FIXED = {
    "UV_NO_CONFIG": "1",
    "UV_NO_PROGRESS": "1",
    "UV_PYTHON_DOWNLOADS": "never",
    # Not hard links, the default on Linux: a line changed in one environment would change in the cache and in every
    # environment created from it. Nor `clone`, which falls back to hard links.
    "UV_LINK_MODE": "copy",
    # Like pip: the requested version, from whichever index has it. Its hash is verified.
    "UV_INDEX_STRATEGY": "unsafe-best-match",
}


def is_pinned(uv: Path) -> bool:
    """Whether it runs here and has the locked version."""
    try:
        output = subprocess.run([uv, "--version"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return False
    return f"uv=={' '.join(output.split()[1:2])} " in LOCK.read_text()


def fetch() -> None:
    """Installs into a temporary folder of this process first, so that an interrupted download is never used."""
    new = FOLDER.with_name(f"uv.{os.getpid()}")
    install = ["install", "--quiet", "--no-deps", "--no-compile", "--require-hashes", "--only-binary", ":all:"]
    try:
        subprocess.run([*PIP, *install, "--target", new, "--requirement", LOCK], check=True)
        shutil.rmtree(FOLDER, ignore_errors=True)
        new.rename(FOLDER)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def pip_settings() -> dict[str, str]:
    """The effective settings of `pip install`: the files' [global], then their [install], then the environment."""
    listed = subprocess.run([*PIP, "config", "list"], stdout=subprocess.PIPE, text=True, check=True).stdout
    found: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        section, _, name = key.partition(".")
        if section in found:
            found[section][name] = str(ast.literal_eval(value))
    return found["global"] | found["install"] | found[":env:"]


def uv_settings(pip: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """The same as uv's variables, not arguments: URLs may contain a password, which must not appear in process
    lists."""

    def words(name: str) -> list[str]:
        return pip.get(name, "").split()

    settings = {
        "UV_DEFAULT_INDEX": pip.get("index-url", ""),
        "UV_INDEX": " ".join(words("extra-index-url")),
        "UV_FIND_LINKS": ",".join(
            str(Path(word).expanduser()) if word[0] == "~" else word for word in words("find-links")
        ),
        "UV_INSECURE_HOST": " ".join(words("trusted-host")),
        "UV_HTTP_TIMEOUT": pip.get("timeout") or pip.get("default-timeout", ""),
        "UV_HTTP_RETRIES": pip.get("retries", ""),
        "UV_KEYRING_PROVIDER": "subprocess" if pip.get("keyring-provider") == "subprocess" else "",
        "UV_NO_CACHE": "1" if is_true(pip.get("no-cache-dir")) else "",
        "SSL_CLIENT_CERT": pip.get("client-cert", ""),
    }
    certificates = pip.get("cert") or environment.get("REQUESTS_CA_BUNDLE") or environment.get("CURL_CA_BUNDLE")
    if certificates:
        settings["SSL_CERT_DIR" if Path(certificates).is_dir() else "SSL_CERT_FILE"] = certificates
    elif not environment.get("SSL_CERT_FILE") and not environment.get("SSL_CERT_DIR"):
        settings["UV_SYSTEM_CERTS"] = "1"  # like pip since 24.2: includes the certificate of a company's proxy
    if proxy := pip.get("proxy"):
        proxy = proxy if "://" in proxy else f"http://{proxy}"
        settings |= dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), proxy)
    return {name: value for name, value in settings.items() if value}


def is_true(value: str | None) -> bool:
    return (value or "").lower() in ("1", "true", "yes", "on", "y", "t")


def main(arguments: list[str]) -> int:
    uv = FOLDER / "bin/uv"
    if not is_pinned(uv):
        fetch()
    pip = pip_settings()
    if is_true(pip.get("no-index")):
        arguments = [*arguments, "--no-index"]  # there is no variable for it
    environment = {**os.environ, **uv_settings(pip, os.environ), **FIXED}
    return subprocess.run([uv, *arguments], env=environment, check=False).returncode


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"uv cannot be installed: {error}")
