"""The deploy as the pipeline does it: its script, its rights in its own namespace, its ends before the time, and
several deployers at once."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e.cluster import REPOSITORY, create_namespace, kubectl
from e2e.eventually import eventually
from e2e.namespace import HELMS, path_with_helm
from under_test import HAS_DATABASE, PREFIX, SERVICE

NAMESPACE = "delivery"
NODE = "task-platform-worker"
ONE, TWO = "1" * 40, "2" * 40
BAD = "0" * 40  # an image that is nowhere
OTHERS = [f"{number:040x}" for number in range(100, 110)]  # one for each deploy of the trial
HELM_3, HELM_4 = "HELM_VERSION", "HELM_4_VERSION"

# One pod without a database, on the node that has the images; nobody's requests have to outlive the one before it.
VALUES = f"""
replicaCount: 1
minReadySeconds: 0
shutdown: {{preStopSeconds: 1, drainSeconds: 0}}
autoscaling: {{enabled: false}}
ingress: {{enabled: false}}
{"database: {inMemory: true}" if HAS_DATABASE else ""}
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
            "LEASE_DURATION": "20s",
        }

    def use_helm(self, name: str) -> None:
        """The one of that name in HELMS, for this and all that it starts."""
        self.environment["PATH"] = path_with_helm(name, self.folder)

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

    def tool(self, *command: str) -> str:
        """What helm or kubectl says, with the deployer's rights; nothing where it fails."""
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False).stdout

    def history(self) -> list[dict[str, Any]]:
        """Helm's revisions, oldest first; none where there is no release."""
        return json.loads(self.tool("helm", "history", SERVICE, "--output", "json") or "[]") or []

    def releases(self) -> list[tuple[int, str]]:
        return [(revision["revision"], revision["status"]) for revision in self.history()]

    def tag(self, revision: int) -> str:
        values = self.tool("helm", "get", "values", SERVICE, "--revision", str(revision), "--output", "json")
        return str(json.loads(values)["image"]["tag"])

    def begin_upgrade_that_hangs(self) -> subprocess.Popen[str]:
        process = self.start("deploy", IMAGE_TAG=BAD)
        eventually(lambda: self.releases()[-1][1] == "pending-upgrade", "the upgrade is pending", seconds=30)
        return process


def make_commits(image: str, commits: list[str]) -> list[str]:
    """Gives the cluster the image under test as these commits: only what they say of themselves differs."""
    repository = image.rpartition(":")[0]
    names = [f"{repository}:{commit}" for commit in commits]
    for commit, name in zip(commits, names, strict=True):
        recipe = f"FROM {image}\nENV SERVICE_REVISION={commit}\n"
        build = ["docker", "build", "--quiet", "--tag", name, "-"]
        subprocess.run(build, input=recipe, capture_output=True, text=True, check=True)
    load = ["kind", "load", "docker-image", *names, "--name", "task-platform", "--nodes", NODE]
    subprocess.run(load, capture_output=True, check=True, timeout=300)
    return names


@pytest.fixture(scope="module")
def repository(image: str) -> Iterator[str]:
    """Where the cluster has the image under test as a few commits."""
    names = make_commits(image, [ONE, TWO, *OTHERS[:2]])
    yield image.rpartition(":")[0]
    subprocess.run(["docker", "image", "rm", *names], capture_output=True, check=True)


@pytest.fixture(scope="module")
def other_commits(image: str) -> Iterator[list[str]]:
    """More commits that the cluster has: one for each deploy of the trial."""
    names = make_commits(image, OTHERS[2:])
    yield OTHERS
    subprocess.run(["docker", "image", "rm", *names], capture_output=True, check=True)


