"""A namespace for a test: commands in it, a client of its service, and its state for failure reports."""

from __future__ import annotations

import os
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import httpx2
from e2e.cluster import REPOSITORY, client_of, version
from e2e.eventually import eventually
from under_test import SERVICE

SCALE_DOWN = "autoscaling.behavior.scaleDown"
QUICK_DOWN = (
    f"--set {SCALE_DOWN}.stabilizationWindowSeconds=10 --set {SCALE_DOWN}.policies[0].type=Pods"
    f" --set {SCALE_DOWN}.policies[0].value=10 --set {SCALE_DOWN}.policies[0].periodSeconds=15"
)
"""Scale-down after ten seconds instead of the chart's five minutes, of all surplus pods at once."""


HELMS = ("HELM_OLDEST_VERSION", "HELM_VERSION", "HELM_4_VERSION")
"""The supported Helm versions, by their names in versions.env."""


def path_with_helm(name: str, folder: Path) -> str:
    """A PATH where `helm` is the one of that name in HELMS, by a link in the folder."""
    binary = REPOSITORY / f".tools/helm-{version(name)}"
    assert binary.exists(), f"{binary} does not exist. Build it with Go (https://go.dev/dl/): scripts/go-tools.sh helm"
    link = folder / name / "helm"
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(binary)
    return f"{link.parent}:{os.environ['PATH']}"


class Namespace:
    """A namespace for a test, and a shell whose kubectl and helm use it."""

    created: ClassVar[list[Namespace]] = []

    def __init__(self, name: str, kubeconfig: Path, image: str, https_port: int) -> None:
        self.name = name
        self.host = f"{name}.test"  # ingress-nginx's webhook rejects two Ingresses with the same host
        self.image = image
        repository, _, tag = image.rpartition(":")  # the repository may contain a registry's port
        self.values = (
            f"--set image.repository={repository} --set image.tag={tag}"
            f" --set ingress.host={self.host} --set ingress.tls.secretName={SERVICE}-tls"
            f" --set pods.api.podLabels.e2e={name}"  # distinguishes its pods from those of other releases on a node
        )
        self._environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
        self._folder = kubeconfig.parent
        self._https_port = https_port
        self._certificate = ""

    def use_helm(self, name: str) -> None:
        """From here on `helm` is the one of that name in HELMS, also in scripts."""
        self.use_path(path_with_helm(name, self._folder))

    def use_path(self, path: str) -> None:
        """From here on programs are looked up in this PATH."""
        self._environment["PATH"] = path

    def install(self, replicas: int = 3) -> None:
        """Installs the chart with the namespace's values, and returns once this many replicas serve."""
        self.run(f"helm install {SERVICE} ./platform/helm/{SERVICE} {self.values} --wait --timeout 120s")
        self.wait_for_replicas(replicas)
        self.wait_until_it_serves()

    def run(self, command: str, *, seconds: float = 180, folder: Path = REPOSITORY) -> str:
        """The output of a command that must succeed, as typed by a user, by default in the repository."""
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
        """A single command that runs until it is terminated."""
        with output.open("w") as file:
            return subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=REPOSITORY,
                env=self._environment,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    def make_certificate(self, folder: Path) -> None:
        """Creates the Secret with a self-signed certificate for the namespace's host, with the command of
        ingress.yaml."""
        # A file, not -addext: the LibreSSL of older macOS versions lacks that option.
        (folder / "request").write_text(
            "[req]\nprompt = no\ndistinguished_name = name\nx509_extensions = extensions\n"
            f"[name]\nCN = {self.host}\n"
            f"[extensions]\nsubjectAltName = DNS:{self.host}\nbasicConstraints = critical, CA:TRUE\n"
            "keyUsage = critical, digitalSignature, keyCertSign\n"
        )
        self.run(
            "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -config request -keyout tls.key -out tls.crt"
            f" && kubectl create secret tls {SERVICE}-tls --cert=tls.crt --key=tls.key",
            folder=folder,
        )
        self._certificate = (folder / "tls.crt").read_text()

    def trust(self) -> ssl.SSLContext:
        """Trusts only that certificate."""
        return ssl.create_default_context(cadata=self._certificate)

    def client(self) -> httpx2.Client:
        """A client of the namespace's API through the ingress."""
        return client_of(self.host, self.trust(), self._https_port)

    def wait_until_it_serves(self, path: str = "/readyz", *, seconds: float = 60) -> None:
        """Returns once the ingress controller routes to the API."""

        def answers() -> bool:
            try:
                with self.client() as client:
                    return client.get(path).status_code == 200
            except httpx2.TransportError:  # before its reload the controller has a different certificate
                return False

        eventually(answers, f"https://{self.host}{path} returns 200 through the ingress", seconds=seconds)

    def wait_until_the_ingress_is_gone(self) -> None:
        """Returns once the ingress controller has removed the host."""

        def removed() -> bool:
            try:
                with self.client() as client:
                    return client.get("/livez").status_code == 404  # 503 while the host exists and has no pods
            except httpx2.ConnectError:  # or the certificate is a different one
                return True

        eventually(removed, f"the ingress controller no longer knows {self.host}", seconds=60)

    def wait_for_rollout(self, *, seconds: float = 120) -> None:
        """Returns once every pod is of the newest revision.

        `helm --wait` of Helm 3 returns earlier: it considers a Deployment ready when all but maxUnavailable of its new
        pods are, and an old one may still serve.
        """
        self.run(f"kubectl rollout status deployment/{SERVICE} --timeout={seconds:.0f}s")

    def wait_for_replicas(self, count: int, *, seconds: float = 120) -> None:
        """Returns once the Deployment has exactly this number of pods, all of them ready."""
        query = (
            f"kubectl get deployment {SERVICE}"
            " -o jsonpath='{.spec.replicas} {.status.replicas} {.status.readyReplicas}'"
        )
        eventually(lambda: self.run(query).split() == [str(count)] * 3, f"{count} replicas are ready", seconds=seconds)

    def describe(self) -> str:
        """The namespace's state, for failure reports."""
        commands = (
            "kubectl get pods,hpa,ingress,pvc -o wide",
            "kubectl get events --sort-by=.lastTimestamp | tail -n 25",
            f"kubectl logs -l app={SERVICE} --prefix --tail=20",
            f"kubectl logs -l app={SERVICE} --prefix --tail=20 --previous",  # of restarted containers
            "kubectl logs -l app.kubernetes.io/name=postgres --prefix --tail=20",
            "kubectl logs -l app.kubernetes.io/name=postgres --prefix --tail=20 --previous",
        )
        outputs = []
        for command in commands:
            result = self.attempt(command)
            outputs.append(f"$ {command}\n{result.stdout}{result.stderr}")
        return "\n".join(outputs)


MakeNamespace = Callable[[str], Namespace]
