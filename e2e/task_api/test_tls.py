"""An external database with TLS and a private CA, verified as in docs/security.md."""

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
    """A PostgreSQL server with a certificate, like any external one."""
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
    """Where the page's commands run."""
    folder = tmp_path_factory.mktemp("tls")
    (folder / "platform").symlink_to(REPOSITORY / "platform")
    return folder


@pytest.fixture(scope="module")
def verified_release(make_namespace: MakeNamespace, folder: Path) -> Namespace:
    """A release that is given this database by the page's commands."""
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
    (folder / "values.yaml").write_text(yaml.safe_dump(values))
    namespace.run("helm install task-api ./platform/helm/task-api -f values.yaml", folder=folder)
    (block,) = commands_run_by(THIS, "docs/security.md", "Verify the database server")
    namespace.run(block.commands.replace("database.example.com", "database"), folder=folder)
    return namespace


def connections(namespace: Namespace) -> list[str]:
    """Whether each of the API's connections is encrypted."""
    query = "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE client_addr IS NOT NULL"
    return namespace.run(f"kubectl exec database -- psql --username tasks -Atc '{query}'").split()


def test_database_with_a_private_ca_is_verified_as_documented(verified_release: Namespace) -> None:
    encrypted = connections(verified_release)
    assert encrypted
    assert set(encrypted) == {"t"}


def test_ca_can_be_mounted_from_a_custom_volume(verified_release: Namespace, folder: Path) -> None:
    (block,) = (b for b in blocks("docs/extend.md") if b.language == "yaml" and "extraVolumes:" in b.text)
    (folder / "volumes.yaml").write_text(block.text)
    verified_release.run("kubectl create configmap our-ca --from-file=ca.crt", folder=folder)
    url = f"postgresql://tasks:{PASSWORD}@database/tasks?sslmode=verify-full&sslrootcert=system"
    verified_release.run(f"kubectl create secret generic by-volume --from-literal='url={url}'")
    verified_release.run(
        "helm upgrade task-api platform/helm/task-api -f values.yaml -f volumes.yaml"
        " --set database.existingSecret=by-volume --wait --timeout 120s",
        folder=folder,
    )
    verified_release.wait_for_rollout()
    assert set(connections(verified_release)) == {"t"}


def test_server_of_another_ca_is_rejected_with_a_hint(verified_release: Namespace, folder: Path) -> None:
    verified_release.run("kubectl create secret generic other-ca --from-file=ca.crt=other.crt", folder=folder)
    verified_release.run(
        "helm upgrade task-api platform/helm/task-api -f values.yaml"
        " --set database.existingSecret=database-url --set database.certificatesSecret=other-ca",
        folder=folder,
    )

    def is_logged() -> bool:
        logs = verified_release.attempt("kubectl logs --selector app=task-api --prefix --tail=-1").stdout
        return "sslrootcert in TASKS_DATABASE_URL must name the file of the CA that signed" in logs

    eventually(is_logged, "the new pod logs which CA it lacks", seconds=60)
    ready = json.loads(verified_release.run("kubectl get deployment task-api -o json"))["status"]
    assert ready["updatedReplicas"] == ready["unavailableReplicas"] == 1