@pytest.fixture(scope="module")
def pipeline(repository: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    folder = tmp_path_factory.mktemp("pipeline")
    create_namespace(NAMESPACE)
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
    assert f"Helm failed to deploy {BAD} within 15 s." in output
    assert "ImagePullBackOff" in output or "ErrImagePull" in output  # why, before it went back
    assert f"all at commit {ONE}" in output
    assert [state for _, state in deployed.releases()[-2:]] == ["failed", "deployed"]
    assert deployed.run("smoke", ONE)[0] == 0


def test_a_deploy_that_is_cancelled_leaves_nothing_pending_and_the_next_one_works(deployed: Pipeline) -> None:
    process = deployed.begin_upgrade_that_hangs()
    process.send_signal(signal.SIGINT)  # to the script alone, as the runner does
    output, _ = process.communicate(timeout=7.5)  # then the runner would send the next, harder signal
    assert process.returncode == 130, output
    assert deployed.releases()[-1][1] == "failed"
    # Nobody deploys after it: the pods of the new commit do not stay there unasked.
    status, output = deployed.run("settle")
    assert status == 0, output
    assert f"({BAD}) is unverified (status: failed). Rolled back to revision" in output
    assert deployed.run("smoke", ONE)[0] == 0
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
    assert "has expired: taking over" in output
    assert "is stuck in pending-upgrade: rolling back to revision" in output
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
    assert f"is unverified (status: pending-rollback). Rolled back to revision {revision}:" in output
    assert deployed.run("smoke", ONE)[0] == 0
    assert deployed.run("unhold", TWO)[0] == 0


@pytest.mark.full
def test_a_first_install_that_is_killed_is_removed_and_installed_again(pipeline: Pipeline) -> None:
    subprocess.run(["helm", "uninstall", SERVICE, "--wait"], env=pipeline.environment, capture_output=True, check=False)
    process = pipeline.start("deploy", IMAGE_TAG=BAD)
    eventually(lambda: pipeline.releases() == [(1, "pending-install")], "the install is pending", seconds=30)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=10)
    status, output = pipeline.run("deploy", IMAGE_TAG=ONE)
    assert status == 0, output
    assert "uninstalling, no revision to roll back to" in output


@pytest.mark.full
def test_an_api_server_that_accepts_and_never_answers_ends_the_deploy_with_a_sentence(pipeline: Pipeline) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.listen(100)
        kubeconfig = pipeline.folder / "silent"
        text = Path(pipeline.environment["KUBECONFIG"]).read_text()
        server = f"server: https://127.0.0.1:{silent.getsockname()[1]}"
        kubeconfig.write_text(re.sub(r"server: .*", server, text))
        status, output = pipeline.run("deploy", IMAGE_TAG=ONE, KUBECONFIG=str(kubeconfig))
    assert status == 1, output
    assert "kubectl get lease: still running after 10 s" in output
    # kubectl gives up by itself, or is given up.
    assert re.search("could not be read or written: .*|timed out after 60 s", output)
    assert re.search("Is the cluster of the kubeconfig reachable|Does the API server respond", output)


@pytest.mark.full
@pytest.mark.parametrize("helm", HELMS)
def test_a_field_that_was_changed_by_hand_stops_neither_a_deploy_nor_a_rollback(
    pipeline: Pipeline, request: pytest.FixtureRequest, helm: str
) -> None:
    pipeline.use_helm(helm)
    request.addfinalizer(lambda: pipeline.use_helm(HELM_3))
    pipeline.deploy(ONE)
    revision = str(pipeline.releases()[-1][0])
    by_hand = ("--namespace", NAMESPACE, f"deployment/{SERVICE}")
    for verb in (("deploy", TWO), ("rollback", revision)):
        kubectl("set", "env", *by_hand, "--containers", "api", f"{PREFIX}LOG_LEVEL=debug")
        kubectl("set", "image", *by_hand, f"api={pipeline.environment['IMAGE_REPOSITORY']}:{OTHERS[0]}")
        status, output = (
            pipeline.run("deploy", IMAGE_TAG=verb[1]) if verb[0] == "deploy" else pipeline.run("rollback", verb[1])
        )
        assert status == 0, output
        field = '.spec.template.spec.containers[name="api"].image'
        assert f"reverted: Deployment {SERVICE} {field} (kubectl-set)" in output
    assert pipeline.run("smoke", ONE)[0] == 0
    assert pipeline.run("unhold", TWO)[0] == 0


