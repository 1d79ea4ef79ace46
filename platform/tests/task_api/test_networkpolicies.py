"""The network policies, evaluated for pairs of pods like a network plugin: which connections are allowed."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from manifests import Manifest, raw, render, sets, with_json

RELEASE = "default"
"""The release's namespace; no object sets it."""


@dataclass(frozen=True)
class Pod:
    namespace: str
    labels: dict[str, str] = field(hash=False)


def matches(selector: Manifest, labels: dict[str, str]) -> bool:
    assert selector.keys() <= {"matchLabels"}, f"not modelled: {selector}"
    required: dict[str, str] = selector.get("matchLabels", {})
    return required.items() <= labels.items()


def is_peer(peer: Manifest, pod: Pod) -> bool:
    """https://kubernetes.io/docs/concepts/services-networking/network-policies/#behavior-of-to-and-from-selectors"""
    assert peer.keys() <= {"namespaceSelector", "podSelector", "ipBlock"}, f"not modelled: {peer}"
    if "ipBlock" in peer:
        return False  # only labels are modelled
    if "namespaceSelector" in peer:
        # Kubernetes labels each namespace with its name.
        if not matches(peer["namespaceSelector"], {"kubernetes.io/metadata.name": pod.namespace}):
            return False
    elif pod.namespace != RELEASE:
        return False
    return matches(peer.get("podSelector", {}), pod.labels)


def allows(rule: Manifest, side: str, other: Pod, port: int, protocol: str) -> bool:
    assert rule.keys() <= {side, "ports"}, f"not modelled: {rule}"
    return (not rule.get(side) or any(is_peer(peer, other) for peer in rule[side])) and (
        not rule.get("ports") or any(p["port"] == port and p["protocol"] == protocol for p in rule["ports"])
    )


def is_allowed(manifests: list[Manifest], source: Pod, target: Pod, port: int, protocol: str = "TCP") -> bool:
    policies = [m["spec"] for m in manifests if m["kind"] == "NetworkPolicy"]

    def passes(pod: Pod, other: Pod, direction: str, side: str) -> bool:
        selecting = [
            policy
            for policy in policies
            if pod.namespace == RELEASE
            and matches(policy["podSelector"], pod.labels)
            and direction.capitalize() in policy["policyTypes"]
        ]
        return not selecting or any(
            allows(rule, side, other, port, protocol) for policy in selecting for rule in policy.get(direction) or []
        )

    return passes(source, target, "egress", "to") and passes(target, source, "ingress", "from")


def labels_of(manifests: list[Manifest], kind: str) -> dict[str, str]:
    (manifest,) = (m for m in manifests if m["kind"] == kind)
    pod = manifest["metadata"] if kind == "Pod" else manifest["spec"]["template"]["metadata"]
    labels: dict[str, str] = pod["labels"]
    return labels


CHART_OBJECTS = render(helm_tests=True)
API = Pod(RELEASE, labels_of(CHART_OBJECTS, "Deployment"))
POSTGRES = Pod(RELEASE, labels_of(CHART_OBJECTS, "StatefulSet"))
HELM_TEST = Pod(RELEASE, labels_of(CHART_OBJECTS, "Pod"))
INGRESS_CONTROLLER = Pod("ingress-nginx", {"app.kubernetes.io/name": "ingress-nginx"})
PROMETHEUS = Pod("monitoring", {"app.kubernetes.io/name": "prometheus"})
DNS = Pod("kube-system", {"k8s-app": "kube-dns"})
STRANGER = Pod("elsewhere", {"app": "stranger"})
NEIGHBOUR = Pod(RELEASE, {"app": "neighbour"})
DISGUISED = Pod("elsewhere", API.labels | HELM_TEST.labels)  # users can set any label in their own namespace

PAIRS: list[tuple[str, Pod, Pod, int, str, bool]] = [
    ("ingress controller to API", INGRESS_CONTROLLER, API, 8000, "TCP", True),
    ("Prometheus to API", PROMETHEUS, API, 8000, "TCP", True),
    ("helm test to API", HELM_TEST, API, 8000, "TCP", True),
    ("API to PostgreSQL", API, POSTGRES, 5432, "TCP", True),
    ("API to DNS by UDP", API, DNS, 53, "UDP", True),
    ("API to DNS by TCP", API, DNS, 53, "TCP", True),
    ("API to a DNS behind its Service by UDP", API, DNS, 5353, "UDP", True),
    ("API to a DNS behind its Service by TCP", API, DNS, 5353, "TCP", True),
    ("stranger to PostgreSQL", STRANGER, POSTGRES, 5432, "TCP", False),
    ("neighbour to PostgreSQL", NEIGHBOUR, POSTGRES, 5432, "TCP", False),
    ("helm test to PostgreSQL", HELM_TEST, POSTGRES, 5432, "TCP", False),
    ("ingress controller to PostgreSQL", INGRESS_CONTROLLER, POSTGRES, 5432, "TCP", False),
    ("a pod elsewhere with the API's labels to PostgreSQL", DISGUISED, POSTGRES, 5432, "TCP", False),
    ("a pod elsewhere with a client's label to API", DISGUISED, API, 8000, "TCP", False),
    ("stranger to API", STRANGER, API, 8000, "TCP", False),
    ("neighbour without the label to API", NEIGHBOUR, API, 8000, "TCP", False),
    ("ingress controller to another port of the API", INGRESS_CONTROLLER, API, 9000, "TCP", False),
    ("API to a stranger", API, STRANGER, 443, "TCP", False),
    ("API to another port of PostgreSQL", API, POSTGRES, 22, "TCP", False),
    ("PostgreSQL to a stranger", POSTGRES, STRANGER, 443, "TCP", False),
    ("PostgreSQL to DNS", POSTGRES, DNS, 53, "UDP", False),
    ("PostgreSQL to API", POSTGRES, API, 8000, "TCP", False),
]


