"""Clients during changes of the ingress: another certificate, a restarted controller."""

from __future__ import annotations

import base64
import json
import socket
import ssl
from pathlib import Path

import httpx2
import pytest
from e2e.cluster import client_of
from e2e.eventually import eventually
from e2e.namespace import Namespace
from e2e.task_api.faults.conftest import ClientsDuring

pytestmark = pytest.mark.full

CONTROLLER = "kubectl --namespace ingress-nginx"


def served_certificate(namespace: Namespace, https_port: int) -> bytes:
    """The certificate that a new connection receives."""
    unchecked = ssl.create_default_context()
    unchecked.check_hostname = False
    unchecked.verify_mode = ssl.CERT_NONE  # any certificate: it is compared
    with (
        socket.create_connection(("127.0.0.1", https_port), timeout=10) as connection,
        unchecked.wrap_socket(connection, server_hostname=namespace.host) as tls,
    ):
        return tls.getpeercert(binary_form=True) or b""


def test_certificate_rotation(
    victim: Namespace, clients_during: ClientsDuring, https_port: int, tmp_path: Path
) -> None:
    before = json.loads(victim.run("kubectl get secret task-api-tls -o json"))
    # Only its data: its resourceVersion will be outdated.
    (tmp_path / "before.json").write_text(json.dumps({"data": before["data"]}))
    (tmp_path / "old.crt").write_bytes(base64.b64decode(before["data"]["tls.crt"]))
    # With a different name: of two self-signed certificates with the same name OpenSSL trusts only the first.
    (tmp_path / "request").write_text(
        "[req]\nprompt = no\ndistinguished_name = name\nx509_extensions = extensions\n"
        f"[name]\nCN = renewed\n[extensions]\nsubjectAltName = DNS:{victim.host}\nbasicConstraints = CA:TRUE\n"
    )
    victim.run(
        "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -config request -keyout new.key -out new.crt",
        folder=tmp_path,
    )
    old, new = ((tmp_path / name).read_text() for name in ("old.crt", "new.crt"))
    trust = ssl.create_default_context(cadata=old + new)  # as clients have it that trust the CA of both

    def connect() -> httpx2.Client:
        """A client that opens a connection for each request: kept-alive connections keep the old certificate."""
        client = client_of(victim.host, trust, https_port)
        client.headers["Connection"] = "close"
        return client

    with clients_during(
        "TLS certificate rotated, one connection per request", graceful=True, connect=connect
    ) as clients:
        clients.mark_fault("rotation")
        try:
            victim.run(
                "kubectl create secret tls task-api-tls --cert new.crt --key new.key --dry-run=client -o yaml"
                " | kubectl apply --server-side --force-conflicts -f -",
                folder=tmp_path,
            )
            eventually(
                lambda: served_certificate(victim, https_port) == ssl.PEM_cert_to_DER_cert(new),
                "the new certificate is served",
                seconds=60,
            )
            clients.wait_until_recovered()
        finally:
            clients.mark_fault("second rotation")
            victim.run(f"kubectl patch secret task-api-tls --patch-file {tmp_path}/before.json")
            eventually(
                lambda: served_certificate(victim, https_port) == ssl.PEM_cert_to_DER_cert(old),
                "the old certificate is served again",
                seconds=60,
            )


def test_ingress_controller_restart(victim: Namespace, clients_during: ClientsDuring) -> None:
    pod = victim.run(f"{CONTROLLER} get pods -l app.kubernetes.io/component=controller -o name").strip()
    with clients_during("ingress controller: pod deleted") as clients:
        clients.mark_fault("delete")
        victim.run(f"{CONTROLLER} delete {pod} --wait=false")
        eventually(
            lambda: pod not in victim.run(f"{CONTROLLER} get pods -o name"), "the old controller is gone", seconds=120
        )
        victim.run(f"{CONTROLLER} rollout status deployment/ingress-nginx-controller --timeout=120s")
        victim.wait_until_it_serves()
