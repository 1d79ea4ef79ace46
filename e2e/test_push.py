"""The image as an OCI layout: what is pushed, kept and loaded again is what was laid out, byte by byte."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
from e2e.cluster import REPOSITORY
from under_test import SERVICE

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.fixture(scope="module")
def layout(image: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("layout") / "image"
    done = run("scripts/layout.py", "save", image, str(folder))
    assert done.returncode == 0, done.stderr
    return folder


def run(script: str, *arguments: str, cwd: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    python = [sys.executable] if script.endswith(".py") else []
    return subprocess.run(
        [*python, REPOSITORY / script, *arguments], cwd=cwd, capture_output=True, text=True, timeout=300, check=False
    )


def descriptor(layout: Path) -> Any:
    (found,) = json.loads((layout / "index.json").read_text())["manifests"]
    return found


def in_registry(registry: str, tag: str, media_type: str = MANIFEST) -> httpx2.Response:
    return httpx2.get(f"http://{registry}/v2/{SERVICE}/manifests/{tag}", headers={"Accept": media_type})


def test_every_tag_leads_to_the_bytes_of_the_layout(registry: str, layout: Path, image: str) -> None:
    done = run("scripts/push.sh", str(layout), f"{registry}/{SERVICE}", "0123abc", "again")
    assert done.returncode == 0, done.stderr
    digest = descriptor(layout)["digest"]
    assert f"as {digest}" in done.stdout
    laid_out = (layout / "blobs" / digest.replace(":", "/")).read_bytes()
    for tag in ("0123abc", "again"):
        answer = in_registry(registry, tag)
        assert answer.headers["docker-content-digest"] == digest
        assert answer.content == laid_out
    # An image's id is the digest of its configuration, which names every layer.
    built = subprocess.run(["docker", "image", "inspect", image], capture_output=True, text=True, check=True)
    assert json.loads(laid_out)["config"]["digest"] == json.loads(built.stdout)[0]["Id"]


def test_attestations_are_pushed_with_the_image_and_the_digest_is_of_both(
    registry: str, layout: Path, tmp_path: Path
) -> None:
    """The form that the pipeline's Buildx writes: an index of the image and of what is said about it."""
    attested = tmp_path / "attested"
    shutil.copytree(layout, attested, copy_function=lambda source, copy: Path(copy).hardlink_to(source))
    image = {key: descriptor(layout)[key] for key in ("mediaType", "digest", "size")}
    statement = write_blob(attested, b'{"_type": "https://in-toto.io/Statement/v1"}')
    config = write_blob(attested, b"{}")
    about = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config | {"mediaType": "application/vnd.oci.image.config.v1+json"},
        "layers": [statement | {"mediaType": "application/vnd.in-toto+json"}],
    }
    unknown = {"platform": {"os": "unknown", "architecture": "unknown"}}
    attestation = write_blob(attested, json.dumps(about).encode()) | {"mediaType": MANIFEST} | unknown
    platform = {"platform": {"os": "linux", "architecture": "amd64"}}
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [image | platform, attestation]}
    both = write_blob(attested, json.dumps(index).encode()) | {"mediaType": INDEX}
    # The old file is a second name of the other layout's: a new one takes its place.
    (attested / "index.json").unlink()
    (attested / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [both]}))

    done = run("scripts/push.sh", str(attested), f"{registry}/{SERVICE}", "attested")
    assert done.returncode == 0, done.stderr
    answer = in_registry(registry, "attested", INDEX)
    assert answer.headers["docker-content-digest"] == both["digest"]
    assert answer.json() == index
    assert in_registry(registry, str(attestation["digest"])).status_code == 200

    loaded = run("scripts/layout.py", "load", str(attested), f"{SERVICE}:loaded-by-a-test")
    try:
        assert loaded.returncode == 0, loaded.stderr
    finally:
        subprocess.run(["docker", "image", "rm", f"{SERVICE}:loaded-by-a-test"], capture_output=True, check=True)


def write_blob(layout: Path, content: bytes) -> dict[str, Any]:
    done = subprocess.run(["sha256sum"], input=content, capture_output=True, check=True)
    name = done.stdout.decode().split()[0]
    (layout / "blobs/sha256" / name).write_bytes(content)
    return {"digest": f"sha256:{name}", "size": len(content)}


