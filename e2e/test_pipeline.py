"""Runs the workflows: which jobs and steps run, in which order, and the resulting state of registry and cluster.

Their YAML is tested by platform/tests/test_workflows.py. e2e/workflow_run.py says what is real in a run.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from e2e.cluster import REPOSITORY, create_namespace, kubectl
from e2e.eventually import eventually
from e2e.workflow_run import SOURCE, WORKFLOW_SECRETS, Origin, Run, Runner, Settings
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import HttpWaitStrategy
from under_test import HAS_DATABASE, PACKAGE, SERVICE

pytestmark = pytest.mark.full

NODE = "task-platform-worker"
SECRETS = {"DOCKERHUB_USERNAME": "somebody", "DOCKERHUB_TOKEN": "the-token-of-the-registry"}
# One pod without a database, on the node that can pull.
VALUES = f"""replicaCount: 1
autoscaling: {{enabled: false}}
ingress: {{enabled: false}}
{"database: {inMemory: true}" if HAS_DATABASE else ""}
nodeSelector: {{kubernetes.io/hostname: {NODE}}}
"""
CODE = f"services/{SERVICE}/src/{PACKAGE}/__init__.py"
DOES_NOT_START = '\nimport sys\n\nif "serve" in sys.argv:\n    raise SystemExit("This commit does not start.")\n'
SHORT_TIMEOUT = {"DEPLOY_TIMEOUT": "15s"}
"""The environment in which the workflow waits two minutes for pods to become ready."""
BEFORE_STAGES = {"test", "lint", "build-scan-push", "sign", "e2e", "gate", "tip", "latest"}


class Environment:
    """A namespace as seen by the pipeline and its users."""

    def __init__(self, namespace: str, folder: Path) -> None:
        self.namespace = namespace
        create_namespace(namespace)
        admin = folder / "admin"
        # The context's name is in the file, so the script needs none.
        admin.write_text(kubectl("config", "view", "--minify", "--flatten", "--raw"))
        kubeconfig = REPOSITORY / f"kubeconfig-ci-{namespace}"
        try:
            subprocess.run(
                [REPOSITORY / "scripts/kubeconfig-ci.sh", namespace],
                env={"PATH": os.environ["PATH"], "HOME": str(folder), "KUBECONFIG": str(admin), "TOKEN_DURATION": "1h"},
                capture_output=True,
                check=True,
            )
            self.secrets = {"KUBE_CONFIG": base64.b64encode(kubeconfig.read_bytes()).decode()}
        finally:
            kubeconfig.unlink(missing_ok=True)

    def kubectl(self, *arguments: str) -> str:
        return kubectl("--namespace", self.namespace, *arguments)

    def images(self) -> str:
        return self.kubectl(
            "get", "deployments", "--output", "jsonpath={.items[*].spec.template.spec.containers[*].image}"
        )

    def revisions(self) -> list[str]:
        """The release's revisions, each with its outcome."""
        labels = "{.metadata.labels.version} {.metadata.labels.status}"
        template = f'jsonpath={{range .items[*]}}{labels}{{"\\n"}}{{end}}'
        lines = self.kubectl("get", "secrets", "--selector", "owner=helm", "--output", template)
        return sorted(lines.splitlines(), key=lambda line: int(line.split()[0]))

    def held(self) -> dict[str, str]:
        data = self.kubectl("get", "configmap", f"{SERVICE}-held", "--ignore-not-found", "--output", "jsonpath={.data}")
        held: dict[str, str] = json.loads(data) if data else {}
        return held

    def serves(self, commit: str) -> bool:
        """Whether every pod reports the commit, except for terminating pods."""
        pods = json.loads(self.kubectl("get", "pods", "--selector", f"app={SERVICE}", "--output", "json"))["items"]
        running = [pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"]]
        script = "import urllib.request as web; print(web.urlopen('http://127.0.0.1:8000/health').read().decode())"
        revisions = [json.loads(self.kubectl("exec", pod, "--", "python", "-c", script))["revision"] for pod in running]
        return set(revisions) == {commit}


class Registry:
    def __init__(self, host: str) -> None:
        self.host = host

    def digest(self, name: str, reference: str) -> str | None:
        """The digest of a tag; None if there is no such tag."""
        manifest = "application/vnd.oci.image.manifest.v1+json"
        response = httpx2.head(f"http://{self.host}/v2/{name}/manifests/{reference}", headers={"Accept": manifest})
        return response.headers["docker-content-digest"] if response.status_code == 200 else None


def docker(*arguments: str, stdin: str = "") -> str:
    return subprocess.run(["docker", *arguments], input=stdin, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    """A registry for these tests, from which one node of the cluster pulls as from any other."""
    container = DockerContainer("registry:3").with_exposed_ports(5000).with_kwargs(network="kind")
    with container.waiting_for(HttpWaitStrategy(5000, "/v2/")):
        name = container.get_wrapped_container().name
        host = f"127.0.0.1:{container.get_exposed_port(5000)}"
        folder = f"/etc/containerd/certs.d/{host}"  # as platform/cluster/registry.sh
        docker("exec", NODE, "mkdir", "-p", folder)
        hosts = f'[host."http://{name}:5000"]\n'
        docker("exec", "--interactive", NODE, "cp", "/dev/stdin", f"{folder}/hosts.toml", stdin=hosts)
        yield Registry(host)
        docker("exec", NODE, "rm", "-r", folder)


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    environment = Environment("e2e-pipeline", tmp_path_factory.mktemp("production"))
    yield environment
    kubectl("delete", "namespace", environment.namespace, "--wait=false")


@pytest.fixture(scope="module")
def staging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    environment = Environment("e2e-pipeline-staging", tmp_path_factory.mktemp("staging"))
    yield environment
    kubectl("delete", "namespace", environment.namespace, "--wait=false")


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    """With different content, so that its image name differs from the one that the cluster runs."""
    for tool in ("act", "crane", "helm"):
        subprocess.run([REPOSITORY / "scripts/go-tools.sh", tool], check=True)
    with tempfile.TemporaryDirectory() as folder:  # pytest's would keep three: each run holds an image several times
        origin = Origin(Path(folder))
        changed = {CODE: origin.read(CODE) + "\n# Run by its workflows.\n"}
        values = {f"deploy/{name}.yaml": f"{VALUES}podLabels: {{in: {name}}}\n" for name in ("staging", "production")}
        origin.commit("The repository", changed | values)
        yield origin
    images = docker("image", "ls", "--quiet", "--filter", f"label=org.opencontainers.image.source={SOURCE}").split()
    if images:
        docker("image", "rm", "--force", *set(images))


@pytest.fixture(scope="module")
def runner(origin: Origin, registry: Registry, production: Environment, staging: Environment) -> Runner:
    return Runner(
        origin,
        origin.bare.parent / "runs",
        registry=registry.host,
        repository=Settings(SECRETS, {"IMAGE_REPOSITORY": f"{registry.host}/{{0}}"}),
        environments={
            "production": Settings(production.secrets, {"DEPLOY_VALUES": "deploy/production.yaml"}),
            "staging": Settings(staging.secrets, {"DEPLOY_VALUES": "deploy/staging.yaml", "SOAK_TIME": "1s"}),
        },
    )


@pytest.fixture(scope="module")
def pushed(runner: Runner) -> Run:
    """The run of a push to main in which everything succeeds."""
    run = runner.push(runner.origin.commit("All is well"))
    assert run.succeeded, run.log
    return run


@pytest.fixture
def broken(origin: Origin) -> Iterator[str]:
    """A commit at the tip of main whose image does not start."""
    good = origin.read(CODE)
    yield origin.commit("Does not start", {CODE: good + DOES_NOT_START})
    origin.commit("Starts again", {CODE: good})


# --- a push to main -------------------------------------------------------------------


def test_each_job_runs_after_its_dependencies(pushed: Run) -> None:
    assert pushed.jobs == dict.fromkeys(BEFORE_STAGES | {"deploy"}, "success")
    order = list(pushed.jobs)
    for first, then in (
        ("test", "build-scan-push"),
        ("lint", "build-scan-push"),
        ("build-scan-push", "sign"),
        ("build-scan-push", "e2e"),
        ("e2e", "gate"),
        ("e2e", "tip"),
        ("tip", "latest"),
        ("sign", "latest"),
        ("latest", "deploy"),
    ):
        assert order.index(first) < order.index(then), (first, then)


def test_each_job_runs_on_the_pushed_commit(pushed: Run) -> None:
    commit = pushed.commit
    out = f"check out {commit}, depth 1, persist-credentials false"
    # With the image's Python and with the newest, concurrently.
    tested = [
        f"make {what} at {commit} with {python}"
        for python in ("python3.11", "python3.14")
        for what in ("install", "test-full")
    ]
    assert sorted(pushed.journal_of("test")) == sorted([out, out, *tested])
    assert pushed.journal_of("lint") == [out, f"make lint at {commit}", f"make test-platform at {commit}"]
    assert [line for line in pushed.journal_of("e2e") if not line.startswith("sudo ")] == [
        *(out, f"download image-{SERVICE}", f"make up at {commit}", f"make e2e at {commit}")
    ]


def test_scan_runs_before_login_and_login_before_push(pushed: Run, registry: Registry) -> None:
    digest = pushed.outputs["build-scan-push.digest"]
    assert pushed.journal_of("build-scan-push") == [
        f"check out {pushed.commit}, depth 1, persist-credentials false",
        f"build {SERVICE}:{pushed.commit} as images/{SERVICE}",
        f"scan images/{SERVICE} {digest}",
        f"upload image-{SERVICE}",
        f"log in to {registry.host} as somebody",
        f"upload digest-{SERVICE}",
    ]
    steps = list(pushed.steps_of("build-scan-push"))
    assert steps.index("Log in to the registry") < steps.index("Push the scanned image with the same digest")


def test_scanned_image_is_pushed_signed_tested_and_deployed(
    pushed: Run, registry: Registry, production: Environment
) -> None:
    digest = pushed.outputs["build-scan-push.digest"]
    assert registry.digest(SERVICE, pushed.commit) == digest
    assert (pushed.artifact(f"digest-{SERVICE}") / SERVICE).read_text() == f"{digest}\n"
    image = f"{registry.host}/{SERVICE}@{digest}"
    signed, verified = (line for line in pushed.journal_of("sign") if line.startswith("cosign "))
    assert signed == f"cosign sign --yes {image}"
    assert verified.startswith("cosign verify --certificate-identity ")
    assert verified.endswith(f" {image}")
    assert production.images().endswith(digest)
    # Compared by configuration: Docker assigns its own manifest digest.
    layout = pushed.artifact(f"image-{SERVICE}") / SERVICE
    (descriptor,) = json.loads((layout / "index.json").read_text())["manifests"]
    assert descriptor["digest"] == digest
    configuration = json.loads((layout / "blobs" / digest.replace(":", "/")).read_text())["config"]["digest"]
    tag = subprocess.run(["scripts/image-tag.sh"], cwd=pushed.folder / "clone", capture_output=True, text=True)
    assert f"e2e: Loaded {SERVICE}:{tag.stdout.strip()} ({configuration})" in pushed.log


def test_latest_moves_and_production_serves_the_commit(
    pushed: Run, registry: Registry, production: Environment
) -> None:
    digest = pushed.outputs["build-scan-push.digest"]
    assert f"latest: latest is now {pushed.commit} ({digest})" in pushed.log
    assert f"deploy: 1 pods healthy, all at commit {pushed.commit}" in pushed.log
    assert pushed.summaries == {
        "sign": f"Pushed and signed: `{registry.host}/{SERVICE}:{pushed.commit}` is `{digest}`\n",
        "deploy": f"Deployed {registry.host}/{SERVICE}:{pushed.commit} {digest}. This is the first deploy.\n\n",
    }
    assert production.serves(pushed.commit)


def test_secrets_are_available_only_where_needed(pushed: Run, production: Environment) -> None:
    assert pushed.seen_by(SECRETS["DOCKERHUB_TOKEN"]) == {
        (job, variable) for job in ("build-scan-push", "sign", "latest") for variable in ("INPUT_PASSWORD", "PASSWORD")
    }
    assert pushed.seen_by(WORKFLOW_SECRETS["GITHUB_TOKEN"]) == {("tip", "GH_TOKEN")}
    assert pushed.seen_by(production.secrets["KUBE_CONFIG"]) == {("deploy", "KUBE_CONFIG")}


@pytest.mark.usefixtures("pushed")
def test_outdated_push_moves_nothing(runner: Runner, registry: Registry, production: Environment) -> None:
    latest, revisions = registry.digest(SERVICE, "latest"), production.revisions()
    commit = runner.origin.commit("Overtaken")
    newer = runner.origin.commit("Newer")
    run = runner.push(commit)
    assert run.succeeded, run.log
    assert run.jobs == dict.fromkeys(BEFORE_STAGES - {"latest"}, "success")
    assert registry.digest(SERVICE, commit) == run.outputs["build-scan-push.digest"]
    assert run.summaries["tip"] == f"main is now at {newer}: this run updates neither latest nor production.\n"
    assert (registry.digest(SERVICE, "latest"), production.revisions()) == (latest, revisions)


def test_failed_scan_prevents_the_push(runner: Runner, registry: Registry) -> None:
    run = runner.push(runner.origin.commit("With a vulnerability"), fails=[f"scan images/{SERVICE}"])
    assert not run.succeeded
    assert run.jobs == {"test": "success", "lint": "success", "build-scan-push": "failure", "gate": "failure"}
    *before, scan = run.journal_of("build-scan-push")
    assert scan.startswith(f"scan images/{SERVICE} sha256:")
    assert not [line for line in before if line.startswith("log in")]
    assert [step.name for step in run.steps if step.result == "failure"] == [
        "Scan (fails on fixable HIGH or CRITICAL vulnerabilities)",
        "Check that all jobs succeeded",
    ]
    assert run.seen_by(SECRETS["DOCKERHUB_TOKEN"]) == set()
    assert registry.digest(SERVICE, run.commit) is None


@pytest.mark.usefixtures("pushed")
def test_failed_e2e_prevents_the_deploy(runner: Runner, registry: Registry, production: Environment) -> None:
    latest, revisions = registry.digest(SERVICE, "latest"), production.revisions()
    run = runner.push(runner.origin.commit("With a fault"), fails=["make e2e"])
    assert not run.succeeded
    assert run.jobs == {
        **dict.fromkeys(("test", "lint", "build-scan-push", "sign"), "success"),
        **dict.fromkeys(("e2e", "gate"), "failure"),
    }
    assert run.journal_of("e2e")[-2:] == ["kind export logs reports/kind --name task-platform", "upload kind-logs"]
    assert (registry.digest(SERVICE, "latest"), production.revisions()) == (latest, revisions)


def test_failed_deploy_is_rolled_back_automatically(
    pushed: Run, broken: str, runner: Runner, production: Environment
) -> None:
    before = production.images()
    run = runner.push(broken, overrides=SHORT_TIMEOUT)
    assert not run.succeeded
    assert run.jobs == {**dict.fromkeys(BEFORE_STAGES, "success"), "deploy": "failure"}
    assert run.steps_of("deploy")["Deploy this commit"] == "failure"
    assert run.steps_of("deploy")["Recover an interrupted release"] == "success"
    assert f"Helm failed to deploy {broken} within 15 s." in run.summaries["deploy"]
    assert f"{pushed.commit} serves." in run.summaries["deploy"]
    assert [revision.split()[1] for revision in production.revisions()[-2:]] == ["failed", "deployed"]
    assert production.images() == before
    assert production.serves(pushed.commit)


# --- a pull request -------------------------------------------------------------------


@pytest.mark.parametrize("secrets", [False, True], ids=["of a fork, without secrets", "of a branch, with them"])
def test_pull_request_is_tested_without_access_to_secrets(
    secrets: bool, runner: Runner, production: Environment
) -> None:
    commit = runner.origin.commit("A change", branch="change")
    run = runner.pull_request(commit, secrets=secrets)
    assert run.succeeded, run.log
    assert run.jobs == dict.fromkeys(("test", "lint", "e2e", "gate"), "success")
    assert [line for line in run.journal_of("e2e") if not line.startswith("sudo ")] == [
        f"check out {commit}, depth 1, persist-credentials false",
        *(f"make up at {commit}", f"make e2e at {commit}"),
    ]
    for secret in {**WORKFLOW_SECRETS, **SECRETS, **production.secrets}.values():
        assert run.seen_by(secret) == set()


# --- a rollback -----------------------------------------------------------------------


def test_rollback_returns_to_the_previous_revision_and_blocks_the_commit(
    pushed: Run, runner: Runner, production: Environment
) -> None:
    good = pushed.commit
    bad = runner.push(runner.origin.commit("Is not what users want"))
    assert bad.succeeded, bad.log
    run = runner.dispatch("rollback.yml", bad.commit, {"service": SERVICE, "revision": ""})
    assert run.succeeded, run.log
    assert run.jobs == dict.fromkeys(("main", "rollback"), "success")
    assert f": {good} serves. {bad.commit} is held until: make unhold COMMIT={bad.commit}." in run.summaries["rollback"]
    assert run.seen_by(production.secrets["KUBE_CONFIG"]) == {("rollback", "KUBE_CONFIG")}
    assert set(production.held()) == {bad.commit}
    assert production.serves(good)


@pytest.mark.usefixtures("pushed")
def test_rollback_from_another_branch_does_not_access_the_cluster(runner: Runner, production: Environment) -> None:
    revisions = production.revisions()
    commit = runner.origin.commit("Somewhere else", branch="elsewhere")
    run = runner.dispatch("rollback.yml", commit, {"service": SERVICE}, branch="elsewhere")
    assert not run.succeeded
    assert run.jobs == {"main": "failure"}
    assert "Started from elsewhere; nothing was changed. Run it again: " in run.log
    assert run.seen_by(production.secrets["KUBE_CONFIG"]) == set()
    assert production.revisions() == revisions


# --- a release ------------------------------------------------------------------------


def test_tag_on_a_tested_commit_publishes_the_charts(pushed: Run, runner: Runner, registry: Registry) -> None:
    (version,) = re.findall(r"^version: (\S+)", runner.origin.read(f"platform/helm/{SERVICE}/Chart.yaml"), re.MULTILINE)
    runner.origin.tag(f"v{version}", pushed.commit)
    run = runner.tagged(f"v{version}", pushed.commit)
    assert run.succeeded, run.log
    digest = registry.digest(f"you/charts/{SERVICE}", version)
    assert digest is not None
    chart = f"ghcr.io/you/charts/{SERVICE}@{digest}"
    journal = run.journal_of("chart")
    places = [
        next(place for place, line in enumerate(journal) if line.startswith(begin))
        for begin in (
            f"check out {pushed.commit}, depth 0",
            f"gh api repos/You/it/commits/{pushed.commit}/check-runs",
            "log in to ghcr.io as You",
            "helm push to oci://ghcr.io/you/charts",
            f"cosign sign --yes {chart}",
            "cosign verify ",
            f"gh release create v{version} ",
        )
    ]
    assert places == sorted(places)
    assert "- All is well (" in (run.folder / "notes").read_text()


@pytest.mark.parametrize(
    ("gate", "branch", "sentence"),
    [
        ("failure", "main", "The check Gate did not succeed for"),
        (None, "main", "The check Gate did not succeed for"),
        ("success", "aside", "is not on main"),
    ],
    ids=["its gate is red", "it was never tested", "it is not on main"],
)
def test_tag_on_another_commit_publishes_nothing(gate: str | None, branch: str, sentence: str, runner: Runner) -> None:
    commit = runner.origin.commit("Not to be released", branch=branch)
    if gate is not None:
        (runner.origin.gates / commit).write_text(gate)  # as after a pipeline run
    tag = f"v9.0.{commit[:7]}"
    runner.origin.tag(tag, commit)
    run = runner.tagged(tag, commit)
    assert not run.succeeded
    assert sentence in run.log
    assert not [line for line in run.journal_of("chart") if not line.startswith(("check out ", "gh api "))]


# --- stages ---------------------------------------------------------------------------

STAGES = {"DEPLOY_ENVIRONMENTS": "staging production"}


def test_same_digest_is_deployed_to_staging_then_production(
    runner: Runner, staging: Environment, production: Environment
) -> None:
    run = runner.push(runner.origin.commit("By way of staging"), variables=STAGES)
    assert run.succeeded, run.log
    assert run.jobs == dict.fromkeys(BEFORE_STAGES | {"stages", "deploy"}, "success")
    assert list(run.jobs)[-2:] == ["stages", "deploy"]
    digest = run.outputs["build-scan-push.digest"]
    for environment, job in ((staging, "stages"), (production, "deploy")):
        assert run.seen_by(environment.secrets["KUBE_CONFIG"]) == {(job, "KUBE_CONFIG")}
        assert environment.images().endswith(digest)
        assert environment.serves(run.commit)
    assert "Soaking for 1 s" in run.log
    assert json.loads(staging.kubectl("get", "pods", "--selector", "in=staging", "--output", "json"))["items"]


def test_failure_in_staging_prevents_the_production_deploy(
    broken: str, runner: Runner, staging: Environment, production: Environment
) -> None:
    revisions = production.revisions()
    run = runner.push(broken, variables=STAGES, overrides=SHORT_TIMEOUT)
    assert not run.succeeded
    assert run.jobs == {**dict.fromkeys(BEFORE_STAGES, "success"), "stages": "failure"}
    assert run.seen_by(production.secrets["KUBE_CONFIG"]) == set()
    assert production.revisions() == revisions
    eventually(lambda: broken not in staging.images(), "staging is rolled back or uninstalled", seconds=5)


def test_environment_list_not_ending_with_production_changes_nothing(runner: Runner) -> None:
    run = runner.push(runner.origin.commit("Nowhere to go"), variables={"DEPLOY_ENVIRONMENTS": "production staging"})
    assert not run.succeeded
    assert run.jobs == {**dict.fromkeys(BEFORE_STAGES - {"latest"}, "success"), "tip": "failure"}
    assert 'DEPLOY_ENVIRONMENTS is "production staging". It must list each environment once' in run.log
