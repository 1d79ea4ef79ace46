"""The image that was built and the cluster that `make up` made, as a client sees them."""

from __future__ import annotations

import base64
import os
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, NoReturn, TypeVar

import httpx2
import kubernetes
import pytest
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import HttpWaitStrategy

T = TypeVar("T")

REPOSITORY = Path(__file__).parent.parent
CONTEXT = "kind-task-platform"
NAMESPACE = "default"
HOST = "task-api.local"

SUMMARY = "summary"
"""What a test records under this name is printed at the end of the run."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints what tests recorded as their summary."""
    for report in terminalreporter.getreports("passed"):
        for name, text in report.user_properties:
            if name == SUMMARY:
                terminalreporter.write_line(f"\n{text}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Shows beside a failure what the test's own namespaces look like: they are gone when the run ends."""
    report = yield
    if report.failed:
        namespaces = {fixture for fixture in item.funcargs.values() if isinstance(fixture, Namespace)}
        if report.when == "setup":  # the one that is being set up is not yet a fixture's value
            namespaces |= set(Namespace.made[-1:])
        for namespace in namespaces:
            report.sections.append((f"namespace {namespace.name}", namespace.look()))
    return report


def leave_out(what: str) -> NoReturn:
    """Skips a test for want of what is named; with REQUIRE_ALL=1, as in continuous integration, it fails instead."""
    if os.environ.get("REQUIRE_ALL") == "1":
        pytest.fail(f"REQUIRE_ALL=1, but {what}")
    pytest.skip(
        what
    )  # a contributor without this tool can still run the rest; the run's summary lists what was left out


def eventually(look: Callable[[], T | None], what: str, *, seconds: float = 120) -> T:
    """What `look` returns once it is neither None nor False; fails with `what` when that takes too long."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found is not None and found is not False:
            return found
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.5)


@pytest.fixture(scope="session")
def image() -> str:
    """The image under test: the one of this content, which `make up` deploys."""
    return os.environ["IMAGE"]


@pytest.fixture(scope="session")
def registry() -> Iterator[str]:
    """A registry of the run's own, as HOST:PORT."""
    container = DockerContainer("registry:3").with_exposed_ports(5000)
    with container.waiting_for(HttpWaitStrategy(5000, "/v2/")):
        # By this name clients speak plain HTTP to it.
        yield f"127.0.0.1:{container.get_exposed_port(5000)}"


class Cluster:
    """The cluster of `make up`, through its own kubeconfig."""

    def __init__(self) -> None:
        client = kubernetes.config.new_client_from_config(str(REPOSITORY / ".kube/config"), context=CONTEXT)
        self.core = kubernetes.client.CoreV1Api(client)
        self.apps = kubernetes.client.AppsV1Api(client)
        self.autoscaling = kubernetes.client.AutoscalingV2Api(client)

    def ready_pods(self) -> list[Any]:
        """The API's pods that are ready and stay (V1Pod)."""
        pods = self.core.list_namespaced_pod(NAMESPACE, label_selector="app=task-api").items
        return [
            pod
            for pod in pods
            if pod.metadata.deletion_timestamp is None
            and any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions or [])
        ]

    def certificate(self) -> str:
        """The certificate of the Secret task-api-tls, as PEM."""
        secret = self.core.read_namespaced_secret("task-api-tls", NAMESPACE)
        return base64.b64decode(secret.data["tls.crt"]).decode()


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
    """Trusts the cluster's certificate and no other, and checks the host's name."""
    return ssl.create_default_context(cadata=cluster.certificate())


def client_of(host: str, trust: ssl.SSLContext, https_port: int) -> httpx2.Client:
    """A client of https://HOST, whose name need not resolve here."""

    def name_the_host(request: httpx2.Request) -> None:
        request.extensions["sni_hostname"] = host

    client = httpx2.Client(base_url=f"https://127.0.0.1:{https_port}", verify=trust, headers={"Host": host}, timeout=10)
    client.event_hooks["request"].append(name_the_host)
    return client


@pytest.fixture
def api(trust: ssl.SSLContext, https_port: int) -> Iterator[httpx2.Client]:
    """A client of https://task-api.local."""
    with client_of(HOST, trust, https_port) as client:
        yield client


