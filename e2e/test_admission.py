"""A cluster with strict admission: of pods' users, labels, nodes, resources and network access."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from documentation import blocks
from e2e.cluster import CONTEXT as CONTEXT_OF_KIND
from e2e.eventually import eventually
from e2e.example import EXAMPLE
from e2e.namespace import MakeNamespace, Namespace
from manifests import default_values
from under_test import HAS_DATABASE, SERVICE

CHART = f"./platform/helm/{SERVICE}"
FIRST, LAST = 1000680000, 1000689999
"""The user range of an OpenShift namespace, in its annotation openshift.io/sa.scc.uid-range."""

CONTEXT = {
    "runAsNonRoot": True,
    **dict.fromkeys(("runAsUser", "runAsGroup", "fsGroup"), FIRST + 1),
    "seccompProfile": {"type": "RuntimeDefault"},
}
VALUES: dict[str, Any] = {
    "commonLabels": {"team": "strict"},
    "nodeSelector": {"e2e": "strict"},
    "tolerations": [{"key": "e2e", "operator": "Equal", "value": "strict", "effect": "NoSchedule"}],
    "podSecurityContext": CONTEXT,
    "pods": {"database": {"podSecurityContext": CONTEXT}},
}


def in_range(field: str) -> str:
    return f"(!has({field}) || ({field} >= {FIRST} && {field} <= {LAST}))"


def admission_rules(namespace: str) -> list[dict[str, Any]]:
    """The admission rules of such a cluster for a namespace's pods."""
    pod = "object.spec.securityContext"
    pod_rule = " && ".join(in_range(f"{pod}.{field}") for field in ("runAsUser", "fsGroup"))
    user = "c.securityContext.runAsUser"
    container_rule = f"object.spec.containers.all(c, !has({user}) || {in_range(user)})"
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    policy = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [rule]},
        "validations": [
            {"expression": f"{pod_rule} && {container_rule}", "message": "a user out of the range of the namespace"},
            {"expression": "'team' in object.metadata.labels", "message": "a pod without the label team"},
        ],
    }
    binding = {
        "policyName": namespace,
        "validationActions": ["Deny"],
        "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}},
    }
    quota = {"requests.cpu": "2", "requests.memory": "2Gi", "limits.cpu": "8", "limits.memory": "6Gi", "pods": "10"}
    admission = "admissionregistration.k8s.io/v1"
    return [
        {"apiVersion": admission, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": namespace}, "spec": policy},
        {
            "apiVersion": admission,
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": namespace},
            "spec": binding,
        },
        {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "all"}, "spec": {"hard": quota}},
        {
            "apiVersion": "v1",
            "kind": "LimitRange",
            "metadata": {"name": "each"},
            "spec": {"limits": [{"type": "Container", "min": {"memory": "128Mi"}}]},
        },
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "deny-all"},
            "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
        },
    ]


def apply(namespace: Namespace, *manifests: dict[str, Any], how: str = "apply") -> str:
    text = shlex.quote(yaml.safe_dump_all(manifests))
    return namespace.run(f"kubectl {how} --filename - <<< {text}")


@pytest.fixture(scope="module")
def node(make_namespace: MakeNamespace) -> Iterator[str]:
    """A worker with a taint, like the nodes of a pool for databases."""
    namespace = make_namespace("e2e-strict")
    name = namespace.run("kubectl get nodes --selector '!ingress-ready' -o name").split()[-1].removeprefix("node/")
    namespace.run(f"kubectl label node {name} e2e=strict && kubectl taint node {name} e2e=strict:NoSchedule")
    yield name
    namespace.run(f"kubectl label node {name} e2e- && kubectl taint node {name} e2e-")


