"""The image: the size of its layers on top of the base, and the time to rebuild it."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.machine import ROOT, run

SERVICE = "task-api"


def measure(log: Callable[[str], None]) -> dict[str, object]:
    """Sizes are those of gzip-compressed layers, as in a registry. Times are of a single build."""
    base = os.environ.get("PYTHON_IMAGE", "python:3.11-slim")
    _build(ROOT)
    added = _layers(f"{SERVICE}:bench") - _layers(base)
    added_mib = sum(size for _, size in added) / 2**20
    log(f"{added_mib:.1f} MiB on top of {base}, compressed")
    with tempfile.TemporaryDirectory() as folder:
        # A copy, so that the working tree is not changed.
        run("git", "clone", "--quiet", "--no-hardlinks", ROOT, folder)
        copy = Path(folder)
        _build(copy)
        source = copy / f"services/{SERVICE}/src/task_api/app.py"
        source.write_text(source.read_text() + f"\n# {time.time()}\n")
        code = _build(copy)
        log(f"rebuild after a code change: {code:.1f} s")
        lock = copy / f"services/{SERVICE}/requirements.txt"
        lock.write_text(lock.read_text() + f"\n# {time.time()}\n")
        dependency = _build(copy)
        log(f"rebuild after a dependency change: {dependency:.1f} s")
    run("docker", "image", "rm", f"{SERVICE}:bench")
    return {"added_mib": added_mib, "code_seconds": code, "dependency_seconds": dependency}


def _build(folder: Path) -> float:
    start = time.monotonic()
    image = os.environ.get("PYTHON_IMAGE", "python:3.11-slim")
    tag = ("--tag", f"{SERVICE}:bench", "--build-arg", f"PYTHON_IMAGE={image}")
    run("docker", "build", "--quiet", *tag, "--build-arg", f"SERVICE={SERVICE}", folder)
    return time.monotonic() - start


def _layers(image: str) -> set[tuple[str, int]]:
    """Each layer's digest and compressed size."""
    layers = set()
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "image.tar"
        with archive.open("wb") as file:
            subprocess.run(["docker", "save", image], stdout=file, check=True)
        with tarfile.open(archive) as image_tar:
            manifest = json.load(_member(image_tar, "manifest.json"))
            config = json.load(_member(image_tar, manifest[0]["Config"]))
            for name, digest in zip(manifest[0]["Layers"], config["rootfs"]["diff_ids"], strict=True):
                content = _member(image_tar, name).read()
                compressed = len(content) if content[:2] == b"\x1f\x8b" else len(gzip.compress(content, 6))
                layers.add((digest, compressed))
    return layers


def _member(archive: tarfile.TarFile, name: str) -> tarfile.ExFileObject:
    found = archive.extractfile(name)
    assert isinstance(found, tarfile.ExFileObject)
    return found
