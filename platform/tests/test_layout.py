"""scripts/layout.py with a docker that keeps what it is given (the real one: e2e/test_push.py)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from manifests import REPOSITORY

ENV = ["SERVICE_REVISION=abc"]


def write_blob(layout: Path, name: str, content: Any) -> dict[str, str]:
    (layout / "blobs/sha256").mkdir(parents=True, exist_ok=True)
    (layout / "blobs/sha256" / name).write_text(json.dumps(content))
    return {"digest": f"sha256:{name}"}


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    folder = tmp_path / "layout"
    config = write_blob(folder, "config", {"rootfs": {"diff_ids": ["sha256:1"]}, "config": {"Env": ENV}})
    image = write_blob(folder, "image", {"config": config, "layers": [write_blob(folder, "layer", "")]})
    descriptor = image | {"mediaType": "application/vnd.oci.image.manifest.v1+json"}
    (folder / "index.json").write_text(json.dumps({"manifests": [descriptor]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return folder


def load(layout: Path, *, loaded: list[Any]) -> tuple[subprocess.CompletedProcess[str], Path]:
    """With a docker in which the image is then what `loaded` says: its layers and its environment."""
    docker, given = layout.parent / "bin/docker", layout.parent / "given.tar"
    docker.parent.mkdir()
    docker.write_text(
        f"#!/bin/sh\ncase $2 in load) cp \"$5\" '{given}' ;; inspect) echo '{json.dumps(loaded)}' ;; esac\n"
    )
    docker.chmod(0o755)
    done = subprocess.run(
        [sys.executable, REPOSITORY / "scripts/layout.py", "load", layout, "task-api:one"],
        env={"PATH": f"{docker.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done, given


def test_docker_gets_the_blobs_and_a_manifest_of_its_own_and_nothing_that_a_store_would_rather_go_by(
    layout: Path,
) -> None:
    done, given = load(layout, loaded=[["sha256:1"], ENV])
    assert done.returncode == 0, done.stderr
    with tarfile.open(given) as tar:
        assert {name.split("/")[0] for name in tar.getnames()} == {"blobs", "manifest.json"}
        manifest = tar.extractfile("manifest.json")
        assert manifest is not None
        (entry,) = json.load(manifest)
        assert entry["RepoTags"] == ["task-api:one"]
        assert {entry["Config"], *entry["Layers"]} <= set(tar.getnames())


@pytest.mark.parametrize("loaded", [[["sha256:2"], ENV], [["sha256:1"], ["SERVICE_REVISION=other"]]])
def test_another_image_than_that_of_the_layout_is_said(layout: Path, loaded: list[Any]) -> None:
    done, _ = load(layout, loaded=loaded)
    assert done.returncode == 1
    assert "Remove task-api:one, then retry." in done.stderr
