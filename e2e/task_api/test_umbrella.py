"""A chart around two aliases of the chart: each has its own pods, its own database and its own data."""

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
    """The release, served below /red and /blue of one host."""
    namespace = make_namespace("e2e-umbrella")
    folder = tmp_path_factory.mktemp("around")
    (folder / "shop").mkdir()
    chart, values = (block.text for block in blocks(PAGE) if block.section == SECTION and block.language == "yaml")
    repository, _, tag = namespace.image.rpartition(":")
    for of_the_reader, ours in (
        ("oci://ghcr.io/you/charts", f"file://{REPOSITORY}/platform/helm/task-api"),
        ("repository: you/task-api", f"repository: {repository}"),
        ("COMMIT", f'"{tag}"'),
        ("tasks.example.com", namespace.host),
        ("blue:\n", "blue:\n  maxBodyBytes: 3000000\n"),
        ("  enabled: true\n", "  enabled: true\n  replicaCount: 2\n"),
    ):
        assert of_the_reader in chart + values
        chart, values = chart.replace(of_the_reader, ours), values.replace(of_the_reader, ours)
    (folder / "shop/Chart.yaml").write_text(chart)
    (folder / "shop/values.yaml").write_text(values)
    for command in INSTALL:
        namespace.run(command, folder=folder)
    for alias in ALIASES:
        namespace.run(f"kubectl rollout status deployment/shop-{alias} --timeout=120s")
        namespace.wait_until_it_serves(f"/{alias}/readyz")
    return namespace


def below(namespace: Namespace, alias: str) -> httpx2.Client:
    client = namespace.client()
    client.base_url = client.base_url.join(f"/{alias}/")
    return client


def test_what_is_written_to_one_is_never_read_from_the_other(shop: Namespace) -> None:
    written = {}
    for alias in ALIASES:
        with below(shop, alias) as client:
            written[alias] = [EXAMPLE.write(client) for _ in range(5)]
    for alias in ALIASES:
        with below(shop, alias) as client:
            for owner, entries in written.items():
                for path, said in entries * 4:  # by any of the pods, on any of their connections
                    answer = client.get(path)
                    if owner == alias:
                        assert answer.json() == said
                    else:
                        assert answer.status_code == 404


def test_each_service_leads_to_the_pods_of_its_own_alias(shop: Namespace) -> None:
    for alias in ALIASES:
        for name in (f"shop-{alias}", f"shop-{alias}-postgres"):
            slices = json.loads(shop.run(f"kubectl get endpointslices -l kubernetes.io/service-name={name} -o json"))[
                "items"
            ]
            pods = {end["targetRef"]["name"] for found in slices for end in found.get("endpoints") or []}
            assert pods
            assert all(pod.startswith(f"shop-{alias}-") for pod in pods)
            assert name != f"shop-{alias}-postgres" or pods == {f"{name}-0"}


def test_a_database_that_is_gone_stops_its_own_alias_alone(shop: Namespace) -> None:
    written = {}
    for alias in ALIASES:
        with below(shop, alias) as client:
            written[alias], _ = EXAMPLE.write(client)
    shop.run("kubectl scale statefulset/shop-red-postgres --replicas=0")
    try:
        with below(shop, "red") as red, below(shop, "blue") as blue:
            eventually(lambda: red.get(written["red"]).status_code == 503, "red misses its database", seconds=60)
            assert {blue.get(written["blue"]).status_code for _ in range(12)} == {200}
    finally:
        shop.run("kubectl scale statefulset/shop-red-postgres --replicas=1")
    with below(shop, "red") as red:
        eventually(lambda: red.get(written["red"]).status_code == 200, "red has its database back")


def test_a_larger_body_comes_through_the_ingress_where_the_value_says_so(shop: Namespace) -> None:
    """nginx answers for itself, in HTML: docs/problems.md says how it is told from the service's own 413."""
    answers = {}
    for alias in ALIASES:
        with below(shop, alias) as client:
            answers[alias] = client.post("/v1/tasks", json={"title": "x" * 2_000_000})
    assert (answers["red"].status_code, answers["blue"].status_code) == (413, 422)
    assert "<center>nginx</center>" in answers["red"].text
    assert answers["blue"].headers["content-type"] == "application/problem+json"
    with below(shop, "blue") as client:
        assert client.post("/v1/tasks", content=b"x" * 3_200_000).status_code == 413


def test_helm_test_asks_each_of_them(shop: Namespace) -> None:
    said = shop.run(TEST)
    assert said.count(EXAMPLE.helm_test) == 2