@pytest.mark.parametrize("origin", ["chart", "k8s"])
@pytest.mark.parametrize(
    ("source", "target", "port", "protocol", "expected"), [pytest.param(*pair[1:], id=pair[0]) for pair in PAIRS]
)
def test_only_the_listed_connections_are_allowed(
    origin: str, source: Pod, target: Pod, port: int, protocol: str, *, expected: bool
) -> None:
    manifests = CHART_OBJECTS if origin == "chart" else raw()
    assert is_allowed(manifests, source, target, port, protocol) is expected


def test_helm_test_pod_reaches_only_the_api() -> None:
    assert all(is_allowed(CHART_OBJECTS, HELM_TEST, DNS, port, "UDP") for port in (53, 5353))
    assert not is_allowed(CHART_OBJECTS, HELM_TEST, STRANGER, 443)
    assert not is_allowed(CHART_OBJECTS, API, HELM_TEST, 8000)


def test_without_policies_every_connection_is_allowed() -> None:
    """The model blocks connections because of the policies, not by default."""
    manifests = render(*sets("networkPolicy.enabled=false"))
    assert not [m for m in manifests if m["kind"] == "NetworkPolicy"]
    assert all(is_allowed(manifests, source, target, port, protocol) for _, source, target, port, protocol, _ in PAIRS)


def test_external_database_is_reachable_on_its_port() -> None:
    manifests = render(*sets("database.existingSecret=mine"))
    assert is_allowed(manifests, API, STRANGER, 5432)
    assert not is_allowed(manifests, API, STRANGER, 443)


@pytest.mark.parametrize(
    ("values", "port"),
    [
        ((), None),
        (("s3.bucket=safe", "s3.existingSecret=keys"), 443),
        (("s3.bucket=safe", "s3.existingSecret=keys", "s3.endpoint=http://minio"), 80),
        (("s3.bucket=safe", "s3.existingSecret=keys", "s3.endpoint=https://minio.example.com:9000/"), 9000),
    ],
)
def test_backup_reaches_only_the_database_and_its_bucket(values: tuple[str, ...], port: int | None) -> None:
    manifests = render(*sets(*(f"database.bundled.backup.{value}" for value in ("enabled=true", *values))))
    pod = Pod(RELEASE, labels_of(manifests, "Job"))
    assert is_allowed(manifests, pod, POSTGRES, 5432)
    assert all(is_allowed(manifests, pod, DNS, dns, "UDP") for dns in (53, 5353))
    assert [p for p in (80, 443, 9000) if is_allowed(manifests, pod, STRANGER, p)] == ([] if port is None else [port])
    assert not is_allowed(manifests, pod, API, 8000)
    assert not is_allowed(manifests, API, pod, 8000)
    assert not is_allowed(CHART_OBJECTS, pod, POSTGRES, 5432)  # backups are disabled there


def test_identity_provider_is_reachable() -> None:
    manifests = render(*sets("auth.mode=oidc", "auth.oidc.issuer=https://login.example.com", "auth.oidc.audience=a"))
    assert is_allowed(manifests, API, STRANGER, 443)


def test_namespaces_and_extra_peers_come_from_values() -> None:
    tracing = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "tracing"}}}
    values = {
        "ingressNamespaces": ["gateways"],
        "monitoringNamespaces": [],
        "extraIngress": [{"podSelector": {"matchLabels": {"app": "neighbour"}}}],
        "extraEgress": [{"to": [tracing], "ports": [{"port": 4318, "protocol": "TCP"}]}],
    }
    manifests = render(*with_json(networkPolicy=values))
    assert is_allowed(manifests, Pod("gateways", {}), API, 8000)
    assert not is_allowed(manifests, INGRESS_CONTROLLER, API, 8000)
    assert not is_allowed(manifests, PROMETHEUS, API, 8000)
    assert is_allowed(manifests, NEIGHBOUR, API, 8000)
    assert is_allowed(manifests, API, Pod("tracing", {}), 4318)
    assert not is_allowed(manifests, API, Pod("tracing", {}), 443)


def test_cloudnativepg_is_reachable_by_the_api_its_operator_and_its_instances() -> None:
    manifests = render(*sets("database.cloudNativePG.enabled=true"))
    instance = Pod(RELEASE, {"cnpg.io/cluster": "task-api-postgres", "cnpg.io/podRole": "instance"})
    operator = Pod("cnpg-system", {"app.kubernetes.io/name": "cloudnative-pg"})
    assert is_allowed(manifests, API, instance, 5432)
    assert not is_allowed(manifests, API, instance, 8000)
    assert is_allowed(manifests, operator, instance, 8000)
    assert is_allowed(manifests, instance, instance, 5432)
    assert is_allowed(manifests, instance, STRANGER, 443)  # the Kubernetes API, at any address
    assert is_allowed(manifests, PROMETHEUS, instance, 9187)
    assert not is_allowed(manifests, STRANGER, instance, 5432)
    assert not is_allowed(manifests, NEIGHBOUR, instance, 5432)
