"""Deployment with kubectl: platform/k8s with one line edited, and the commands in its files, as they are written."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from documentation import commands_run_by
from e2e.cluster import REPOSITORY
from e2e.drift import drift_of_all, live_objects, specs, write_history
from e2e.eventually import eventually
from e2e.namespace import HELMS, MakeNamespace, Namespace
from e2e.traffic import Traffic

THIS, README = "e2e/task_api/test_raw_manifests.py", "platform/helm/task-api/README.md"


def documented_secret(folder: Path) -> str:
    """The commands in postgres.yaml that create the Secret task-api-database."""
    comment = re.search(r"create it once:\n((?:#   .*\n)+)", (folder / "postgres.yaml").read_text())
    assert comment, "postgres.yaml does not say how to create its Secret"
    return "\n".join(line.removeprefix("#   ") for line in comment[1].splitlines())


def documented_adoption(namespace: Namespace, copy: Path) -> str:
    """The commands of the chart's README for adoption by Helm; the last is helm's, to which values can be added."""
    (block,) = commands_run_by(THIS, README, "Migrate from the manifests to the chart")
    repository, _, tag = namespace.image.rpartition(":")
    commands = block.commands
    for old, new in {
        "platform/k8s/": f"{copy}/",
        "namespace=default": f"namespace={namespace.name}",
        "your-dockerhub-username/task-api": repository,
        "$(git rev-parse HEAD)": tag,
        "tasks.example.com": namespace.host,
    }.items():
        assert old in commands
        commands = commands.replace(old, new)
    return commands


def edited_copy(folder: Path, namespace: Namespace) -> Path:
    """A copy of the manifests with its one line edited, and the host: another release already uses task-api.local."""
    copy = folder / "k8s"
    shutil.copytree(REPOSITORY / "platform/k8s", copy)
    set_image(copy, namespace.image)
    ingress = copy / "ingress.yaml"
    ingress.write_text(ingress.read_text().replace("task-api.local", namespace.host))
    return copy


def set_image(copy: Path, image: str) -> None:
    text, lines = re.subn(
        r"^( +image:).*task-api:.*$", rf"\1 {image}", (copy / "deployment.yaml").read_text(), flags=re.MULTILINE
    )
    assert lines == 1
    (copy / "deployment.yaml").write_text(text)


def waiting_reasons(namespace: Namespace) -> dict[str, str]:
    """Why each pod's container is waiting, by pod name."""
    pods = json.loads(namespace.run("kubectl get pods -o json"))["items"]
    return {
        pod["metadata"]["name"]: status["state"]["waiting"]["reason"]
        for pod in pods
        for status in pod["status"].get("containerStatuses", [])
        if "waiting" in status["state"]
    }


@contextlib.contextmanager
def port_forward(namespace: Namespace, output: Path) -> Iterator[str]:
    """`kubectl port-forward svc/task-api`, to a free port: 8000 may be in use on this machine."""
    forward = namespace.start("kubectl port-forward svc/task-api :80", output)
    try:
        match = eventually(
            lambda: re.search(r"Forwarding from (127\.0\.0\.1:\d+) -> 8000", output.read_text()),
            f"kubectl port-forward listens: see {output}",
            seconds=20,
        )
        yield f"http://{match[1]}"
    finally:
        forward.terminate()
        forward.wait(timeout=10)


@pytest.fixture(scope="module")
def namespace(make_namespace: MakeNamespace) -> Namespace:
    return make_namespace("e2e-raw")