@pytest.mark.full
@pytest.mark.parametrize("installed_by", HELMS)
def test_what_one_helm_deployed_the_others_upgrade_and_roll_back(
    pipeline: Pipeline, request: pytest.FixtureRequest, installed_by: str
) -> None:
    request.addfinalizer(lambda: pipeline.use_helm(HELM_3))
    pipeline.use_helm(installed_by)
    subprocess.run(["helm", "uninstall", SERVICE, "--wait"], env=pipeline.environment, capture_output=True, check=False)
    pipeline.deploy(ONE)
    for helm in HELMS:
        pipeline.use_helm(helm)
        kubectl("set", "image", "--namespace", NAMESPACE, f"deployment/{SERVICE}", "api=changed-by-hand")
        pipeline.deploy(TWO)
        status, output = pipeline.run("rollback", str(pipeline.releases()[-2][0]))
        assert status == 0, output
        assert pipeline.run("smoke", ONE)[0] == 0
        assert pipeline.run("unhold", TWO)[0] == 0


# --- several at once ------------------------------------------------------------------


class Deployer:
    """One that begins at its moment, and may be killed at another."""

    def __init__(self, pipeline: Pipeline, verb: str, commit: str, begins: float, killed_after: float | None) -> None:
        self.verb, self.commit, self.begins, self.killed_after = verb, commit, begins, killed_after
        self._pipeline = pipeline
        self._output = pipeline.folder / f"output-{verb}-{commit or 'previous'}-{begins:.3f}"
        self._process: subprocess.Popen[bytes] | None = None
        self.killed = False
        self.status: int | None = None
        self.ended = 0.0

    def look(self, now: float) -> None:
        """Starts, kills and ends it when its time has come."""
        if self._process is None:
            if now >= self.begins:
                words = [str(REPOSITORY / "scripts/deploy.sh"), self.verb]
                environment = self._pipeline.environment | {"IMAGE_TAG": self.commit}
                if self.commit == BAD:
                    environment["DEPLOY_TIMEOUT"] = "15s"
                with self._output.open("w") as file:
                    self._process = subprocess.Popen(
                        words, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
                    )
        elif self.status is None:
            if self.killed_after is not None and now >= self.begins + self.killed_after and not self.killed:
                os.killpg(self._process.pid, signal.SIGKILL)
                self.killed = True
            self.status = self._process.poll()
            self.ended = now

    @property
    def said(self) -> str:
        return self._output.read_text()

    @property
    def serves(self) -> str | None:
        """The commit that it said serves now; None where it said so of none."""
        last = re.findall(r"^Deployed \S+:(\w+)|^Rolled back to revision \d+: (\w+) serves", self.said, re.MULTILINE)
        return next(filter(None, last[-1])) if last else None

    def __str__(self) -> str:
        killed = f", killed after {self.killed_after:.1f} s" if self.killed else ""
        return f"{self.begins:5.1f} s: {self.verb} {self.commit[-3:]}{killed}: exit code {self.status}\n{self.said}"


def run_at_random(pipeline: Pipeline, deployers: list[Deployer], seconds: float) -> None:
    """All of them, each at its moment. Returns when the last one has ended."""
    begun = time.monotonic()
    reported: set[Deployer] = set()
    while any(deployer.status is None for deployer in deployers):
        assert time.monotonic() - begun < seconds, "\n".join(map(str, deployers))
        for deployer in deployers:
            deployer.look(time.monotonic() - begun)
            if deployer.status == 0 and deployer not in reported:
                reported.add(deployer)
                assert_true(pipeline, deployer)
        time.sleep(0.1)


