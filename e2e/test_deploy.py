"""The deploy as the pipeline does it: its script, its rights in its own namespace, and its ends before the time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e.cluster import CONTEXT, REPOSITORY
from e2e.eventually import eventually

NAMESPACE = "delivery"
NODE = "task-platform-worker"
ONE, TWO = "1" * 40, "2" * 40
BAD = "0" * 40  # an image that is nowhere

# One pod without a database, on the node that has the images.
VALUES = f"""
replicaCount: 1
autoscaling: {{enabled: false}}
ingress: {{enabled: false}}
database: {{inMemory: true}}
nodeSelector: {{kubernetes.io/hostname: {NODE}}}
"""


class Pipeline:
    """scripts/deploy.sh with the kubeconfig of `make kubeconfig-ci` and nothing else."""

    def __init__(self, folder: Path, kubeconfig: Path, repository: str) -> None:
        self.folder = folder
        values = folder / "values.yaml"
        values.write_text(VALUES)
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "KUBECONFIG": str(kubeconfig),
            "IMAGE_REPOSITORY": repository,
            "DEPLOY_VALUES": str(values),
            "DEPLOY_TIMEOUT": "60s",
            "SETTLE_AGE": "15s",
        }

    def start(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [REPOSITORY / "scripts/deploy.sh", *words],
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str, **environment: str) -> tuple[int, str]:
        with self.start(*words, **environment) as process:
            output, _ = process.communicate(timeout=400)
        return process.returncode, output

    def deploy(self, commit: str, **environment: str) -> None:
        status, output = self.run("deploy", IMAGE_TAG=commit, **environment)
        assert status == 0, output

    def releases(self) -> list[tuple[int, str]]:
        done = subprocess.run(
            ["helm", "history", "task-api", "--output", "json"],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return [(r["revision"], r["status"]) for r in json.loads(done.stdout)] if done.returncode == 0 else []

    def begin_upgrade_that_hangs(self) -> subprocess.Popen[str]:
        process = self.start("deploy", IMAGE_TAG=BAD)
        eventually(lambda: self.releases()[-1][1] == "pending-upgrade", "the upgrade is pending", seconds=30)
        return process


def kubectl(*arguments: str) -> str:
    command = ["kubectl", "--kubeconfig", str(REPOSITORY / ".kube/config"), "--context", CONTEXT, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def repository(image: str) -> Iterator[str]:
    """Where the cluster has the image under test as two commits: only what they say of themselves differs."""
    repository = image.partition(":")[0]
    names = [f"{repository}:{commit}" for commit in (ONE, TWO)]
    for commit, name in zip((ONE, TWO), names, strict=True):
        recipe = f"FROM {image}\nENV SERVICE_REVISION={commit}\n"
        build = ["docker", "build", "--quiet", "--tag", name, "-"]
        subprocess.run(build, input=recipe, capture_output=True, text=True, check=True)
    load = ["kind", "load", "docker-image", *names, "--name", "task-platform", "--nodes", NODE]
    subprocess.run(load, capture_output=True, check=True, timeout=300)
    yield repository
    subprocess.run(["docker", "image", "rm", *names], capture_output=True, check=True)


@pytest.fixture(scope="module")
def pipeline(repository: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    folder = tmp_path_factory.mktemp("pipeline")
    kubectl("create", "namespace", NAMESPACE)
    kubeconfig = REPOSITORY / f"kubeconfig-ci-{NAMESPACE}"
    try:
        # The context's name goes into the file, so that the script needs none.
        admin = folder / "admin"
        admin.write_text(kubectl("config", "view", "--minify", "--flatten", "--raw"))
        made = subprocess.run(
            [REPOSITORY / "scripts/kubeconfig-ci.sh", NAMESPACE],
            env={"PATH": os.environ["PATH"], "HOME": str(folder), "KUBECONFIG": str(admin), "TOKEN_DURATION": "1h"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert made.returncode == 0, made.stderr
        assert kubeconfig.stat().st_mode & 0o077 == 0
        yield Pipeline(folder, kubeconfig, repository)
    finally:
        kubeconfig.unlink(missing_ok=True)
        kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture
def deployed(pipeline: Pipeline) -> Pipeline:
    """With ONE deployed and serving, whatever the test before left."""
    pipeline.deploy(ONE)
    return pipeline


def test_its_rights_end_at_its_namespace(pipeline: Pipeline) -> None:
    def may(*question: str) -> str:
        ask = ["kubectl", "auth", "can-i", *question]
        return subprocess.run(ask, env=pipeline.environment, capture_output=True, text=True, check=False).stdout.strip()

    assert may("update", "deployments") == "yes"
    assert may("create", "rolebindings") == "no"
    assert may("create", "pods") == "no"
    assert may("get", "secrets", "--namespace", "default") == "no"


def test_a_bad_image_goes_back_by_itself_and_the_old_commit_serves(deployed: Pipeline) -> None:
    status, output = deployed.run("deploy", IMAGE_TAG=BAD, DEPLOY_TIMEOUT="15s")
    assert status == 1
    assert f"Helm could not deploy {BAD} within 15 s." in output
    assert "ImagePullBackOff" in output or "ErrImagePull" in output  # why, before it went back
    assert f"each says that it is {ONE}" in output
    assert [state for _, state in deployed.releases()[-2:]] == ["failed", "deployed"]
    assert deployed.run("smoke", ONE)[0] == 0


def test_a_deploy_that_is_cancelled_leaves_nothing_pending_and_the_next_one_works(deployed: Pipeline) -> None:
    process = deployed.begin_upgrade_that_hangs()
    process.send_signal(signal.SIGINT)  # to the script alone, as the runner does
    output, _ = process.communicate(timeout=7.5)  # then the runner would send the next, harder signal
    assert process.returncode == 130, output
    assert deployed.releases()[-1][1] == "failed"
    deployed.deploy(TWO)
    assert deployed.run("smoke", TWO)[0] == 0


@pytest.mark.full
def test_a_deploy_that_is_killed_is_recovered_by_the_next_one(deployed: Pipeline) -> None:
    process = deployed.begin_upgrade_that_hangs()
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=10)
    assert deployed.releases()[-1][1] == "pending-upgrade"
    status, output = deployed.run("deploy", IMAGE_TAG=TWO)
    assert status == 0, output
    assert "somebody may be at work" in output
    assert "was left pending-upgrade: back to revision" in output
    assert deployed.run("smoke", TWO)[0] == 0


@pytest.mark.full
def test_a_rollback_returns_to_the_version_asked_for(deployed: Pipeline) -> None:
    revision = str(deployed.releases()[-1][0])
    deployed.deploy(TWO)
    status, output = deployed.run("rollback", revision)
    assert status == 0, output
    assert deployed.run("smoke", ONE)[0] == 0
    status, output = deployed.run("deploy", IMAGE_TAG=TWO)
    assert (status, f"{TWO} is held" in output) == (2, True)
    assert deployed.run("unhold", TWO)[0] == 0
    deployed.deploy(TWO)


@pytest.mark.full
def test_a_rollback_that_is_killed_is_gone_on_with_and_not_undone(deployed: Pipeline) -> None:
    revision = str(deployed.releases()[-1][0])
    deployed.deploy(TWO)
    process = deployed.start("rollback", revision)
    eventually(lambda: deployed.releases()[-1][1] == "pending-rollback", "the rollback is pending", seconds=30)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=10)
    assert deployed.releases()[-1][1] == "pending-rollback"
    status, output = deployed.run("settle")
    assert status == 0, output
    assert f"was left pending-rollback: back to revision {revision}." in output
    assert deployed.run("smoke", ONE)[0] == 0
    assert deployed.run("unhold", TWO)[0] == 0


@pytest.mark.full
def test_a_first_install_that_is_killed_is_removed_and_installed_again(pipeline: Pipeline) -> None:
    subprocess.run(
        ["helm", "uninstall", "task-api", "--wait"], env=pipeline.environment, capture_output=True, check=False
    )
    process = pipeline.start("deploy", IMAGE_TAG=BAD)
    eventually(lambda: pipeline.releases() == [(1, "pending-install")], "the install is pending", seconds=30)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=10)
    status, output = pipeline.run("deploy", IMAGE_TAG=ONE)
    assert status == 0, output
    assert "with nothing to go back to: removed" in output
