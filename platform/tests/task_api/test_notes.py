"""What `helm install` says at its end: where the API is, what to type next, and what is risky."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from manifests import CHART, one, render, sets

SAFE = sets(
    "image.repository=you/task-api",
    "image.tag=1a2b3c4",
    "auth.mode=tokens",
    "auth.tokens.existingSecret=tokens",
    "helmTest.credential.secretName=token",
    "database.existingSecret=database",
    "ingress.tls.clusterIssuer=letsencrypt",
    "autoscaling.enabled=false",
)


@pytest.fixture(scope="module")
def notes_chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the chart that has its notes as an object: `helm template` shows no notes."""
    chart = tmp_path_factory.mktemp("notes") / "chart"
    shutil.copytree(CHART, chart)
    (chart / "templates/NOTES.txt").rename(chart / "notes")
    (chart / "templates/notes.yaml").write_text(
        'apiVersion: v1\nkind: Notes\nmetadata:\n  name: notes\ntext: {{ tpl (.Files.Get "notes") . | toJson }}\n'
    )
    return chart


def notes(chart: Path, *arguments: str) -> str:
    return str(one("Notes", render(*arguments, chart=chart))["text"])


def test_the_notes_say_where_it_is_and_what_to_type(notes_chart: Path) -> None:
    said = notes(notes_chart, "--namespace", "tasks")
    for line in (
        "https://task-api.local/docs",
        "kubectl --namespace tasks rollout status deployment/task-api",
        "kubectl --namespace tasks get pods -l app=task-api",
        "kubectl --namespace tasks get hpa task-api",
        "kubectl --namespace tasks port-forward svc/task-api 8000:80",
        "http://task-api, from pods with the label task-api-client=true",
        "pods of the namespaces ingress-nginx, monitoring\n",
        "helm test task-api --namespace tasks --logs",
    ):
        assert line in said


def test_the_notes_say_who_else_is_let_in(notes_chart: Path) -> None:
    peers = 'networkPolicy.extraIngress=[{"ipBlock": {"cidr": "192.0.2.0/24"}}]'
    said = notes(
        notes_chart, *sets("networkPolicy.ingressNamespaces={traefik}", "service.port=8080"), "--set-json", peers
    )
    assert "pods of the namespaces traefik, monitoring, and networkPolicy.extraIngress\n" in said
    assert "http://task-api:8080, from pods with the label" in said
    nobody = "networkPolicy.ingressNamespaces=[]", "networkPolicy.monitoringNamespaces=[]"
    assert "Other ingress:     no namespace\n" in notes(notes_chart, "--set-json", nobody[0], "--set-json", nobody[1])
    assert "Other ingress" not in notes(notes_chart, *sets("networkPolicy.enabled=false"))


def test_the_notes_say_that_nobody_backs_up_unless_somebody_does(notes_chart: Path) -> None:
    assert "It is not backed up: set database.bundled.backup.enabled" in notes(notes_chart)
    assert "It is not backed up" not in notes(notes_chart, *sets("database.bundled.backup.enabled=true"))


def test_safe_values_bring_no_warning(notes_chart: Path) -> None:
    said = notes(notes_chart, *SAFE)
    assert "WARNING" not in said
    assert "NOTE" not in said


@pytest.mark.parametrize(
    ("values", "warning"),
    [
        (("image.repository=your-dockerhub-username/task-api",), "WARNING: image.repository is the placeholder"),
        (
            ("image.repository=your-dockerhub-username/task-api", "image.digest=sha256:" + "0" * 64),
            "WARNING: image.repository is the placeholder",
        ),
        (("image.tag=latest",), "WARNING: image.tag is latest"),
        (("replicaCount=1",), "WARNING: replicaCount is 1"),
        (("auth.mode=none",), "WARNING: auth.mode is none"),
        (("ingress.tls.secretName=", "ingress.tls.clusterIssuer="), "WARNING: ingress.tls.secretName is empty"),
        (("networkPolicy.enabled=false",), "WARNING: networkPolicy.enabled is false"),
        (
            ("database.existingSecret=", "database.inMemory=true", "replicaCount=1"),
            "WARNING: database.inMemory is true",
        ),
        (("database.existingSecret=",), "NOTE: tasks are in the bundled PostgreSQL"),
        (("ingress.tls.clusterIssuer=",), "NOTE: the certificate is the Secret task-api-tls"),
        (("autoscaling.enabled=true",), "NOTE: the autoscaler needs metrics-server"),
        (("helmTest.credential.secretName=",), "NOTE: helmTest.credential.secretName is empty"),
        (
            ("serviceMonitor.enabled=true", "serviceMonitor.credential.secretName=a"),
            "NOTE: serviceMonitor.labels is empty",
        ),
    ],
)
def test_each_risky_setting_has_its_own_warning(notes_chart: Path, values: tuple[str, ...], warning: str) -> None:
    said = notes(notes_chart, *SAFE, *sets(*values))
    assert warning in said
    assert said.count("WARNING") + said.count("NOTE:") == 1


def test_the_defaults_warn_of_placeholder_latest_and_open_doors(notes_chart: Path) -> None:
    said = notes(notes_chart)
    assert said.count("WARNING") == 3


def test_a_digest_is_no_latest(notes_chart: Path) -> None:
    said = notes(notes_chart, *sets("image.repository=you/task-api", "image.digest=sha256:" + "0" * 64))
    assert "latest" not in said
    assert "placeholder" not in said


def test_the_address_is_the_one_that_is_served(notes_chart: Path) -> None:
    assert "https://tasks.example.com/p/docs" in notes(
        notes_chart, *sets("ingress.host=tasks.example.com", "ingress.path=/p")
    )
    assert "http://task-api.local/docs" in notes(notes_chart, *sets("ingress.tls.secretName="))
    assert "/docs" not in notes(notes_chart, *sets("ingress.enabled=false"))


def test_a_rollout_that_is_longer_than_a_deploy_waits_is_told_with_its_figure(notes_chart: Path) -> None:
    assert "a rollout of" not in notes(notes_chart)
    # Of 10 pods 5 waves of two, each 4 s until it answers, up to 20 until that is seen, and 3 of minReadySeconds.
    said = notes(notes_chart, *sets("probes.startup.periodSeconds=20"))
    assert "a rollout of the maximum number of replicas takes about 135 s" in said
    assert "--timeout of 195s or more" in said
    # 25% of 10 pods are 3 above the wanted number, and with the one that may be missing 4 at a time.
    said = notes(
        notes_chart, *sets("probes.startup.periodSeconds=30", "rollingUpdate.maxSurge=25%", "database.poolSize=1")
    )
    assert "takes about 111 s" in said
    fast = sets("rollingUpdate.maxSurge=0", "rollingUpdate.maxUnavailable=5%")
    assert "a rollout of" not in notes(notes_chart, *fast)
