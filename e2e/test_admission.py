"""A cluster that is strict about pods: about their users, labels, nodes, resources and whom they call."""

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
"""The users that a namespace of OpenShift has, in its annotation openshift.io/sa.scc.uid-range."""

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


def limits(namespace: str) -> list[dict[str, Any]]:
    """What such a cluster says of the pods of a namespace."""
    pod = "object.spec.securityContext"
    of_pod = " && ".join(in_range(f"{pod}.{field}") for field in ("runAsUser", "fsGroup"))
    user = "c.securityContext.runAsUser"
    of_containers = f"object.spec.containers.all(c, !has({user}) || {in_range(user)})"
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    policy = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [rule]},
        "validations": [
            {"expression": f"{of_pod} && {of_containers}", "message": "a user out of the range of the namespace"},
            {"expression": "'team' in object.metadata.labels", "message": "a pod without the label team"},
        ],
    }
    binding = {
        "policyName": namespace,
        "validationActions": ["Deny"],
        "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}},
    }
    hard = {"requests.cpu": "2", "requests.memory": "2Gi", "limits.cpu": "8", "limits.memory": "6Gi", "pods": "10"}
    admission = "admissionregistration.k8s.io/v1"
    return [
        {"apiVersion": admission, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": namespace}, "spec": policy},
        {
            "apiVersion": admission,
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": namespace},
            "spec": binding,
        },
        {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "all"}, "spec": {"hard": hard}},
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
    """A worker that takes nobody who does not tolerate its taint, as the nodes of a pool for databases."""
    namespace = make_namespace("e2e-strict")
    found = namespace.run("kubectl get nodes --selector '!ingress-ready' -o name").split()[-1].removeprefix("node/")
    namespace.run(f"kubectl label node {found} e2e=strict && kubectl taint node {found} e2e=strict:NoSchedule")
    yield found
    namespace.run(f"kubectl label node {found} e2e- && kubectl taint node {found} e2e-")


@pytest.fixture(scope="module")
def image_with_user(node: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL whose /etc/passwd has a line for the user, which initdb asks for. CRI-O, which OpenShift has, writes
    it itself, and the official image has a way around it (nss_wrapper); other images under kind have neither."""
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
    """The namespace with all of that, and a release in it."""
    assert node
    values = VALUES
    if HAS_DATABASE:
        backup = {"enabled": True, "resources": {"requests": {"memory": "128Mi"}}, "volume": {"size": "100Mi"}}
        bundled = {"backup": backup, "image": request.getfixturevalue("image_with_user")}
        values = VALUES | {"database": {"bundled": bundled}}
    namespace = Namespace.created[-1]
    apply(namespace, *limits(namespace.name))
    try:
        # A policy holds once the API server has compiled it.
        pod = templates(namespace, {})[0]
        eventually(lambda: "out of the range" in refusal(namespace, pod), "the policy holds", seconds=30)
        given = shlex.quote(json.dumps(values))
        namespace.run(f"helm install {SERVICE} {CHART} {namespace.values} -f - --wait --timeout 150s <<< {given}")
        namespace.wait_for_replicas(3)
        yield namespace
    finally:
        for kind in ("validatingadmissionpolicybinding", "validatingadmissionpolicy"):
            namespace.run(f"kubectl delete {kind} {namespace.name}")


def refusal(namespace: Namespace, pod: dict[str, Any]) -> str:
    """What the server says to a pod that it does not take."""
    text = shlex.quote(yaml.safe_dump(pod))
    return namespace.attempt(f"kubectl create --dry-run=server --filename - <<< {text}").stderr


def pods(namespace: Namespace) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(namespace.run("kubectl get pods -o json"))["items"]
    return found


def templates(namespace: Namespace, values: dict[str, Any]) -> list[dict[str, Any]]:
    """A pod for each kind of pod that a release with these values makes."""
    rendered = namespace.run(
        f"helm template {SERVICE} {CHART} {namespace.values} -f - <<< {shlex.quote(json.dumps(values))}"
    )
    made = []
    for manifest in yaml.safe_load_all(rendered):
        if manifest and manifest["kind"] in {"Deployment", "StatefulSet", "Job", "Pod"}:
            template = manifest if manifest["kind"] == "Pod" else manifest["spec"]["template"]
            spec = template["spec"] | {"serviceAccountName": "default"}  # the release's may not be there yet
            if manifest["kind"] == "StatefulSet":  # which its controller would mount
                spec["volumes"].append({"name": "data", "emptyDir": {}})
            name = f"{manifest['kind'].lower()}-alone"
            labels = template["metadata"]["labels"]
            made.append({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec})
    assert len(made) >= (3 if HAS_DATABASE else 2)
    return made


@pytest.mark.full  # a release of its own
def test_the_whole_release_is_admitted_placed_and_works(strict: Namespace, node: str) -> None:
    strict.run(f"kubectl rollout status deployment/{SERVICE} --timeout=60s")
    assert EXAMPLE.helm_test in strict.run(f"helm test {SERVICE} --logs")
    if HAS_DATABASE:
        strict.run("kubectl wait job --for=condition=Complete --all --timeout=120s")
        said = strict.run(f"kubectl exec {SERVICE}-postgres-0 -- id -u")
        assert said.strip() == str(FIRST + 1)
    found = pods(strict)
    assert len(found) == (6 if HAS_DATABASE else 4)
    assert {pod["spec"]["nodeName"] for pod in found} == {node}


@pytest.mark.full
def test_pods_as_the_chart_makes_them_without_values_are_refused(strict: Namespace) -> None:
    for pod in templates(strict, {}):
        assert "a user out of the range of the namespace" in refusal(strict, pod), pod["metadata"]["name"]


@pytest.mark.full
def test_with_the_values_for_openshift_no_pod_asks_for_a_user(strict: Namespace) -> None:
    (block,) = (b for b in blocks("docs/extend.md") if b.language == "yaml" and "runAsUser: null" in b.text)
    values = yaml.safe_load(block.text) | {"commonLabels": VALUES["commonLabels"]}
    for pod in templates(strict, values):
        apply(strict, pod, how="create --dry-run=server")
