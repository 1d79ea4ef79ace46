"""The road of Helm, as README and NOTES say to type it: install, test, upgrade, roll back, uninstall, install again.

The tests are the stages of one release and stand in their order; each stage is a fixture, so that a test alone gets
there, too.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from e2e.cluster import REPOSITORY
from e2e.conftest import SUMMARY
from e2e.eventually import eventually
from e2e.namespace import QUICK_DOWN, MakeNamespace, Namespace
from e2e.traffic import Traffic

CHART = "./platform/helm/task-api"

DEPLOY_SECONDS = 120
"""How long a deploy waits: `helm upgrade --wait --timeout 120s`."""


def password(release: Namespace) -> str:
    return release.run("kubectl get secret task-api-database -o jsonpath='{.data.password}'")


def new_token(namespace: Namespace) -> str:
    """A token that may read and write, in the two Secrets that `auth.mode` tokens and `helm test` ask for."""
    done = subprocess.run(
        ["docker", "run", "--rm", namespace.image, "token", "new", "--name=e2e", "--scope=read", "--scope=write"],
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"tsk_\S+", done.stderr)
    assert found, done.stderr
    for secret, key, value in (("task-api-tokens", "tokens", done.stdout), ("task-api-test-token", "token", found[0])):
        namespace.run(f"kubectl create secret generic {secret} --from-file={key}=/dev/stdin <<< '{value.strip()}'")
    return found[0]


WITH_TOKENS = (
    "--set auth.mode=tokens --set auth.tokens.existingSecret=task-api-tokens"
    " --set helmTest.credential.secretName=task-api-test-token"
)


def roll_out(release: Namespace, values: str, replicas: int, formula: int, token: str = "") -> str:
    """Changes every pod while a client asks, and says how long it took."""
    release.wait_for_replicas(replicas)
    with Traffic(release, token) as traffic:
        started = time.monotonic()
        release.run(f"helm upgrade task-api {CHART} {release.values} {values} --wait --timeout {DEPLOY_SECONDS}s")
        helm_seconds = time.monotonic() - started
        # Helm 3 returns a wave early, and what it left is to be done in the same time.
        release.wait_for_rollout(seconds=max(1, DEPLOY_SECONDS - helm_seconds))  # 0 would be for ever
        seconds = time.monotonic() - started
        # The last old pods still end: their clients must not notice either.
        eventually(
            lambda: len(release.run("kubectl get pods -l app=task-api -o name").split()) == replicas,
            "the last old pod is gone",
            seconds=60,
        )
    assert traffic.wrong == []
    assert traffic.answers > 100
    return (
        f"Rollout of {replicas} replicas: {seconds:.0f} s (formula: {formula} s); `helm upgrade --wait --timeout 120s`"
        f" returned after {helm_seconds:.0f} s; {traffic.answers} requests meanwhile, none failed"
    )


@pytest.fixture(scope="module")
def task(release: Namespace) -> dict[str, Any]:
    """A task of the first installation."""
    with release.client() as client:
        response = client.post("/v1/tasks", json={"title": "older than all that follows"})
    assert response.status_code == 201
    task: dict[str, Any] = response.json()
    return task


@pytest.fixture(scope="module")
def first_password(release: Namespace) -> str:
    return password(release)


@dataclass
class Upgraded:
    token: str
    figures: str


@pytest.fixture(scope="module")
def upgraded(release: Namespace, task: dict[str, Any], first_password: str) -> Upgraded:
    """The release asks for a token now; that is what can be seen of the change."""
    assert task
    assert first_password
    token = new_token(release)
    return Upgraded(token, roll_out(release, WITH_TOKENS, 3, formula=16, token=token))


@pytest.fixture(scope="module")
def rolled_back(release: Namespace, upgraded: Upgraded) -> Namespace:
    """Back to the first revision."""
    assert upgraded
    release.run("helm rollback task-api 1 --wait --timeout 120s")
    release.wait_for_rollout()
    return release


@pytest.fixture(scope="module")
def installed_again(rolled_back: Namespace) -> Namespace:
    """Uninstalled, looked at, and installed again by the same command."""
    rolled_back.run("helm uninstall task-api")
    eventually(
        lambda: set(rolled_back.run("kubectl get pods -o name").split()) <= {"pod/task-api-test"},
        "all pods are gone but the one of a `helm test`, which stays for its log",
        seconds=60,
    )
    left = rolled_back.run(
        "kubectl get deployment,statefulset,service,ingress,hpa,pdb,networkpolicy,serviceaccount,secret,pvc -o name"
    )
    assert set(left.split()) == {
        "serviceaccount/default",
        "secret/task-api-tls",
        "secret/task-api-tokens",
        "secret/task-api-test-token",
        "secret/task-api-database",  # kept, as the volume is
        "persistentvolumeclaim/data-task-api-postgres-0",
    }
    rolled_back.run(f"helm install task-api {CHART} {rolled_back.values} --wait --timeout 120s")
    rolled_back.wait_for_rollout()
    rolled_back.wait_until_it_serves()
    return rolled_back


@pytest.fixture(scope="module", autouse=True)
def smallest(make_namespace: MakeNamespace) -> Namespace:
    """The smallest release there is, below /tasks. Installed first, so that it starts while others are waited for."""
    namespace = make_namespace("e2e-path")
    namespace.run(
        f"helm install task-api {CHART} --values {CHART}/ci/memory-values.yaml {namespace.values}"
        " --set ingress.enabled=true --set ingress.path=/tasks"
    )
    return namespace


@pytest.fixture(scope="module")
def below_a_path(smallest: Namespace) -> Namespace:
    smallest.wait_for_rollout()
    smallest.wait_until_it_serves("/tasks/readyz")
    return smallest


def test_three_replicas_come_up_and_the_commands_of_the_notes_work(release: Namespace) -> None:
    notes = release.run("helm get notes task-api")
    assert f"https://{release.host}/docs" in notes
    assert "WARNING: auth.mode is none" in notes
    assert "WARNING: image." not in notes  # neither the placeholder nor latest
    assert max(len(line) for line in notes.splitlines()) <= 130, "lines that a terminal would break"
    commands = re.findall(r"^[A-Z][^:]*: +(kubectl .*)", notes, re.MULTILINE)
    assert len(commands) == 4
    for command in commands:
        if "port-forward" not in command:  # which does not end; the raw manifests' tests run it
            release.run(command)
    assert len(release.run("kubectl get pods -l app=task-api -o name").split()) == 3


def test_helm_test_writes_reads_and_deletes_a_task(release: Namespace) -> None:
    said = release.run("helm test task-api --logs")
    assert "ok: a task was written, read and deleted" in said


def test_an_upgrade_is_in_time_fails_no_request_and_keeps_tasks_and_password(
    release: Namespace,
    upgraded: Upgraded,
    task: dict[str, Any],
    first_password: str,
    record_property: Callable[[str, object], None],
) -> None:
    record_property(SUMMARY, upgraded.figures)
    assert password(release) == first_password
    with release.client() as client:
        assert client.get(f"/v1/tasks/{task['id']}").status_code == 401
        client.headers["Authorization"] = f"Bearer {upgraded.token}"
        assert client.get(f"/v1/tasks/{task['id']}").json() == task


def test_helm_test_passes_with_a_credential_and_without(release: Namespace, upgraded: Upgraded) -> None:
    assert upgraded
    assert "ok: a task was written, read and deleted" in release.run("helm test task-api --logs")
    before = release.run("kubectl get pods -l app=task-api,app.kubernetes.io/component=api -o name")
    release.run(
        f"helm upgrade task-api {CHART} --reuse-values --set helmTest.credential.secretName= --wait --timeout 120s"
    )
    assert release.run("kubectl get pods -l app=task-api,app.kubernetes.io/component=api -o name") == before
    assert "ok: nobody writes without a token" in release.run("helm test task-api --logs")


@pytest.mark.full  # half a minute, and test_deploy.py goes back, too
def test_a_rollback_brings_the_first_revision_back(
    rolled_back: Namespace, task: dict[str, Any], first_password: str
) -> None:
    with rolled_back.client() as client:
        eventually(
            # None of the last old pods, which end, is on the ingress controller's list any more.
            lambda: {client.get(f"/v1/tasks/{task['id']}").status_code for _ in range(12)} == {200},
            "the ingress leads to pods that ask for no token",
            seconds=20,
        )
        assert client.get(f"/v1/tasks/{task['id']}").json() == task
    assert password(rolled_back) == first_password


@pytest.mark.full  # with the way back that comes before it a minute
def test_a_release_installed_again_reads_the_tasks_of_the_last(
    installed_again: Namespace, task: dict[str, Any], first_password: str
) -> None:
    with installed_again.client() as client:
        assert client.get(f"/v1/tasks/{task['id']}").json() == task
    assert password(installed_again) == first_password


@pytest.mark.full
def test_ten_replicas_roll_out_in_time_and_without_a_failed_request(
    installed_again: Namespace, record_property: Callable[[str, object], None]
) -> None:
    upgrade = f"helm upgrade task-api {CHART} {installed_again.values} {QUICK_DOWN} --wait --timeout 120s"
    try:
        installed_again.run(f"{upgrade} --set replicaCount=10")
        values = f"{QUICK_DOWN} --set podAnnotations.change=second --set replicaCount=10"
        record_property(SUMMARY, roll_out(installed_again, values, 10, formula=40))
    finally:
        installed_again.run(f"{upgrade} --set podAnnotations.change=second")
        installed_again.wait_for_replicas(3)


@pytest.mark.full
@pytest.mark.parametrize("version", ["HELM_OLDEST_VERSION", "HELM_4_VERSION"])
def test_the_oldest_and_the_newest_helm_change_a_release_beside_its_autoscaler(
    make_namespace: MakeNamespace, version: str
) -> None:
    """The autoscaler owns the number of replicas. Helm 4 applies on the server's side, which refuses a second owner."""
    namespace = make_namespace(f"e2e-{version.lower().replace('_', '-')}")
    helm = namespace.run(f". scripts/versions.sh && echo .tools/helm-${version}").strip()
    assert (REPOSITORY / helm).exists(), f"{helm} was not built. With Go, https://go.dev/dl/: scripts/go-tools.sh helm"
    values = f"{namespace.values} --set replicaCount=2"
    changed = "kubectl get deployment task-api -o jsonpath='{.spec.template.metadata.labels.change}'"

    namespace.run(f"{helm} install task-api {CHART} {values} --wait --timeout 120s")
    namespace.wait_for_replicas(2)
    namespace.wait_until_it_serves()
    with namespace.client() as client:
        task = client.post("/v1/tasks", json={"title": "of the first revision"}).json()
    for command, change in (
        (f"upgrade task-api {CHART} {values} --set podLabels.change=second", "second"),
        ("rollback task-api 1", ""),
    ):
        namespace.run(f"{helm} {command} --wait --timeout 120s")
        namespace.wait_for_rollout()
        namespace.wait_for_replicas(2)
        assert namespace.run(changed) == change
    with namespace.client() as client:
        assert client.get(f"/v1/tasks/{task['id']}").json() == task
    namespace.run(f"{helm} uninstall task-api")
    left = namespace.run("kubectl get deployment,statefulset,service,ingress,hpa,pdb,networkpolicy,secret,pvc -o name")
    assert set(left.split()) == {
        "secret/task-api-tls",
        "secret/task-api-database",
        "persistentvolumeclaim/data-task-api-postgres-0",
    }


