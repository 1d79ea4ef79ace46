"""An umbrella chart with two aliases of the chart: each has its own pods, its own database and its own data."""

from __future__ import annotations

import json

import httpx2
import pytest
from documentation import blocks, commands_run_by
from e2e.cluster import REPOSITORY
from e2e.eventually import eventually
from e2e.example import EXAMPLE
from e2e.namespace import MakeNamespace, Namespace

pytestmark = [pytest.mark.full, pytest.mark.timeout(600)]

ALIASES = ("red", "blue")
PAGE, SECTION = "docs/extend.md", "Use as a subchart"
(COMMANDS,) = commands_run_by("e2e/task_api/test_umbrella.py", PAGE)
*INSTALL, TEST = COMMANDS.commands.splitlines()


@pytest.fixture(scope="module")
def shop(make_namespace: MakeNamespace, tmp_path_factory: pytest.TempPathFactory) -> Namespace:
    """The release, served below /red and /blue of the same host."""
    namespace = make_namespace("e2e-umbrella")
    folder = tmp_path_factory.mktemp("around")
    (folder / "shop").mkdir()
    chart, values = (block.text for block in blocks(PAGE) if block.section == SECTION and block.language == "yaml")
    repository, _, tag = namespace.image.rpartition(":")
    for placeholder, value in (
        ("oci://ghcr.io/you/charts", f"file://{REPOSITORY}/platform/helm/task-api"),
        ("repository: you/task-api", f"repository: {repository}"),
        ("COMMIT", f'"{tag}"'),
        ("tasks.example.com", namespace.host),
        ("blue:\n", "blue:\n  maxBodyBytes: 3000000\n"),
        ("  enabled: true\n", "  enabled: true\n  replicaCount: 2\n"),
    ):
        assert placeholder in chart + values
        chart, values = chart.replace(placeholder, value), values.replace(placeholder, value)
    (folder / "shop/Chart.yaml").write_text(chart)
    (folder / "shop/values.yaml").write_text(values)
    for command in INSTALL:
        namespace.run(command, folder=folder)
    for alias in ALIASES:
        namespace.run(f"kubectl rollout status deployment/shop-{alias} --timeout=120s")
        namespace.wait_until_it_serves(f"/{alias}/readyz")
    return namespace


def client_below(namespace: Namespace, alias: str) -> httpx2.Client:
    client = namespace.client()
    client.base_url = client.base_url.join(f"/{alias}/")
    return client


def test_data_written_to_one_alias_is_invisible_to_the_other(shop: Namespace) -> None:
    written = {}
    for alias in ALIASES:
        with client_below(shop, alias) as client:
            written[alias] = [EXAMPLE.write(client) for _ in range(5)]
    for alias in ALIASES:
        with client_below(shop, alias) as client:
            for owner, entries in written.items():
                for path, content in entries * 4:  # from any pod, on any of its connections
                    response = client.get(path)
                    if owner == alias:
                        assert response.json() == content
                    else:
                        assert response.status_code == 404


def test_each_service_selects_the_pods_of_its_own_alias(shop: Namespace) -> None:
    for alias in ALIASES:
        for name in (f"shop-{alias}", f"shop-{alias}-postgres"):
            slices = json.loads(shop.run(f"kubectl get endpointslices -l kubernetes.io/service-name={name} -o json"))[
                "items"
            ]
            pods = {endpoint["targetRef"]["name"] for slice_ in slices for endpoint in slice_.get("endpoints") or []}
            assert pods
            assert all(pod.startswith(f"shop-{alias}-") for pod in pods)
            assert name != f"shop-{alias}-postgres" or pods == {f"{name}-0"}


def test_database_failure_affects_only_its_own_alias(shop: Namespace) -> None:
    written = {}
    for alias in ALIASES:
        with client_below(shop, alias) as client:
            written[alias], _ = EXAMPLE.write(client)
    shop.run("kubectl scale statefulset/shop-red-postgres --replicas=0")
    try:
        with client_below(shop, "red") as red, client_below(shop, "blue") as blue:
            eventually(
                lambda: red.get(written["red"]).status_code == 503, "red reports its missing database", seconds=60
            )
            assert {blue.get(written["blue"]).status_code for _ in range(12)} == {200}
    finally:
        shop.run("kubectl scale statefulset/shop-red-postgres --replicas=1")
    with client_below(shop, "red") as red:
        eventually(lambda: red.get(written["red"]).status_code == 200, "red is connected to its database again")


def test_larger_request_body_passes_the_ingress_where_configured(shop: Namespace) -> None:
    """Otherwise nginx responds in HTML: docs/problems.md says how to tell that from the service's own 413."""
    responses = {}
    for alias in ALIASES:
        with client_below(shop, alias) as client:
            responses[alias] = client.post("/v1/tasks", json={"title": "x" * 2_000_000})
    assert (responses["red"].status_code, responses["blue"].status_code) == (413, 422)
    assert "<center>nginx</center>" in responses["red"].text
    assert responses["blue"].headers["content-type"] == "application/problem+json"
    with client_below(shop, "blue") as client:
        assert client.post("/v1/tasks", content=b"x" * 3_200_000).status_code == 413


def test_helm_test_tests_each_alias(shop: Namespace) -> None:
    output = shop.run(TEST)
    assert output.count(EXAMPLE.helm_test) == 2
