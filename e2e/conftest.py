"""Shared fixtures: the built image, the cluster of `make up`, releases in separate namespaces."""

from __future__ import annotations

import contextlib
import os
import shutil
import ssl
import subprocess
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import httpx2
import pytest
from e2e.cluster import HOST, REPOSITORY, Cluster, client_of, create_namespace, kubectl, version
from e2e.eventually import eventually
from e2e.namespace import MakeNamespace, Namespace
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import HttpWaitStrategy
from under_test import HAS_DATABASE, SERVICE
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

SUMMARY = "summary"
"""Properties that tests record under this name are printed at the end of the run."""


RELEASES = (
    "admission",
    "chart",
    "disruption",
    "gateway",
    "monitoring",
    "new_service",
    "scaling",
    "service",
    "up",
)
"""Files that share a release (that of `make up`, or the one that `release` installs) or nodes."""


class ByRelease(LoadFileScheduling):
    """Schedules whole files on a worker, files of the same name together, and all that share a release on the same one.

    The mark xdist_group would be shorter, but xdist 3.8 does not see it with pytest 9.2 (findings/xdist-groups.sh).
    """

    def _split_scope(self, nodeid: str) -> str:
        name = Path(nodeid.partition("::")[0]).stem
        return "releases" if name.removeprefix("test_") in RELEASES else name


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByRelease:
    """Called with several workers: `make e2e` has two."""
    return ByRelease(config, log)


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Rejects files that share a release and are not in RELEASES: two workers would change it concurrently."""
    for item in items:
        if not item.path.is_relative_to(Path(__file__).parent):
            continue  # the platform's tests, collected together with these
        shared = {"cluster", "api", "monitoring", "release", "below_a_path", "gateway_api"}.intersection(
            item.fixturenames
        )
        if shared and item.path.stem.removeprefix("test_") not in RELEASES:
            raise pytest.UsageError(f"{item.path.name} uses {shared}: add it to RELEASES in e2e/conftest.py")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints the recorded summaries."""
    for report in terminalreporter.getreports("passed"):
        for name, text in report.user_properties:
            if name == SUMMARY:
                terminalreporter.write_line(f"\n{text}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds the state of the test's namespaces to a failure: they are deleted at the end of the run."""
    report = yield
    if report.failed:
        namespaces = {fixture for fixture in item.funcargs.values() if isinstance(fixture, Namespace)}
        if report.when == "setup":  # a namespace still in setup is not a fixture value yet
            namespaces |= set(Namespace.created[-1:])
        for namespace in namespaces:
            report.sections.append((f"namespace {namespace.name}", namespace.describe()))
    return report


@pytest.fixture(scope="session")
def image() -> str:
    """The image under test: that of the current sources, deployed by `make up`."""
    return os.environ["IMAGE"]


@pytest.fixture(scope="session")
def dev_image() -> Iterator[str]:
    """The image of the `dev` stage, for Tilt."""
    done = subprocess.run(
        ["docker", "build", "--quiet", "--target", "dev", "."],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    image = done.stdout.split()[-1]
    yield image
    subprocess.run(["docker", "image", "rm", "--force", image], capture_output=True, check=True)


@pytest.fixture(scope="session")
def registry() -> Iterator[str]:
    """A registry for this run, as HOST:PORT."""
    container = DockerContainer("registry:3").with_exposed_ports(5000)
    with container.waiting_for(HttpWaitStrategy(5000, "/v2/")):
        # Clients use plain HTTP with this address.
        yield f"127.0.0.1:{container.get_exposed_port(5000)}"


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture(scope="session")
def https_port() -> int:
    return int(os.environ["HTTPS_PORT"])


@pytest.fixture(scope="session")
def http_port() -> int:
    return int(os.environ["HTTP_PORT"])


@pytest.fixture(scope="session")
def trust(cluster: Cluster) -> ssl.SSLContext:
    """Trusts only the cluster's certificate, and verifies the host name."""
    return ssl.create_default_context(cadata=cluster.certificate())


@pytest.fixture(scope="session")
def wrk() -> str:
    """A compiled load generator: one in Python would compete with the servers for CPU."""
    path = shutil.which("wrk")
    assert path is not None, "wrk was not found. Install it: sudo apt-get install --yes wrk, or brew install wrk"
    return path


@pytest.fixture
def api(trust: ssl.SSLContext, https_port: int) -> Iterator[httpx2.Client]:
    """A client of the service deployed by `make up`."""
    with client_of(HOST, trust, https_port) as client:
        yield client


@pytest.fixture(scope="session")
def make_shared_namespace(
    tmp_path_factory: pytest.TempPathFactory, image: str, https_port: int
) -> Iterator[MakeNamespace]:
    """Creates namespaces that admit only restricted pods, each with a certificate; deletes them at the end of the
    run."""

    def make(name: str) -> Namespace:
        folder = tmp_path_factory.mktemp(name)
        namespace = Namespace(name, folder / "kubeconfig", image, https_port)
        create_namespace(name)
        (folder / "kubeconfig").write_text(kubectl("config", "view", "--flatten", "--minify"))
        namespace.run(f"kubectl config set-context --current --namespace {name}")
        Namespace.created.append(namespace)
        namespace.run(f"kubectl label namespace {name} pod-security.kubernetes.io/enforce=restricted")
        namespace.make_certificate(folder)
        return namespace

    yield make
    for namespace in Namespace.created:
        namespace.run("kubectl delete deployments,statefulsets,pods --all --grace-period=1 --wait=false")
    for namespace in Namespace.created:
        # Delete the pods first: with pods, deletion is only retried after half their longest grace period (60 s).
        namespace.run("kubectl delete pods --all --grace-period=1")
        namespace.run(f"kubectl delete namespace {namespace.name} --wait=false")  # the next run waits for it


@pytest.fixture(scope="module")
def make_namespace(make_shared_namespace: MakeNamespace) -> Iterator[MakeNamespace]:
    """The same, but their pods are deleted after the file: the nodes have no room for the releases of all files."""
    namespaces: list[Namespace] = []

    def make(name: str) -> Namespace:
        namespaces.append(make_shared_namespace(name))
        return namespaces[-1]

    yield make
    for namespace in namespaces:
        namespace.run("kubectl delete cronjobs,jobs,deployments,statefulsets,pods --all --grace-period=1 --wait=false")


@pytest.fixture(scope="session")
def release(make_shared_namespace: MakeNamespace) -> Namespace:
    """The chart in a dedicated namespace; every test that uses it leaves three replicas."""
    namespace = make_shared_namespace("e2e-chart")
    namespace.install()
    return namespace


@pytest.fixture(scope="session")
def smallest(make_shared_namespace: MakeNamespace) -> Namespace:
    """The smallest possible release, one pod below the path /below; it may still be starting."""
    namespace = make_shared_namespace("e2e-path")
    in_memory = "--set database.inMemory=true" if HAS_DATABASE else ""
    namespace.run(
        f"helm install {SERVICE} ./platform/helm/{SERVICE} {namespace.values} --set ingress.path=/below"
        f" --set replicaCount=1 --set autoscaling.enabled=false {in_memory}"
    )
    return namespace


@pytest.fixture(scope="session")
def below_a_path(smallest: Namespace) -> Namespace:
    """The same, once it serves."""
    smallest.wait_for_rollout()
    smallest.wait_until_it_serves("/below/readyz")
    return smallest


@pytest.fixture(scope="session")
def gateway_api() -> Iterator[None]:
    """The CRDs of the Gateway API; deleted afterwards unless they existed before."""

    def definitions() -> list[str]:
        names = kubectl("get", "crd", "--output", "name").split()
        return [definition for definition in names if definition.endswith("gateway.networking.k8s.io")]

    manifest = version("GATEWAY_API_MANIFEST")
    existing = definitions()
    kubectl("apply", "--server-side", "--filename", manifest)
    route = "crd/httproutes.gateway.networking.k8s.io"
    kubectl("wait", "--for=condition=Established", route, "--timeout=60s")
    yield
    if existing:
        return
    kubectl("delete", "--ignore-not-found", "--wait=false", "--filename", manifest)

    def gone() -> bool:
        remaining = definitions()
        for definition in remaining:
            # The server first lists objects of the kind. If that fails, because the CRD is only moments old, it retries
            # after minutes, but immediately when the CRD changes.
            with contextlib.suppress(AssertionError):  # deleted in the meantime
                kubectl("annotate", definition, "--overwrite", f"e2e/removed={time.monotonic()}")
        return not remaining

    eventually(gone, "the CRDs of the Gateway API are deleted: see `kubectl get crd`")


@pytest.fixture(scope="session")
def monitoring() -> None:
    """The Prometheus Operator with its CRDs, a Prometheus, and the release that it scrapes."""
    done = subprocess.run(
        ["make", "up"],
        cwd=REPOSITORY,
        env={**os.environ, "MONITORING": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