def test_below_a_path_every_link_leads_to_where_it_is_served(below_a_path: Namespace) -> None:
    with below_a_path.client() as client:
        written = client.post("/tasks/v1/tasks", json={"title": "below a path"})
        assert written.status_code == 201
        assert written.headers["location"].startswith("/tasks/v1/tasks/")
        assert client.get(written.headers["location"]).json() == written.json()
        assert client.post("/tasks/v1/tasks", json={"title": "on the next page"}).status_code == 201

        page = client.get("/tasks/v1/tasks?page_size=1")
        link = re.search(r'<([^>]*)>; rel="next"', page.headers["link"])
        assert link, page.headers["link"]
        assert httpx2.URL(link[1]).path == "/tasks/v1/tasks"
        following = client.get(httpx2.URL(link[1]).raw_path.decode())
        assert following.status_code == 200
        assert following.json() != page.json()


def test_below_a_path_the_docs_come_with_all_they_load(below_a_path: Namespace) -> None:
    with below_a_path.client() as client:
        docs = client.get("/tasks/docs")
        assert docs.status_code == 200
        loaded = re.findall(r"""(?:src=|href=|url: )["']([^"']+)["']""", docs.text)
        assert len(loaded) == 4
        for path in loaded:
            assert path.startswith("/tasks/")
            assert client.get(path).status_code == 200, path
        openapi = client.get("/tasks/openapi.json").json()
        assert [server["url"] for server in openapi["servers"]] == ["/tasks"]


