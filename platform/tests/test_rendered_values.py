"""Values are rendered into the manifests, with their consequences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from manifests import api_container, environment, helm_error, one, render, sets, with_json
from under_test import PREFIX, SERVICE


def test_cloud_annotations_are_on_the_service_account() -> None:
    assert "annotations" not in one("ServiceAccount", render())["metadata"]
    annotations = {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/orders"}
    account = one("ServiceAccount", render(*with_json(serviceAccount={"annotations": annotations})))
    assert account["metadata"]["annotations"] == annotations
    assert account["automountServiceAccountToken"] is False


@pytest.mark.parametrize("kind", ["ClusterIP", "NodePort", "LoadBalancer"])
def test_service_has_the_requested_type_and_ip_families(kind: str) -> None:
    rendered = render(*sets(f"service.type={kind}", "service.ipFamilyPolicy=PreferDualStack"))
    (service,) = (m["spec"] for m in rendered if (m["kind"], m["metadata"]["name"]) == ("Service", SERVICE))
    assert (service["type"], service["ipFamilyPolicy"]) == (kind, "PreferDualStack")
    assert not any("ipFamilyPolicy" in m.get("spec", {}) for m in render())


@pytest.mark.parametrize("value", ["service.type=ExternalName", "service.ipFamilyPolicy=Dual"])
def test_unknown_service_type_is_rejected_by_name(value: str) -> None:
    assert value.partition(".")[2].partition("=")[0] in helm_error(*sets(value))


@pytest.mark.parametrize("number", [2, "50%"])
def test_disruption_budget_allows_the_configured_number_of_pods(number: int | str) -> None:
    budget = one("PodDisruptionBudget", render(*sets(f"podDisruptionBudget.maxUnavailable={number}")))
    assert budget["spec"]["maxUnavailable"] == number


def spread(*arguments: str) -> list[dict[str, Any]]:
    constraints: list[dict[str, Any]] = one("Deployment", render(*arguments))["spec"]["template"]["spec"][
        "topologySpreadConstraints"
    ]
    return constraints


def test_custom_spread_constraints_replace_the_charts_and_count_the_apis_pods() -> None:
    assert [constraint["whenUnsatisfiable"] for constraint in spread()] == ["ScheduleAnyway"] * 2
    selector = spread()[0]["labelSelector"]
    zones = {"topologyKey": "topology.kubernetes.io/zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}
    custom = {"matchLabels": {"a": "b"}}
    assert spread(*with_json(topologySpreadConstraints=[zones, zones | {"labelSelector": custom, "maxSkew": 2}])) == [
        zones | {"labelSelector": selector},
        zones | {"labelSelector": custom, "maxSkew": 2},
    ]


def test_probe_times_are_rendered_beside_the_paths() -> None:
    times = {"periodSeconds": 7, "timeoutSeconds": 6, "failureThreshold": 5}
    container = api_container(render(*with_json(probes=dict.fromkeys(("startup", "liveness", "readiness"), times))))
    for probe, path in (("startup", "/livez"), ("liveness", "/livez"), ("readiness", "/readyz")):
        request = {"path": path, "port": "http", "scheme": "HTTP"}
        assert container[f"{probe}Probe"] == {"httpGet": request, "successThreshold": 1, **times}


@pytest.mark.parametrize(
    ("values", "deadline"),
    [
        ((), None),
        (("probes.startup.failureThreshold=596",), None),  # 599 s with minReadySeconds, within the server's 600
        (("probes.startup.failureThreshold=597",), 660),
        (("probes.startup.periodSeconds=10",), 3063),
        (("minReadySeconds=900",), 1260),
    ],
)
def test_rollout_deadline_exceeds_a_pods_startup_time(values: tuple[str, ...], deadline: int | None) -> None:
    spec = one("Deployment", render(*sets(*values)))["spec"]
    assert spec.get("progressDeadlineSeconds") == deadline
    assert spec["minReadySeconds"] < spec.get("progressDeadlineSeconds", 600)  # or the server rejects it


def test_one_value_limits_the_body_size_for_service_and_nginx() -> None:
    name, annotation = f"{PREFIX}BODY_MAX_BYTES", "nginx.ingress.kubernetes.io/proxy-body-size"
    rendered = render()
    assert name not in environment(api_container(rendered))
    assert annotation not in one("Ingress", rendered)["metadata"]["annotations"]
    for size in (8388608, 1073741824):  # in bytes, however Go would print so large a number
        rendered = render(*sets(f"maxBodyBytes={size}"))
        assert environment(api_container(rendered))[name] == str(size)
        assert one("Ingress", rendered)["metadata"]["annotations"][annotation] == str(size)
    rendered = render(*sets("maxBodyBytes=2097152"), *with_json(**{"ingress.annotations": {annotation: "9m"}}))
    assert one("Ingress", rendered)["metadata"]["annotations"][annotation] == "9m"
    # Users who set the service's own limit may continue to, but not set both.
    extra_env = with_json(extraEnv=[{"name": name, "value": "9"}])
    assert environment(api_container(render(*extra_env)))[name] == "9"
    assert "Set maxBodyBytes instead." in helm_error(*extra_env, *sets("maxBodyBytes=2097152"))


@pytest.mark.parametrize("written", ["8388608", "8.388608e+06", "1048577"])
def test_limit_from_a_file_is_the_same_number(written: str, tmp_path: Path) -> None:
    """All numbers of a file are floats in Helm."""
    (tmp_path / "values.yaml").write_text(f"maxBodyBytes: {written}\n")
    container = api_container(render("--values", str(tmp_path / "values.yaml")))
    assert environment(container)[f"{PREFIX}BODY_MAX_BYTES"] == str(int(float(written)))