@pytest.fixture(scope="module")
def copy(namespace: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return edited_copy(tmp_path_factory.mktemp("raw"), namespace)


@pytest.fixture(scope="module")
def applied(namespace: Namespace, copy: Path) -> Namespace:
    """Applied before either Secret exists, the database's or the certificate's."""
    namespace.run("kubectl delete secret task-api-tls")
    done = namespace.attempt(f"kubectl apply -f {copy}")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "the server printed a warning"
    return namespace


@pytest.fixture(scope="module")
def started(applied: Namespace, copy: Path, tmp_path_factory: pytest.TempPathFactory) -> Namespace:
    """Only the documented commands are run."""
    applied.run(documented_secret(copy))
    applied.make_certificate(tmp_path_factory.mktemp("certificate"))
    applied.run("kubectl rollout status deployment/task-api --timeout=180s")
    applied.wait_for_replicas(3)
    applied.wait_until_it_serves()
    return applied


def test_pods_wait_for_missing_secrets(applied: Namespace) -> None:
    def both_wait() -> bool:
        reasons = waiting_reasons(applied)
        assert set(reasons.values()) <= {"CreateContainerConfigError", "ContainerCreating", "PodInitializing"}, reasons
        pods = applied.run("kubectl get pods -l app=task-api -o name").split()
        api_reasons = [reason for pod, reason in reasons.items() if "postgres" not in pod]
        return (
            "task-api-postgres-0" in reasons
            and len(api_reasons) == len(pods) > 0
            and set(api_reasons) == {"CreateContainerConfigError"}
        )

    eventually(both_wait, "the API's pods wait for their Secret, and PostgreSQL's for its volume", seconds=60)


def test_pods_start_once_the_secrets_exist(started: Namespace, tmp_path: Path) -> None:
    assert len(started.run("kubectl get pods -l app=task-api -o name").split()) == 3
    assert started.run("kubectl get hpa task-api -o jsonpath='{.spec.minReplicas} {.spec.maxReplicas}'") == "3 10"
    restarts = started.run(
        "kubectl get pods -o jsonpath='{.items[*].status.containerStatuses[*].restartCount}'"
    ).split()
    assert set(restarts) == {"0"}
    with port_forward(started, tmp_path / "port-forward") as url:
        assert httpx2.get(f"{url}/health").json()["storage"] == "postgresql"


def test_reapplying_on_either_side_changes_nothing(started: Namespace, copy: Path) -> None:
    before, specs_before = write_history(started), specs(started)
    # kubectl sends the PodDisruptionBudget's selector every time, since the API replaces it as a whole.
    assert set(re.findall(r"(\S+) configured", started.run(f"kubectl apply -f {copy}"))) <= {
        "poddisruptionbudget.policy/task-api"
    }
    assert write_history(started) == before
    started.run(f"kubectl diff -f {copy}")
    for _ in range(2):
        started.run(f"kubectl apply --server-side -f {copy}")  # stopped by no conflict
    # Not generations: a Deployment's also counts annotations, and client- and server-side kubectl write the last
    # applied configuration differently.
    assert specs(started) == specs_before
    started.run(f"kubectl diff --server-side -f {copy}")
    started.run(f"kubectl diff -f {copy}")
    applied = "\n---\n".join(file.read_text() for file in copy.glob("*.yaml"))
    assert drift_of_all(applied, live_objects(started)) == []


def test_broken_release_interrupts_no_client_and_is_undone(started: Namespace, copy: Path) -> None:
    with Traffic(started) as traffic:
        set_image(copy, "task-api:never-built")
        started.run(f"kubectl apply -f {copy}/deployment.yaml")
        eventually(
            lambda: {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull"} & set(waiting_reasons(started).values()),
            "a new pod cannot pull its image",
            seconds=60,
        )
        assert started.attempt("kubectl rollout status deployment/task-api --timeout=1s").returncode != 0
        started.run("kubectl rollout undo deployment/task-api")
        started.run("kubectl rollout status deployment/task-api --timeout=120s")
        started.wait_for_replicas(3)
    assert traffic.failures == []
    assert traffic.responses > 100
    images = started.run("kubectl get pods -l app=task-api -o jsonpath='{.items[*].spec.containers[*].image}'")
    assert set(images.split()) == {started.image}


def test_delete_removes_everything_but_the_data_and_the_secrets(started: Namespace, copy: Path) -> None:
    started.run(f"kubectl delete -f {copy}")
    remaining = started.run("kubectl get all,ingress,hpa,pdb,networkpolicy,serviceaccount,secret,pvc -o name").split()
    assert {name for name in remaining if not name.startswith("pod/")} == {
        "serviceaccount/default",
        "secret/task-api-tls",
        "secret/task-api-database",
        "persistentvolumeclaim/data-task-api-postgres-0",
    }
    # On reload the controller closes kept-alive connections: not during the next test.
    started.wait_until_the_ingress_is_gone()


@pytest.mark.full
@pytest.mark.parametrize("helm", HELMS)
def test_applied_after_the_secrets_then_changed_undone_and_adopted_by_helm(
    make_namespace: MakeNamespace, tmp_path: Path, helm: str
) -> None:
    namespace = make_namespace(f"e2e-raw-{HELMS.index(helm)}")
    namespace.use_helm(helm)
    copy = edited_copy(tmp_path, namespace)
    namespace.run(documented_secret(copy))
    namespace.run(f"kubectl apply -f {copy}")
    namespace.run("kubectl rollout status deployment/task-api --timeout=180s")
    namespace.wait_for_replicas(3)
    namespace.wait_until_it_serves()
    with namespace.client() as client:
        task = client.post("/v1/tasks", json={"title": "older than the release"}).json()

    with Traffic(namespace) as traffic:
        deployment = copy / "deployment.yaml"
        changed = deployment.read_text().replace('value: "10"', 'value: "9"')  # TASKS_GRACEFUL_SECONDS
        assert changed != deployment.read_text()
        deployment.write_text(changed)
        namespace.run(f"kubectl apply -f {copy}")
        namespace.run("kubectl rollout status deployment/task-api --timeout=120s")
        namespace.run("kubectl rollout undo deployment/task-api")
        namespace.run("kubectl rollout status deployment/task-api --timeout=120s")
        namespace.wait_for_replicas(3)

        namespace.run(f"{documented_adoption(namespace, copy)} {namespace.values} --wait --timeout 120s")
        namespace.wait_for_rollout()
        namespace.wait_for_replicas(3)
        assert traffic.failures == []
        assert traffic.responses > 100
    with namespace.client() as client:
        assert client.get(f"/v1/tasks/{task['id']}").json() == task
    # The release is complete: objects of the manifests are removed once the chart no longer has them.
    upgrade = "scripts/helm.sh upgrade task-api platform/helm/task-api --reuse-values --set minReadySeconds=1 --wait"
    assert "reverted: " not in namespace.run(upgrade)
    namespace.wait_for_rollout()
    if helm == "HELM_4_VERSION":  # needed after a conflict
        commands = [
            block.commands for block in commands_run_by(THIS, README) if "--server-side=false" in block.commands
        ]
        assert len(commands) == 1
        namespace.run(commands[0])
    namespace.run("helm uninstall task-api --wait")
    remaining = namespace.run("kubectl get deployment,statefulset,service,ingress,hpa,pdb,networkpolicy -o name")
    assert remaining == ""