class Namespace:
    """A namespace of a test's own, and a shell whose kubectl and helm work in it."""

    made: ClassVar[list[Namespace]] = []

    def __init__(self, name: str, kubeconfig: Path, image: str, https_port: int) -> None:
        self.name = name
        self.host = f"{name}.test"  # two Ingresses of one host would be refused by ingress-nginx's webhook
        self.image = image
        repository, _, tag = image.rpartition(":")  # the repository may name a registry's port
        self.values = (
            f"--set image.repository={repository} --set image.tag={tag}"
            f" --set ingress.host={self.host} --set ingress.tls.secretName=task-api-tls"
            f" --set podLabels.e2e={name}"  # tells its pods from those of the other releases on a node
        )
        self._environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
        self._https_port = https_port
        self._certificate = ""

    def run(self, command: str, *, seconds: float = 180, folder: Path = REPOSITORY) -> str:
        """What a command says that has to succeed. It is one as a person types it, by default in the repository."""
        done = self.attempt(command, seconds=seconds, folder=folder)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def attempt(
        self, command: str, *, seconds: float = 180, folder: Path = REPOSITORY
    ) -> subprocess.CompletedProcess[str]:
        """A command that may fail."""
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=seconds,
        )

    def start(self, command: str, output: Path) -> subprocess.Popen[bytes]:
        """A single command that goes on until it is terminated."""
        with output.open("w") as file:
            return subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=REPOSITORY,
                env=self._environment,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    def make_certificate(self, folder: Path) -> None:
        """Makes the Secret task-api-tls, self-signed for the namespace's host, by the command of ingress.yaml."""
        # A file, not -addext: the LibreSSL of older macOS does not know that option.
        (folder / "request").write_text(
            "[req]\nprompt = no\ndistinguished_name = name\nx509_extensions = extensions\n"
            f"[name]\nCN = {self.host}\n"
            f"[extensions]\nsubjectAltName = DNS:{self.host}\nbasicConstraints = critical, CA:TRUE\n"
            "keyUsage = critical, digitalSignature, keyCertSign\n"
        )
        self.run(
            "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -config request -keyout tls.key -out tls.crt"
            " && kubectl create secret tls task-api-tls --cert=tls.crt --key=tls.key",
            folder=folder,
        )
        self._certificate = (folder / "tls.crt").read_text()

    def client(self) -> httpx2.Client:
        """A client of the namespace's API through the ingress, which trusts that certificate and no other."""
        return client_of(self.host, ssl.create_default_context(cadata=self._certificate), self._https_port)

    def wait_until_it_serves(self, path: str = "/readyz", *, seconds: float = 60) -> None:
        """Returns once the ingress controller leads to the API."""

        def answers() -> bool:
            try:
                with self.client() as client:
                    return client.get(path).status_code == 200
            except httpx2.TransportError:  # before its reload the controller shows a certificate of its own
                return False

        eventually(answers, f"https://{self.host}{path} is answered with 200 through the ingress", seconds=seconds)

    def wait_until_the_ingress_is_gone(self) -> None:
        """Returns once the ingress controller has forgotten the host."""

        def forgotten() -> bool:
            try:
                with self.client() as client:
                    return client.get("/livez").status_code == 404  # 503 while it knows the host and has no pod
            except httpx2.ConnectError:  # or it shows a certificate of its own
                return True

        eventually(forgotten, f"the ingress controller no longer knows {self.host}", seconds=60)

    def wait_for_rollout(self, *, seconds: float = 120) -> None:
        """Returns once every pod is of the newest revision.

        `helm --wait` of Helm 3 does not wait so long: to it a Deployment is ready when all but maxUnavailable of its
        new pods are, and an old one may still serve.
        """
        self.run(f"kubectl rollout status deployment/task-api --timeout={seconds:.0f}s")

    def wait_for_replicas(self, wanted: int, *, seconds: float = 120) -> None:
        """Returns once the Deployment has exactly so many pods, all of them ready."""
        look = (
            "kubectl get deployment task-api -o jsonpath='{.spec.replicas} {.status.replicas} {.status.readyReplicas}'"
        )
        eventually(lambda: self.run(look).split() == [str(wanted)] * 3, f"{wanted} replicas are ready", seconds=seconds)

    def look(self) -> str:
        """What a person would look at."""
        commands = (
            "kubectl get pods,hpa,ingress,pvc -o wide",
            "kubectl get events --sort-by=.lastTimestamp | tail -n 25",
            "kubectl logs -l app=task-api --prefix --tail=20",
            "kubectl logs -l app=task-api --prefix --tail=20 --previous",  # of those that were started again
            "kubectl logs -l app.kubernetes.io/name=postgres --prefix --tail=20",
            "kubectl logs -l app.kubernetes.io/name=postgres --prefix --tail=20 --previous",
        )
        said = []
        for command in commands:
            done = self.attempt(command)
            said.append(f"$ {command}\n{done.stdout}{done.stderr}")
        return "\n".join(said)