def assert_true(pipeline: Pipeline, deployer: Deployer) -> None:
    """Whoever reported a success had one: Helm has a revision of that commit whose pods were ready."""
    if deployer.serves:
        succeeded = [
            pipeline.tag(revision["revision"])
            for revision in pipeline.history()
            if revision["status"] in ("deployed", "superseded") and "failed" not in revision["description"]
        ]
        assert deployer.serves in succeeded, f"{succeeded}\n{deployer}"


def trial(pipeline: Pipeline, deployers: list[Deployer], seconds: float, seed: int = 0) -> None:
    """Runs them; afterwards the release serves what the last one that succeeded said, and nothing is wedged."""
    run_at_random(pipeline, deployers, seconds)
    story = "\n".join([f"seed {seed}", *map(str, sorted(deployers, key=lambda deployer: deployer.ended))])
    for deployer in deployers:
        if not deployer.killed:
            # 0 done, 1 failed and gone back, 2 refused: nothing else, and no traceback.
            assert deployer.status in (0, 1, 2), story
            assert "Traceback" not in deployer.said, story
            assert "failed, see above. Next: make history" not in deployer.said, story
        if deployer.verb == "deploy" and deployer.status == 0:
            assert deployer.serves == deployer.commit, story
        if deployer.status == 2:
            assert not deployer.serves, story
    # A killed one may have been the last, with its lock and its revision left behind.
    status, output = pipeline.run("settle")
    assert status == 0, f"{output}\n{story}"
    revisions = pipeline.releases()
    assert revisions[-1][1] == "deployed", f"{revisions}\n{story}"
    assert [state for _, state in revisions].count("deployed") == 1, f"{revisions}\n{story}"
    serves = pipeline.tag(revisions[-1][0])
    said = [d for d in sorted(deployers, key=lambda d: d.ended) if d.serves]
    allowed = {said[-1].serves} | {d.commit for d in deployers if d.killed and d.ended > said[-1].ended}
    assert serves in allowed, f"{serves} serves, and not {allowed}: {revisions}\n{story}"
    status, output = pipeline.run("smoke", serves)
    assert status == 0, f"{output}\n{story}"
    # Nothing is wedged: the next one goes through at once.
    for held in re.findall(r"^held  (\w+)", pipeline.run("history")[1], re.MULTILINE):
        assert pipeline.run("unhold", held)[0] == 0
    pipeline.deploy(TWO)


def test_of_two_deploys_within_a_second_and_a_rollback_each_does_what_it_says(deployed: Pipeline) -> None:
    deployed.deploy(TWO)
    moments = [("deploy", OTHERS[0], 0.0), ("deploy", OTHERS[1], 0.6), ("rollback", "", 1.5)]
    trial(deployed, [Deployer(deployed, *moment, None) for moment in moments], seconds=180)


@pytest.mark.full
@pytest.mark.parametrize("helm", [HELM_3, HELM_4])
def test_ten_deploys_and_three_rollbacks_at_random_moments_some_of_them_killed(
    pipeline: Pipeline, other_commits: list[str], request: pytest.FixtureRequest, helm: str
) -> None:
    pipeline.use_helm(helm)
    request.addfinalizer(lambda: pipeline.use_helm(HELM_3))
    pipeline.deploy(ONE)
    seed = random.randrange(1_000_000)
    chance = random.Random(seed)
    verbs = [("deploy", commit) for commit in other_commits[:9]] + [("deploy", BAD)] + [("rollback", "")] * 3
    killed = set(chance.sample(range(len(verbs)), 4))
    deployers = [
        Deployer(pipeline, *verb, chance.uniform(0, 60), chance.uniform(1, 12) if number in killed else None)
        for number, verb in enumerate(verbs)
    ]
    trial(pipeline, deployers, seconds=900, seed=seed)
