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
    """The certificate that a new connection gets."""
    unchecked = ssl.create_default_context()
    unchecked.check_hostname = False
    unchecked.verify_mode = ssl.CERT_NONE  # any certificate: it is compared
    with (
        socket.create_connection(("127.0.0.1", https_port), timeout=10) as connection,
        unchecked.wrap_socket(connection, server_hostname=namespace.host) as tls,
    ):
        return tls.getpeercert(binary_form=True) or b""


def test_a_certificate_is_rotated(
    victim: Namespace, clients_during: ClientsDuring, https_port: int, tmp_path: Path
) -> None:
    before = json.loads(victim.run("kubectl get secret task-api-tls -o json"))
    # Its data and nothing else: its version will be an old one.
    (tmp_path / "before.json").write_text(json.dumps({"data": before["data"]}))
    (tmp_path / "old.crt").write_bytes(base64.b64decode(before["data"]["tls.crt"]))
    # By another name: of two self-signed certificates of one name OpenSSL trusts the first alone.
    (tmp_path / "request").write_text(
        "[req]\nprompt = no\ndistinguished_name = name\nx509_extensions = extensions\n"
        f"[name]\nCN = renewed\n[extensions]\nsubjectAltName = DNS:{victim.host}\nbasicConstraints = CA:TRUE\n"
    )
    victim.run(
        "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -config request -keyout new.key -out new.crt",
        folder=tmp_path,
    )
    old, new = ((tmp_path / name).read_text() for name in ("old.crt", "new.crt"))
    trust = ssl.create_default_context(cadata=old + new)  # as clients have it whose authority signs both

    def connect() -> httpx2.Client:
        """A client that opens a connection for each request: those that are kept go on with the old certificate."""
        client = client_of(victim.host, trust, https_port)
        client.headers["Connection"] = "close"
        return client

    with clients_during(
        "TLS certificate rotated, one connection per request", graceful=True, connect=connect
    ) as clients:
        clients.strike("rotation")
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
            clients.go_on()
        finally:
            clients.strike("and back")
            victim.run(f"kubectl patch secret task-api-tls --patch-file {tmp_path}/before.json")
            eventually(
                lambda: served_certificate(victim, https_port) == ssl.PEM_cert_to_DER_cert(old),
                "the old certificate is served again",
                seconds=60,
            )


def test_the_ingress_controller_is_restarted(victim: Namespace, clients_during: ClientsDuring) -> None:
    pod = victim.run(f"{CONTROLLER} get pods -l app.kubernetes.io/component=controller -o name").strip()
    with clients_during("ingress controller: pod deleted") as clients:
        clients.strike("delete")
        victim.run(f"{CONTROLLER} delete {pod} --wait=false")
        eventually(
            lambda: pod not in victim.run(f"{CONTROLLER} get pods -o name"), "the old controller is gone", seconds=120
        )
        victim.run(f"{CONTROLLER} rollout status deployment/ingress-nginx-controller --timeout=120s")
        victim.wait_until_it_serves()