CALM = "autoscaling.behavior.scaleDown"
QUICK_DOWN = (
    f"--set {CALM}.stabilizationWindowSeconds=10 --set {CALM}.policies[0].type=Pods"
    f" --set {CALM}.policies[0].value=10 --set {CALM}.policies[0].periodSeconds=15"
)
"""Pods go after ten seconds without need, where the chart says five minutes, and all of them at once."""

MakeNamespace = Callable[[str], Namespace]


@pytest.fixture(scope="session")
def make_namespace(tmp_path_factory: pytest.TempPathFactory, image: str, https_port: int) -> Iterator[MakeNamespace]:
    """Makes namespaces that admit restricted pods alone, each with a certificate; removes them when the run ends."""

    def make(name: str) -> Namespace:
        folder = tmp_path_factory.mktemp(name)
        namespace = Namespace(name, folder / "kubeconfig", image, https_port)
        namespace.run(
            f"kubectl config view --kubeconfig {REPOSITORY}/.kube/config --flatten --minify --context {CONTEXT}"
            f" > {folder}/kubeconfig && kubectl config set-context --current --namespace {name}"
            f" && kubectl delete namespace {name} --ignore-not-found"  # left by a run that was killed
            f" && kubectl create namespace {name}"
        )
        Namespace.made.append(namespace)
        namespace.run(f"kubectl label namespace {name} pod-security.kubernetes.io/enforce=restricted")
        namespace.make_certificate(folder)
        return namespace

    yield make
    for namespace in Namespace.made:
        namespace.run("kubectl delete deployments,statefulsets,pods --all --grace-period=1 --wait=false")
    for namespace in Namespace.made:
        # Without pods: while there are any, it looks again only after half their longest grace period (60 s).
        namespace.run("kubectl delete pods --all --grace-period=1")
        namespace.run(f"kubectl delete namespace {namespace.name} --wait=false")
    for namespace in Namespace.made:
        namespace.run(f"kubectl wait --for=delete namespace/{namespace.name} --timeout=120s")


@pytest.fixture(scope="session")
def release(make_namespace: MakeNamespace) -> Namespace:
    """The chart installed as `task-api` in a namespace of its own; every test that takes it leaves three replicas."""
    namespace = make_namespace("e2e-chart")
    namespace.run(f"helm install task-api ./platform/helm/task-api {namespace.values} --wait --timeout 120s")
    namespace.wait_for_replicas(3)
    namespace.wait_until_it_serves()
    return namespace


@pytest.fixture(scope="session")
def monitoring() -> None:
    """The Prometheus Operator with its resource definitions, a Prometheus, and the release that it scrapes."""
    done = subprocess.run(
        ["make", "up"],
        cwd=REPOSITORY,
        env={**os.environ, "MONITORING": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr


class Traffic:
    """A client that writes, reads and deletes tasks all the time, and notes each answer that is not the right one.

    Writes too: nginx asks a second pod when a GET fails, so with reads alone lost requests would not be seen.
    """

    def __init__(self, namespace: Namespace, token: str = "") -> None:
        self.answers = 0
        self.wrong: list[str] = []
        self._namespace = namespace
        self._token = token
        self._stop = threading.Event()
        self._thread = ThreadPoolExecutor(max_workers=1)

    def __enter__(self) -> Traffic:
        self._asking = self._thread.submit(self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.shutdown()  # each request has a timeout
        if kind is None:
            self._asking.result()  # raises what ended the client before the test did

    def _ask(self) -> None:
        with self._namespace.client() as client:
            if self._token:
                client.headers["Authorization"] = f"Bearer {self._token}"
            while not self._stop.wait(0.02):
                try:
                    written = client.post("/v1/tasks", json={"title": "all the time"})
                    self._note(written, 201)
                    if written.status_code == 201:
                        self._note(client.get(written.headers["location"]), 200)
                        self._note(client.delete(written.headers["location"]), 204)
                except httpx2.TransportError as error:
                    self.wrong.append(f"{time.strftime('%X')} {error!r}")

    def _note(self, response: httpx2.Response, wanted: int) -> None:
        self.answers += 1
        if response.status_code != wanted:
            request = response.request
            self.wrong.append(f"{time.strftime('%X')} {request.method} {request.url.path}: {response.status_code}")