@pytest.mark.parametrize("path", ["/tasks-of-others", "/tasks-of-others/v1/tasks", "/v1/tasks", "/"])
def test_below_a_path_nothing_else_is_served(below_a_path: Namespace, path: str) -> None:
    with below_a_path.client() as client:
        assert client.get(path).status_code == 404


def test_values_that_cannot_work_install_nothing_and_say_why(make_namespace: MakeNamespace) -> None:
    namespace = make_namespace("e2e-refused")
    refused = namespace.attempt(
        f"helm install task-api {CHART} --set ingress.host=https://tasks.example.com --set database.inMemory=true"
        " --set shutdown.gracefulSeconds=60"
    )
    assert refused.returncode != 0
    for sentence in (
        "These values cannot work:",
        'ingress.host or ingress.extraHosts has "https://tasks.example.com". Give a host name alone',
        "database.inMemory is true and there may be more than one replica.",
        "Raise terminationGracePeriodSeconds.",
    ):
        assert sentence in refused.stderr
    refused = namespace.attempt(f"helm install task-api {CHART} --set replicaCount=many")
    assert refused.returncode != 0
    assert "replicaCount" in refused.stderr
    assert namespace.run("helm list --all --short") == ""
    assert namespace.run("kubectl get all,ingress,hpa,pvc,networkpolicy,pdb -o name") == ""