@pytest.fixture(scope="module")
def image_with_user(node: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL whose /etc/passwd has an entry for the user, which initdb requires. CRI-O, OpenShift's runtime, adds
    it itself, and the official image has a workaround (nss_wrapper); other images under kind have neither."""
    image, user = "postgres:e2e-any-user", FIRST + 1
    folder = tmp_path_factory.mktemp("image")
    (folder / "Dockerfile").write_text(
        f"FROM {default_values()['database']['bundled']['image']}\n"
        f"RUN echo 'anybody:x:{user}:{user}::/tmp:/bin/false' >> /etc/passwd\n"
    )
    cluster = CONTEXT_OF_KIND.removeprefix("kind-")
    for command in (
        ["docker", "build", "--quiet", "--tag", image, str(folder)],
        ["kind", "load", "docker-image", image, "--name", cluster, "--nodes", node],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
    yield image
    subprocess.run(["docker", "image", "rm", image], capture_output=True, check=True)


@pytest.fixture(scope="module")
def strict(node: str, request: pytest.FixtureRequest) -> Iterator[Namespace]:
    """A namespace with all of these rules, and a release in it."""
    assert node
    values = VALUES
    if HAS_DATABASE:
        backup = {"enabled": True, "resources": {"requests": {"memory": "128Mi"}}, "volume": {"size": "100Mi"}}
        bundled = {"backup": backup, "image": request.getfixturevalue("image_with_user")}
        values = VALUES | {"database": {"bundled": bundled}}
    namespace = Namespace.created[-1]
    apply(namespace, *admission_rules(namespace.name))
    try:
        # A policy is enforced once the API server has compiled it.
        pod = standalone_pods(namespace, {})[0]
        eventually(lambda: "out of the range" in rejection(namespace, pod), "the policy is enforced", seconds=30)
        values_json = shlex.quote(json.dumps(values))
        namespace.run(f"helm install {SERVICE} {CHART} {namespace.values} -f - --wait --timeout 150s <<< {values_json}")
        namespace.wait_for_replicas(3)
        yield namespace
    finally:
        for kind in ("validatingadmissionpolicybinding", "validatingadmissionpolicy"):
            namespace.run(f"kubectl delete {kind} {namespace.name}")


def rejection(namespace: Namespace, pod: dict[str, Any]) -> str:
    """The server's error for a rejected pod."""
    text = shlex.quote(yaml.safe_dump(pod))
    return namespace.attempt(f"kubectl create --dry-run=server --filename - <<< {text}").stderr


def pods(namespace: Namespace) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = json.loads(namespace.run("kubectl get pods -o json"))["items"]
    return items


def standalone_pods(namespace: Namespace, values: dict[str, Any]) -> list[dict[str, Any]]:
    """A pod for each kind of pod in a release with these values."""
    rendered = namespace.run(
        f"helm template {SERVICE} {CHART} {namespace.values} -f - <<< {shlex.quote(json.dumps(values))}"
    )
    pods = []
    for manifest in yaml.safe_load_all(rendered):
        if manifest and manifest["kind"] in {"Deployment", "StatefulSet", "Job", "Pod"}:
            template = manifest if manifest["kind"] == "Pod" else manifest["spec"]["template"]
            spec = template["spec"] | {"serviceAccountName": "default"}  # the release's may not exist yet
            if manifest["kind"] == "StatefulSet":  # mounted by its controller
                spec["volumes"].append({"name": "data", "emptyDir": {}})
            name = f"{manifest['kind'].lower()}-alone"
            labels = template["metadata"]["labels"]
            pods.append({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec})
    assert len(pods) >= (3 if HAS_DATABASE else 2)
    return pods


@pytest.mark.full  # needs a dedicated release
def test_complete_release_is_admitted_scheduled_and_works(strict: Namespace, node: str) -> None:
    strict.run(f"kubectl rollout status deployment/{SERVICE} --timeout=60s")
    assert EXAMPLE.helm_test in strict.run(f"helm test {SERVICE} --logs")
    if HAS_DATABASE:
        strict.run("kubectl wait job --for=condition=Complete --all --timeout=120s")
        uid = strict.run(f"kubectl exec {SERVICE}-postgres-0 -- id -u")
        assert uid.strip() == str(FIRST + 1)
    running = pods(strict)
    assert len(running) == (6 if HAS_DATABASE else 4)
    assert {pod["spec"]["nodeName"] for pod in running} == {node}


@pytest.mark.full
def test_pods_of_the_chart_without_values_are_rejected(strict: Namespace) -> None:
    for pod in standalone_pods(strict, {}):
        assert "a user out of the range of the namespace" in rejection(strict, pod), pod["metadata"]["name"]


@pytest.mark.full
def test_values_for_openshift_set_no_user(strict: Namespace) -> None:
    (block,) = (b for b in blocks("docs/extend.md") if b.language == "yaml" and "runAsUser: null" in b.text)
    values = yaml.safe_load(block.text) | {"commonLabels": VALUES["commonLabels"]}
    for pod in standalone_pods(strict, values):
        apply(strict, pod, how="create --dry-run=server")
