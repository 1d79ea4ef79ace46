"""Signing as in the pipeline and the release workflow, with the real cosign: unsigned content does not verify.

On GitHub signing is keyless, with the workflow's identity, and recorded in Sigstore's public log. That needs Sigstore's
services; here a key signs, without a log. Everything else is as in the workflows: commands, format, a registry.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from e2e.cluster import REPOSITORY
from under_test import SERVICE

pytestmark = pytest.mark.full

COSIGN = REPOSITORY / ".tools/cosign"
CRANE = REPOSITORY / ".tools/crane"
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
KEYLESS = {"--certificate-identity", "--certificate-oidc-issuer"}
"""Options of `cosign verify` that identify a keyless signer."""


def cosign_commands() -> Iterator[tuple[str, list[str]]]:
    """Every call of cosign in the workflows and on the page, without shell redirections."""
    for file in [*sorted((REPOSITORY / ".github/workflows").glob("*.yml")), REPOSITORY / "docs/delivery.md"]:
        for line in file.read_text().replace("\\\n", " ").splitlines():
            if line.split()[:1] == ["cosign"]:
                yield file.name, shlex.split(line.split(">")[0])


COMMANDS = list(cosign_commands())


def options_of(workflow: str, verb: str) -> list[str]:
    """The options of its call of `cosign VERB`, without the image, which comes last, and the keyless identity."""
    (command,) = (words for file, words in COMMANDS if file == workflow and words[1] == verb)
    options, words = [], iter(command[2:-1])
    for word in words:
        if word in KEYLESS:
            next(words)  # its value
        else:
            options.append(word)
    return options


@dataclass(frozen=True)
class Signer:
    """A key pair, and cosign configured to use none of Sigstore's services."""

    folder: Path

    def cosign(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [COSIGN, *arguments],
            cwd=self.folder,
            env={**os.environ, "HOME": str(self.folder), "COSIGN_PASSWORD": "of a test"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def run_cosign(self, *arguments: str) -> None:
        done = self.cosign(*arguments)
        assert done.returncode == 0, done.stderr

    def sign(self, image: str, workflow: str = "ci-cd.yml") -> None:
        key_options = [
            "--key",
            "cosign.key",
            "--signing-config",
            "signing-config.json",
            "--trusted-root",
            "trusted-root.json",
        ]
        self.run_cosign("sign", *options_of(workflow, "sign"), *key_options, image)

    def verify(self, image: str, workflow: str = "ci-cd.yml") -> subprocess.CompletedProcess[str]:
        key_options = ["--key", "cosign.pub", "--insecure-ignore-tlog"]
        return self.cosign("verify", *options_of(workflow, "verify"), *key_options, image)


def make_signer(folder: Path) -> Signer:
    signer = Signer(folder)
    signer.run_cosign("generate-key-pair")
    signer.run_cosign("signing-config", "create", "--out", "signing-config.json")  # it lists no service
    signer.run_cosign("trusted-root", "create", "--out", "trusted-root.json")
    return signer


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    assert COSIGN.exists(), f"{COSIGN} was not built. With Go, https://go.dev/dl/: scripts/go-tools.sh cosign"
    return make_signer(tmp_path_factory.mktemp("signer"))


def run(*command: str, cwd: Path = REPOSITORY) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout


def push(repository: str, tag: str, folder: Path, content: str) -> str:
    """Pushes an image of one layer with one file; returns its digest."""
    folder.mkdir()
    (folder / "layer").write_text(content)
    run("tar", "-cf", "layer.tar", "layer", cwd=folder)
    run(
        str(CRANE),
        "append",
        "--oci-empty-base",
        "--new_layer",
        str(folder / "layer.tar"),
        "--new_tag",
        f"{repository}:{tag}",
    )
    return run(str(CRANE), "digest", f"{repository}:{tag}").strip()


@dataclass(frozen=True)
class Pushed:
    """Two images that differ in a layer; the first is signed."""

    repository: str
    signed: str
    changed: str


@pytest.fixture(scope="module")
def pushed(registry: str, signer: Signer, tmp_path_factory: pytest.TempPathFactory) -> Pushed:
    run("scripts/go-tools.sh", "crane")
    repository, folder = f"{registry}/signed", tmp_path_factory.mktemp("images")
    images = Pushed(
        repository,
        push(repository, "signed", folder / "signed", "what was scanned"),
        push(repository, "changed", folder / "changed", "what was not"),
    )
    signer.sign(f"{repository}@{images.signed}")
    return images


@pytest.mark.parametrize("words", [pytest.param(words, id=f"{file}-{words[1]}") for file, words in COMMANDS])
def test_cosign_has_every_option_used_here_and_deprecates_none(signer: Signer, words: list[str]) -> None:
    done = signer.cosign(*words[1:], "--help")
    assert (done.returncode, done.stderr) == (0, "")


def test_signed_image_verifies_by_digest_and_by_tag(signer: Signer, pushed: Pushed) -> None:
    for name in (f"{pushed.repository}@{pushed.signed}", f"{pushed.repository}:signed"):
        done = signer.verify(name)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)[0]["critical"]["image"]["docker-manifest-digest"] == pushed.signed


def test_image_with_attestations_is_signed_as_one(signer: Signer, pushed: Pushed) -> None:
    """The form that the pipeline pushes: an index, whose digest is deployed."""
    index = f"{pushed.repository}:index"
    run(str(CRANE), "index", "append", "--manifest", f"{pushed.repository}@{pushed.changed}", "--tag", index)
    digest = run(str(CRANE), "digest", index).strip()
    assert signer.verify(index).returncode != 0
    signer.sign(f"{pushed.repository}@{digest}")
    assert signer.verify(index).returncode == 0


def test_different_layer_is_rejected(signer: Signer, pushed: Pushed) -> None:
    done = signer.verify(f"{pushed.repository}@{pushed.changed}")
    assert done.returncode != 0
    assert "no signatures found" in done.stderr


def test_tag_moved_to_an_unsigned_image_is_rejected(signer: Signer, pushed: Pushed) -> None:
    moved = f"{pushed.repository}:moved"
    run(str(CRANE), "tag", f"{pushed.repository}@{pushed.signed}", "moved")
    assert signer.verify(moved).returncode == 0
    run(str(CRANE), "tag", f"{pushed.repository}@{pushed.changed}", "moved")
    done = signer.verify(moved)
    assert done.returncode != 0
    assert "no signatures found" in done.stderr


def test_different_key_is_rejected(pushed: Pushed, tmp_path: Path) -> None:
    done = make_signer(tmp_path).verify(f"{pushed.repository}@{pushed.signed}")
    assert done.returncode != 0
    assert "accepted signatures do not match" in done.stderr


# --- form of a signature in the registry ----------------------------------------------


def fallback(digest: str) -> str:
    """The fallback tag of the referrers index, for registries without the referrers API (OCI 1.1)."""
    return digest.replace(":", "-")


def referrers(repository: str, digest: str) -> list[dict[str, Any]]:
    host, name = repository.split("/", 1)
    response = httpx2.get(f"http://{host}/v2/{name}/referrers/{digest}")
    if response.status_code == 404:
        response = httpx2.get(f"http://{host}/v2/{name}/manifests/{fallback(digest)}", headers={"Accept": INDEX})
    assert response.status_code == 200, response.text
    manifests: list[dict[str, Any]] = response.json()["manifests"]
    return manifests


def signature_of(repository: str, digest: str) -> dict[str, Any]:
    """The manifest of the only signature."""
    (descriptor,) = referrers(repository, digest)
    host, name = repository.split("/", 1)
    address = f"http://{host}/v2/{name}/manifests/{descriptor['digest']}"
    manifest: dict[str, Any] = httpx2.get(address, headers={"Accept": MANIFEST}).json()
    return manifest


def test_signature_is_a_bundle_that_refers_to_the_digest(pushed: Pushed) -> None:
    """As in OCI 1.1, instead of the tag sha256-DIGEST.sig, which cosign wrote before version 3."""
    signature = signature_of(pushed.repository, pushed.signed)
    assert signature["subject"]["digest"] == pushed.signed
    assert [layer["mediaType"] for layer in signature["layers"]] == ["application/vnd.dev.sigstore.bundle.v0.3+json"]
    assert f"{fallback(pushed.signed)}.sig" not in run(str(CRANE), "ls", pushed.repository).splitlines()


def test_signature_of_another_digest_is_rejected(signer: Signer, pushed: Pushed) -> None:
    """Copied to the image by an attacker with write access to the registry."""
    host, name = pushed.repository.split("/", 1)
    run(str(CRANE), "copy", f"{pushed.repository}@{pushed.changed}", f"{pushed.repository}-forged:changed")
    run(str(CRANE), "copy", f"{pushed.repository}@{pushed.signed}", f"{pushed.repository}-forged:signed")
    signer.sign(f"{pushed.repository}-forged@{pushed.signed}")
    forged = signature_of(f"{pushed.repository}-forged", pushed.signed)
    forged["subject"]["digest"] = pushed.changed
    put(f"http://{host}/v2/{name}-forged/manifests", forged)

    done = signer.verify(f"{pushed.repository}-forged@{pushed.changed}")
    assert done.returncode != 0
    assert "digest does not match any digest in statement" in done.stderr


def put(manifests: str, manifest: dict[str, Any]) -> None:
    content = json.dumps(manifest).encode()
    descriptor = {
        "mediaType": MANIFEST,
        "digest": f"sha256:{hashlib.sha256(content).hexdigest()}",
        "size": len(content),
        "artifactType": manifest["artifactType"],
    }
    response = httpx2.put(f"{manifests}/{descriptor['digest']}", content=content, headers={"Content-Type": MANIFEST})
    assert response.status_code == 201, response.text
    if "OCI-Subject" not in response.headers:  # this registry leaves the index to its clients
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor]}
        tag = fallback(manifest["subject"]["digest"])
        response = httpx2.put(f"{manifests}/{tag}", content=json.dumps(index), headers={"Content-Type": INDEX})
        assert response.status_code == 201, response.text


# --- the chart ------------------------------------------------------------------------


def test_chart_is_signed_as_in_the_release_workflow(registry: str, signer: Signer) -> None:
    chart = (REPOSITORY / f"platform/helm/{SERVICE}/Chart.yaml").read_text()
    (version,) = re.findall(r"^version: (\S+)", chart, re.MULTILINE)
    output = run("scripts/publish-chart.sh", f"v{version}", f"{registry}/signed/charts")
    (digest,) = re.findall(rf"oci://\S+/{SERVICE}, version \S+, as (\S+)", output)
    published = f"{registry}/signed/charts/{SERVICE}"
    assert signer.verify(f"{published}@{digest}", "release.yml").returncode != 0
    signer.sign(f"{published}@{digest}", "release.yml")
    done = signer.verify(f"{published}:{version}", "release.yml")
    assert done.returncode == 0, done.stderr