@pytest.fixture
def gateway_api(release: Namespace) -> Iterator[None]:
    """The resource definitions of the Gateway API; removed afterwards unless they were there."""
    manifest = release.run(". scripts/versions.sh && echo $GATEWAY_API_MANIFEST").strip()
    there = release.run("kubectl get crd -o name | grep gateway.networking.k8s.io || true").split()
    release.run(f"kubectl apply --server-side --filename {manifest}")
    release.run("kubectl wait --for=condition=Established crd/httproutes.gateway.networking.k8s.io --timeout=60s")
    yield
    if there:
        return
    release.run(f"kubectl delete --ignore-not-found --wait=false --filename {manifest}")

    def gone() -> bool:
        left = release.run("kubectl get crd -o name | grep gateway.networking.k8s.io || true").split()
        for definition in left:
            # The server first looks for objects of the kind. Where that fails, since the definition was made a moment
            # ago, it tries again after minutes, but at once when the definition changes.
            release.attempt(f"kubectl annotate {definition} --overwrite e2e/removed={time.monotonic()}")
        return not left

    eventually(gone, "the resource definitions of the Gateway API are gone: see `kubectl get crd`")


@pytest.mark.usefixtures("monitoring", "gateway_api")
def test_the_server_accepts_everything_that_the_chart_can_render(make_namespace: MakeNamespace, tmp_path: Path) -> None:
    namespace = make_namespace("e2e-all-on")
    version = json.loads(namespace.run("kubectl version -o json"))["serverVersion"]["gitVersion"]
    (tmp_path / "rendered.yaml").write_text(
        namespace.run(
            # Without the pod of `helm test`: a dry run makes no service account, without which no pod is admitted.
            f"helm template task-api {CHART} --values ./platform/helm/service/ci/all-on-values.yaml"
            f" --values {CHART}/ci/all-on-values.yaml --skip-tests"
            f" --kube-version {version}"
        )
    )
    # Strict: a field that the server does not know is an error, not dropped.
    done = namespace.attempt(f"kubectl apply --dry-run=server --validate=strict -f {tmp_path}/rendered.yaml -o json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no warning either: of a pod that is not restricted, or of a deprecated field
    accepted = {item["kind"] for item in json.loads(done.stdout)["items"]}
    assert accepted >= {"Deployment", "HTTPRoute", "ServiceMonitor", "PrometheusRule", "NetworkPolicy", "ConfigMap"}
    assert eventually(lambda: namespace.run("kubectl get pods -o name") == "", "a dry run makes nothing")