def test_bytes_that_changed_after_they_were_laid_out_are_not_pushed(
    registry: str, layout: Path, tmp_path: Path
) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(layout, changed)
    manifest = json.loads((changed / "blobs" / descriptor(changed)["digest"].replace(":", "/")).read_text())
    smallest = min(manifest["layers"], key=lambda layer: int(layer["size"]))
    blob = changed / "blobs" / smallest["digest"].replace(":", "/")
    content = bytearray(blob.read_bytes())
    content[0] ^= 1
    blob.write_bytes(content)
    # Into a repository of its own: what a registry has by its digest is not sent again.
    done = run("scripts/push.sh", str(changed), f"{registry}/changed", "0123abc")
    assert done.returncode != 0
    assert httpx2.get(f"http://{registry}/v2/changed/manifests/0123abc").status_code == 404


def test_a_layout_with_no_image_or_two_is_refused_in_a_sentence(registry: str, tmp_path: Path) -> None:
    done = run("scripts/push.sh", str(tmp_path), f"{registry}/{SERVICE}", "none")
    assert done.returncode == 1
    assert "this is not an OCI layout. Create one: make layout" in done.stderr
    (tmp_path / "index.json").write_text(json.dumps({"manifests": [{}, {}]}))
    done = run("scripts/push.sh", str(tmp_path), f"{registry}/{SERVICE}", "two")
    assert done.returncode == 1
    assert "contains 2 images" in done.stderr


def test_a_call_without_tags_says_how_it_is_called(layout: Path) -> None:
    done = run("scripts/push.sh", str(layout), f"somewhere/{SERVICE}")
    assert done.returncode == 2
    assert "Usage" in done.stderr


