"""The road of Helm, as README and NOTES say to type it: install, test, upgrade, roll back, uninstall, install again.

The tests are the stages of one release and stand in their order; each stage is a fixture, so that a test alone gets
there, too.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from e2e.cluster import REPOSITORY
from e2e.conftest import SUMMARY
from e2e.drift import drift_of_all, live_objects, write_history
from e2e.eventually import eventually
from e2e.example import EXAMPLE, ROUTE
from e2e.namespace import HELMS, QUICK_DOWN, MakeNamespace, Namespace
from e2e.traffic import Traffic
from under_test import HAS_DATABASE, PREFIX, SERVICE

CHART = f"./platform/helm/{SERVICE}"

OF_DATA = (f"secret/{SERVICE}-database", f"persistentvolumeclaim/data-{SERVICE}-postgres-0") if HAS_DATABASE else ()
"""What stays when the release goes."""

DEPLOY_SECONDS = 120
"""How long a deploy waits: `helm upgrade --wait --timeout 120s`."""


def password(release: Namespace) -> str:
    """That of the database; none where there is no database."""
    if not HAS_DATABASE:
        return ""
    return release.run(f"kubectl get secret {SERVICE}-database -o jsonpath='{{.data.password}}'")


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
    for secret, key, value in (
        (f"{SERVICE}-tokens", "tokens", done.stdout),
        (f"{SERVICE}-test-token", "token", found[0]),
    ):
        namespace.run(f"kubectl create secret generic {secret} --from-file={key}=/dev/stdin <<< '{value.strip()}'")
    return found[0]


WITH_TOKENS = (
    f"--set auth.mode=tokens --set auth.tokens.existingSecret={SERVICE}-tokens"
    f" --set helmTest.credential.secretName={SERVICE}-test-token"
)


def roll_out(release: Namespace, values: str, replicas: int, formula: int, token: str = "") -> str:
    """Changes every pod while a client asks, and says how long it took."""
    release.wait_for_replicas(replicas)
    with Traffic(release, token) as traffic:
        started = time.monotonic()
        release.run(f"helm upgrade {SERVICE} {CHART} {release.values} {values} --wait --timeout {DEPLOY_SECONDS}s")
        helm_seconds = time.monotonic() - started
        # Helm 3 returns a wave early, and what it left is to be done in the same time.
        release.wait_for_rollout(seconds=max(1, DEPLOY_SECONDS - helm_seconds))  # 0 would be for ever
        seconds = time.monotonic() - started
        # The last old pods still end: their clients must not notice either.
        eventually(
            lambda: len(release.run(f"kubectl get pods -l app={SERVICE} -o name").split()) == replicas,
            "the last old pod is gone",
            seconds=60,
        )
    assert traffic.failures == []
    assert traffic.responses > 100
    return (
        f"Rollout of {replicas} replicas: {seconds:.0f} s (formula: {formula} s); `helm upgrade --wait --timeout 120s`"
        f" returned after {helm_seconds:.0f} s; {traffic.responses} requests meanwhile, none failed"
    )


@dataclass
class Kept:
    """What a client had the first installation keep."""

    path: str
    said: Any
    password: str


@pytest.fixture(scope="module")
def kept(release: Namespace) -> Kept:
    with release.client() as client:
        return Kept(*EXAMPLE.write(client), password(release))


@dataclass
class Upgraded:
    token: str
    figures: str


@pytest.fixture(scope="module")
def upgraded(release: Namespace, kept: Kept) -> Upgraded:
    """The release asks for a token now; that is what can be seen of the change."""
    assert kept.path
    token = new_token(release)
    return Upgraded(token, roll_out(release, WITH_TOKENS, 3, formula=16, token=token))


@pytest.fixture(scope="module")
def rolled_back(release: Namespace, upgraded: Upgraded) -> Namespace:
    """Back to the first revision."""
    assert upgraded
    release.run(f"helm rollback {SERVICE} 1 --wait --timeout 120s")
    release.wait_for_rollout()
    return release


@pytest.fixture(scope="module")
def installed_again(rolled_back: Namespace) -> Namespace:
    """Uninstalled, looked at, and installed again by the same command."""
    rolled_back.run(f"helm uninstall {SERVICE}")
    eventually(
        lambda: set(rolled_back.run("kubectl get pods -o name").split()) <= {f"pod/{SERVICE}-test"},
        "all pods are gone but the one of a `helm test`, which stays for its log",
        seconds=60,
    )
    left = rolled_back.run(
        "kubectl get deployment,statefulset,service,ingress,hpa,pdb,networkpolicy,serviceaccount,secret,pvc -o name"
    )
    assert set(left.split()) == {
        "serviceaccount/default",
        f"secret/{SERVICE}-tls",
        f"secret/{SERVICE}-tokens",
        f"secret/{SERVICE}-test-token",
        *OF_DATA,
    }
    rolled_back.run(f"helm install {SERVICE} {CHART} {rolled_back.values} --wait --timeout 120s")
    rolled_back.wait_for_rollout()
    rolled_back.wait_until_it_serves()
    return rolled_back


@pytest.fixture(scope="module", autouse=True)
def begun(smallest: Namespace) -> Namespace:
    """Installed first, so that it starts while others are waited for."""
    return smallest


def test_three_replicas_come_up_and_the_commands_of_the_notes_work(release: Namespace) -> None:
    notes = release.run(f"helm get notes {SERVICE}")
    assert f"https://{release.host}/docs" in notes
    assert "WARNING: auth.mode is none" in notes
    assert "WARNING: image." not in notes  # neither the placeholder nor latest
    assert max(len(line) for line in notes.splitlines()) <= 130, "lines that a terminal would break"
    commands = re.findall(r"^[A-Z][^:]*: +(kubectl .*)", notes, re.MULTILINE)
    assert len(commands) == 4
    for command in commands:
        if "port-forward" not in command:  # which does not end; the raw manifests' tests run it
            release.run(command)
    assert len(release.run(f"kubectl get pods -l app={SERVICE} -o name").split()) == 3


def test_helm_test_asks_what_a_client_would(release: Namespace) -> None:
    assert EXAMPLE.helm_test in release.run(f"helm test {SERVICE} --logs")


def test_an_upgrade_is_in_time_fails_no_request_and_keeps_what_was_written(
    release: Namespace, upgraded: Upgraded, kept: Kept, record_property: Callable[[str, object], None]
) -> None:
    record_property(SUMMARY, upgraded.figures)
    with release.client() as client:
        assert client.get(kept.path).status_code == 401
        client.headers["Authorization"] = f"Bearer {upgraded.token}"
        assert client.get(kept.path).json() == kept.said


def test_an_upgrade_keeps_the_password_of_the_database(release: Namespace, upgraded: Upgraded, kept: Kept) -> None:
    assert upgraded
    assert password(release) == kept.password
    assert bool(kept.password) == HAS_DATABASE


def test_helm_test_passes_with_a_credential_and_without(release: Namespace, upgraded: Upgraded) -> None:
    assert upgraded
    assert EXAMPLE.helm_test in release.run(f"helm test {SERVICE} --logs")
    before = release.run(f"kubectl get pods -l app={SERVICE},app.kubernetes.io/component=api -o name")
    release.run(
        f"helm upgrade {SERVICE} {CHART} --reuse-values --set helmTest.credential.secretName= --wait --timeout 120s"
    )
    assert release.run(f"kubectl get pods -l app={SERVICE},app.kubernetes.io/component=api -o name") == before
    assert EXAMPLE.helm_test_unauthorized in release.run(f"helm test {SERVICE} --logs")


@pytest.mark.full  # half a minute, and test_deploy.py goes back, too
def test_a_rollback_brings_the_first_revision_back(rolled_back: Namespace, kept: Kept) -> None:
    with rolled_back.client() as client:
        eventually(
            # None of the last old pods, which end, is on the ingress controller's list any more.
            lambda: {client.get(kept.path).status_code for _ in range(12)} == {200},
            "the ingress leads to pods that ask for no token",
            seconds=20,
        )
        assert client.get(kept.path).json() == kept.said
    assert password(rolled_back) == kept.password


@pytest.mark.full  # with the way back that comes before it a minute
def test_a_release_installed_again_reads_what_the_last_one_kept(installed_again: Namespace, kept: Kept) -> None:
    with installed_again.client() as client:
        assert client.get(kept.path).json() == kept.said
    assert password(installed_again) == kept.password


@pytest.mark.full
def test_ten_replicas_roll_out_in_time_and_without_a_failed_request(
    installed_again: Namespace, record_property: Callable[[str, object], None]
) -> None:
    upgrade = f"helm upgrade {SERVICE} {CHART} {installed_again.values} {QUICK_DOWN} --wait --timeout 120s"
    try:
        installed_again.run(f"{upgrade} --set replicaCount=10")
        values = f"{QUICK_DOWN} --set pods.api.podAnnotations.change=second --set replicaCount=10"
        record_property(SUMMARY, roll_out(installed_again, values, 10, formula=40))
    finally:
        installed_again.run(f"{upgrade} --set pods.api.podAnnotations.change=second")
        installed_again.wait_for_replicas(3)


@pytest.mark.full
@pytest.mark.parametrize("installed_by", HELMS)
def test_what_one_helm_installed_the_others_change_beside_the_autoscaler_whatever_a_hand_did(
    make_namespace: MakeNamespace, installed_by: str
) -> None:
    """Helm 4 installs server-side; the autoscaler owns the number of replicas throughout."""
    namespace = make_namespace(f"e2e-helm-{HELMS.index(installed_by)}")
    namespace.use_helm(installed_by)
    values = f"{namespace.values} --set replicaCount=2"
    changed = f"kubectl get deployment {SERVICE} -o jsonpath='{{.spec.template.metadata.labels.change}}'"

    namespace.run(f"helm install {SERVICE} {CHART} {values} --wait --timeout 120s")
    namespace.wait_for_replicas(2)
    namespace.wait_until_it_serves()
    with namespace.client() as client:
        path, said = EXAMPLE.write(client)
    for helm in sorted(HELMS, key=lambda helm: helm == installed_by):
        namespace.use_helm(helm)
        before = json.loads(namespace.run(f"helm history {SERVICE} -o json"))[-1]["revision"]
        namespace.run(f"kubectl scale deployment {SERVICE} --replicas=3")  # as an autoscaler under load
        for command, change in (
            (f"upgrade {SERVICE} {CHART} {values} --set pods.api.podLabels.change=by-{helm}", f"by-{helm}"),
            (f"rollback {SERVICE} {before}", ""),
        ):
            namespace.run(f'kubectl patch hpa {SERVICE} --patch \'{{"spec": {{"minReplicas": 3}}}}\'')
            namespace.run(f"kubectl set env deployment {SERVICE} --containers api {PREFIX}DRAIN_SECONDS=4")
            told = namespace.run(f"scripts/helm.sh {command} --wait --timeout 120s")
            assert "reverted: HorizontalPodAutoscaler" in told
            assert f'env[name="{PREFIX}DRAIN_SECONDS"].value (kubectl-set)' in told
            assert ".spec.replicas" not in told
            namespace.wait_for_rollout()
            assert namespace.run(changed) == change
            assert namespace.run(f"kubectl get hpa {SERVICE} -o jsonpath='{{.spec.minReplicas}}'") == "2"
            namespace.wait_for_replicas(3)
    with namespace.client() as client:
        assert client.get(path).json() == said
    namespace.run(f"helm uninstall {SERVICE} --wait")
    left = namespace.run("kubectl get deployment,statefulset,service,ingress,hpa,pdb,networkpolicy,secret,pvc -o name")
    assert set(left.split()) == {f"secret/{SERVICE}-tls", *OF_DATA}


def test_an_upgrade_without_a_change_writes_nothing(release: Namespace) -> None:
    before = write_history(release)
    release.run(f"helm upgrade {SERVICE} {CHART} --reuse-values")
    assert write_history(release) == before
    applied = release.run(f"helm get manifest {SERVICE}")
    assert drift_of_all(applied, live_objects(release)) == []


def test_below_a_path_the_docs_come_with_all_they_load(below_a_path: Namespace) -> None:
    with below_a_path.client() as client:
        docs = client.get("/below/docs")
        assert docs.status_code == 200
        loaded = re.findall(r"""(?:src=|href=|url: )["']([^"']+)["']""", docs.text)
        assert len(loaded) == 4
        for path in loaded:
            assert path.startswith("/below/")
            assert client.get(path).status_code == 200, path
        openapi = client.get("/below/openapi.json").json()
        assert [server["url"] for server in openapi["servers"]] == ["/below"]


@pytest.mark.parametrize("path", ["/below-others", f"/below-others{ROUTE}", ROUTE, "/"])
def test_below_a_path_nothing_else_is_served(below_a_path: Namespace, path: str) -> None:
    with below_a_path.client() as client:
        assert client.get(path).status_code == 404


IN_MEMORY = ("database.inMemory is true and there may be more than one replica.",)


def test_values_that_cannot_work_install_nothing_and_say_why(make_namespace: MakeNamespace) -> None:
    namespace = make_namespace("e2e-refused")
    in_memory, why = ("--set database.inMemory=true", IN_MEMORY) if HAS_DATABASE else ("", ())
    refused = namespace.attempt(
        f"helm install {SERVICE} {CHART} --set ingress.host=https://tasks.example.com {in_memory}"
        " --set shutdown.gracefulSeconds=60"
    )
    assert refused.returncode != 0
    for sentence in (
        "Invalid values:",
        'ingress.host or ingress.extraHosts has "https://tasks.example.com". It must be a host name',
        *why,
        "Raise terminationGracePeriodSeconds.",
    ):
        assert sentence in refused.stderr
    refused = namespace.attempt(f"helm install {SERVICE} {CHART} --set replicaCount=many")
    assert refused.returncode != 0
    assert "replicaCount" in refused.stderr
    # Helm 4 has no `helm list --all`.
    assert namespace.run("kubectl get secrets --selector owner=helm --output name") == ""
    assert namespace.run("kubectl get all,ingress,hpa,pvc,networkpolicy,pdb -o name") == ""


@pytest.mark.usefixtures("monitoring", "gateway_api")
def test_the_server_accepts_everything_that_the_chart_can_render(make_namespace: MakeNamespace, tmp_path: Path) -> None:
    namespace = make_namespace("e2e-all-on")
    version = json.loads(namespace.run("kubectl version -o json"))["serverVersion"]["gitVersion"]
    own = f"{CHART}/ci/all-on-values.yaml"
    its_own = f"--values {own}" if (REPOSITORY / own).exists() else ""
    (tmp_path / "rendered.yaml").write_text(
        namespace.run(
            # Without the pod of `helm test`: a dry run makes no service account, without which no pod is admitted.
            f"helm template {SERVICE} {CHART} --values ./platform/helm/service/ci/all-on-values.yaml"
            f" {its_own} --skip-tests"
            f" --kube-version {version}"
        )
    )
    # Strict: a field that the server does not know is an error, not dropped.
    done = namespace.attempt(f"kubectl apply --dry-run=server --validate=strict -f {tmp_path}/rendered.yaml -o json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no warning either: of a pod that is not restricted, or of a deprecated field
    items = json.loads(done.stdout)["items"]
    assert drift_of_all((tmp_path / "rendered.yaml").read_text(), items) == []
    accepted = {item["kind"] for item in items}
    assert accepted >= {"Deployment", "HTTPRoute", "ServiceMonitor", "PrometheusRule", "NetworkPolicy", "ConfigMap"}
    assert eventually(lambda: namespace.run("kubectl get pods -o name") == "", "a dry run makes nothing")
