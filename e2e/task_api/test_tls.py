"""A database of one's own, with TLS by a CA of one's own, proved as docs/security.md says."""

from __future__ import annotations

import json
import secrets
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from documentation import blocks, commands_run_by
from e2e.cluster import REPOSITORY
from e2e.eventually import eventually
from e2e.namespace import MakeNamespace, Namespace
from manifests import default_values

pytestmark = pytest.mark.full

THIS = "e2e/task_api/test_tls.py"
PASSWORD = secrets.token_hex()
CERTIFICATES = f"""
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ours -keyout ca.key -out ca.crt
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=theirs -keyout other.key -out other.crt
openssl req -newkey rsa:2048 -nodes -subj /CN=database -keyout tls.key -out request
openssl x509 -req -in request -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 \\
  -extfile <(echo subjectAltName=DNS:database) -out tls.crt
kubectl create secret tls database-tls --cert=tls.crt --key=tls.key
printf {PASSWORD} > password
"""


def server() -> list[dict[str, Any]]:
    """A PostgreSQL that shows a certificate, as it may be anywhere."""
    tls = {"ssl": "on", "ssl_cert_file": "/tls/tls.crt", "ssl_key_file": "/tls/tls.key"}
    folder = "/var/lib/postgresql/data"
    variables = {"POSTGRES_USER": "tasks", "POSTGRES_PASSWORD": PASSWORD, "PGDATA": f"{folder}/pgdata"}
    container = {
        "name": "postgres",
        "image": default_values()["database"]["bundled"]["image"],
        "args": ["postgres", *(part for name, value in tls.items() for part in ("-c", f"{name}={value}"))],
        "env": [{"name": name, "value": value} for name, value in variables.items()],
        "readinessProbe": {"exec": {"command": ["pg_isready", "--host=127.0.0.1"]}, "periodSeconds": 1},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [
            {"name": "tls", "mountPath": "/tls"},
            {"name": "data", "mountPath": folder},
        ],
    }
    user = {"runAsNonRoot": True, "runAsUser": 999, "fsGroup": 999, "seccompProfile": {"type": "RuntimeDefault"}}
    volumes = [
        {"name": "tls", "secret": {"secretName": "database-tls", "defaultMode": 0o440}},
        {"name": "data", "emptyDir": {}},
    ]
    metadata = {"name": "database", "labels": {"app": "database"}}
    spec = {"containers": [container], "volumes": volumes, "securityContext": user}
    return [
        {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"selector": {"app": "database"}, "ports": [{"port": 5432}]},
        },
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the page's commands are typed."""
    folder = tmp_path_factory.mktemp("tls")
    (folder / "platform").symlink_to(REPOSITORY / "platform")
    return folder


@pytest.fixture(scope="module")
def proved(make_namespace: MakeNamespace, folder: Path) -> Namespace:
    """A release on such a database, by the commands of the page."""
    namespace = make_namespace("e2e-tls")
    namespace.run(CERTIFICATES, folder=folder)
    namespace.run(f"kubectl apply --filename - <<< {shlex.quote(yaml.safe_dump_all(server()))}")
    namespace.run("kubectl wait pod/database --for=condition=Ready --timeout=90s")
    repository, _, tag = namespace.image.rpartition(":")
    values = {
        "image": {"repository": repository, "tag": tag},
        "ingress": {"host": namespace.host},
        "autoscaling": {"enabled": False},
        "replicaCount": 1,
    }
    (folder / "production.yaml").write_text(yaml.safe_dump(values))
    (block,) = commands_run_by(THIS, "docs/security.md", "Verify the database server")
    namespace.run(block.commands.replace("database.example.com", "database"), folder=folder)
    return namespace


def connections(namespace: Namespace) -> list[str]:
    """Of the API's connections, whether each is encrypted."""
    query = "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE client_addr IS NOT NULL"
    return namespace.run(f"kubectl exec database -- psql --username tasks -Atc '{query}'").split()


def test_a_database_with_a_private_ca_is_proved_as_the_page_says(proved: Namespace) -> None:
    found = connections(proved)
    assert found
    assert set(found) == {"t"}


def test_a_ca_comes_in_by_a_volume_of_ones_own(proved: Namespace, folder: Path) -> None:
    (block,) = (b for b in blocks("docs/extend.md") if b.language == "yaml" and "extraVolumes:" in b.text)
    (folder / "volumes.yaml").write_text(block.text)
    proved.run("kubectl create configmap our-ca --from-file=ca.crt", folder=folder)
    url = f"postgresql://tasks:{PASSWORD}@database/tasks?sslmode=verify-full&sslrootcert=system"
    proved.run(f"kubectl create secret generic by-volume --from-literal='url={url}'")
    proved.run(
        "helm upgrade task-api platform/helm/task-api -f production.yaml -f volumes.yaml"
        " --set database.existingSecret=by-volume --wait --timeout 120s",
        folder=folder,
    )
    proved.wait_for_rollout()
    assert set(connections(proved)) == {"t"}


def test_a_server_of_another_ca_is_refused_with_what_to_do(proved: Namespace, folder: Path) -> None:
    proved.run("kubectl create secret generic other-ca --from-file=ca.crt=other.crt", folder=folder)
    proved.run(
        "helm upgrade task-api platform/helm/task-api -f production.yaml"
        " --set database.existingSecret=database-url --set database.certificatesSecret=other-ca",
        folder=folder,
    )

    def said() -> bool:
        logs = proved.attempt("kubectl logs --selector app=task-api --prefix --tail=-1").stdout
        return "sslrootcert in TASKS_DATABASE_URL must name the file of the CA that signed" in logs

    eventually(said, "the new pod says which CA it lacks", seconds=60)
    ready = json.loads(proved.run("kubectl get deployment task-api -o json"))["status"]
    assert ready["updatedReplicas"] == ready["unavailableReplicas"] == 1