# --- latest ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_commits(registry: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A repository with two commits, and in the registry an image of each, which says so in its label."""
    folder = tmp_path_factory.mktemp("two")
    git = ["git", "-c", "user.name=T", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"]
    subprocess.run([*git, "init", "--quiet"], cwd=folder, check=True)
    commits = []
    for message in ("older", "newer"):
        commit = ["commit", "--quiet", "--allow-empty", "--message", message]
        subprocess.run([*git, *commit], cwd=folder, check=True)
        done = subprocess.run([*git, "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True)
        commits.append(done.stdout.strip())
        image = f"{SERVICE}:{commits[-1]}"
        recipe = f"FROM scratch\nLABEL org.opencontainers.image.revision={commits[-1]}\nCOPY . /\n"
        build = ["docker", "build", "--quiet", "--tag", image, "--file", "-", str(folder)]
        subprocess.run(build, input=recipe, text=True, capture_output=True, check=True)
        layout = folder / f"layout-{message}"
        assert run("scripts/layout.py", "save", image, str(layout)).returncode == 0
        assert run("scripts/push.sh", str(layout), f"{registry}/moving", commits[-1]).returncode == 0
        subprocess.run(["docker", "image", "rm", image], capture_output=True, check=True)
    return folder, commits[0], commits[1]


def test_latest_moves_to_a_newer_commit_and_never_back(registry: str, two_commits: tuple[Path, str, str]) -> None:
    repository, older, newer = two_commits

    def move(commit: str) -> str:
        done = move_latest(repository, f"{registry}/moving", commit, digest_of(registry, commit))
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert f"latest is now {older}" in move(older)
    first = digest_of(registry, "latest")
    assert f"latest is now {newer}" in move(newer)
    second = digest_of(registry, "latest")
    assert f"latest stays at {newer}" in move(older)
    assert first != second == digest_of(registry, "latest")


def test_latest_is_not_moved_to_what_was_not_pushed(registry: str, two_commits: tuple[Path, str, str]) -> None:
    repository, *_ = two_commits
    done = move_latest(repository, f"{registry}/moving", "0" * 40, f"sha256:{'0' * 64}")
    assert done.returncode == 1
    assert "crane tag failed" in done.stderr


def test_latest_is_what_was_scanned_wherever_the_commits_tag_leads(
    registry: str, two_commits: tuple[Path, str, str]
) -> None:
    repository, older, newer = two_commits
    scanned = digest_of(registry, newer)

    def lead_to(digest: str) -> None:
        crane = str(REPOSITORY / ".tools/crane")
        subprocess.run([crane, "tag", f"{registry}/moving@{digest}", newer], capture_output=True, check=True)

    lead_to(digest_of(registry, older))
    try:
        assert move_latest(repository, f"{registry}/moving", newer, scanned).returncode == 0
        assert digest_of(registry, "latest") == scanned
    finally:
        lead_to(scanned)


def digest_of(registry: str, tag: str) -> str:
    answer = httpx2.get(f"http://{registry}/v2/moving/manifests/{tag}", headers={"Accept": MANIFEST})
    return str(answer.headers["docker-content-digest"])


def move_latest(git: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """With the commits of another repository."""
    return subprocess.run(
        [sys.executable, "-m", "scripts.latest", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "GIT_DIR": str(git / ".git")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


# --- what is published ----------------------------------------------------------------


def fetch_latest(repository: str, folder: Path) -> tuple[int, str, str]:
    """Its exit code, its output for later steps, and all that it says."""
    output = folder / "output"
    done = subprocess.run(
        [REPOSITORY / "scripts/fetch-latest.sh", repository, folder / "image"],
        env={**os.environ, "GITHUB_OUTPUT": str(output)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, output.read_text() if output.exists() else "", done.stdout + done.stderr


def test_latest_is_fetched_as_a_layout(registry: str, layout: Path, tmp_path: Path) -> None:
    assert run("scripts/push.sh", str(layout), f"{registry}/published", "latest").returncode == 0
    assert fetch_latest(f"{registry}/published", tmp_path)[:2] == (0, "published=true\n")
    assert descriptor(tmp_path / "image")["digest"] == descriptor(layout)["digest"]


@pytest.mark.parametrize("repository", ["without-latest", "never-pushed-to"])
def test_where_nothing_is_published_yet_that_is_said(
    registry: str, layout: Path, tmp_path: Path, repository: str
) -> None:
    assert run("scripts/push.sh", str(layout), f"{registry}/without-latest", "0123abc").returncode == 0
    code, output, said = fetch_latest(f"{registry}/{repository}", tmp_path)
    assert (code, output) == (0, "published=false\n")
    assert f"Nothing is published yet: {registry}/{repository} has no `latest`." in said
    assert not (tmp_path / "image").exists()


class Refusal(BaseHTTPRequestHandler):
    timeout = 1  # whoever begins with TLS waits for an answer that does not come
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """The protocol's answer to whoever may not see."""
        answer = b'{"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]}'
        self.send_response(401)
        self.send_header("WWW-Authenticate", "Basic")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.mark.parametrize("listening", [True, False], ids=["refused", "unreachable"])
def test_a_registry_that_does_not_say_is_not_taken_for_an_empty_one(tmp_path: Path, listening: bool) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusal) as server:
        address = f"127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        if listening:
            code, output, said = fetch_latest(f"{address}/{SERVICE}", tmp_path)
        server.shutdown()
    if not listening:
        code, output, said = fetch_latest(f"{address}/{SERVICE}", tmp_path)
    assert (code, output) == (1, "")
    assert f"{address}/{SERVICE}:latest cannot be read. Is the registry reachable, and are you logged in" in said


# --- the chart ------------------------------------------------------------------------


def test_the_chart_is_published_as_an_oci_artifact_that_helm_installs_from(registry: str, tmp_path: Path) -> None:
    chart = (REPOSITORY / f"platform/helm/{SERVICE}/Chart.yaml").read_text()
    (version,) = re.findall(r"^version: (\S+)", chart, re.MULTILINE)
    done = run("scripts/publish-chart.sh", f"v{version}", f"{registry}/You/charts")
    assert done.returncode == 0, done.stderr
    answer = httpx2.get(f"http://{registry}/v2/you/charts/{SERVICE}/manifests/{version}", headers={"Accept": MANIFEST})
    assert answer.headers["docker-content-digest"] in done.stdout
    pull = ["helm", "pull", f"oci://{registry}/you/charts/{SERVICE}", "--version", version, "--plain-http"]
    subprocess.run([*pull, "--untar"], cwd=tmp_path, capture_output=True, check=True)
    assert (tmp_path / f"{SERVICE}/templates/deployment.yaml").is_file()


def test_a_tag_that_is_not_the_charts_version_publishes_nothing(registry: str) -> None:
    done = run("scripts/publish-chart.sh", "v99.0.0", f"{registry}/charts")
    assert done.returncode == 1
    assert "The tag is v99.0.0, but no chart has that version:" in done.stderr
    assert httpx2.get(f"http://{registry}/v2/charts/{SERVICE}/manifests/99.0.0").status_code == 404
