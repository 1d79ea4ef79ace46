"""The chart's values: what people type works, what cannot work is refused in words, what is set arrives."""

from __future__ import annotations

import base64
import json
import re
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from manifests import (
    CHART,
    LIBRARY,
    VALUES_FILES,
    api_container,
    decoded,
    default_values,
    environment,
    helm_template,
    one,
    pod_specs,
    refusal,
    render,
    render_files,
    sets,
    values_of,
    with_json,
)

DIGEST = "sha256:" + "0a" * 32


# --- what people type -----------------------------------------------------------------


def test_the_defaults_are_those_that_people_know() -> None:
    values = default_values()
    assert values["image"]["repository"] == "your-dockerhub-username/task-api"
    assert values["image"]["tag"] == "latest"
    assert values["image"]["pullPolicy"] == "IfNotPresent"
    assert values["replicaCount"] == 3
    assert values["autoscaling"]["enabled"] is True
    assert values["autoscaling"]["maxReplicas"] == 10
    assert values["autoscaling"]["targetCPUUtilizationPercentage"] == 70
    assert values["ingress"]["enabled"] is True
    assert values["ingress"]["host"] == "task-api.local"
    assert values["ingress"]["tls"]["secretName"] == "task-api-tls"
    for kind, cpu, memory in (("requests", "100m", "128Mi"), ("limits", "500m", "512Mi")):
        assert (values["resources"][kind]["cpu"], values["resources"][kind]["memory"]) == (cpu, memory)


def test_the_values_of_a_deployment_guide_arrive() -> None:
    rendered = render(
        *sets("image.repository=you/task-api", "image.tag=1a2b3c4", "ingress.host=tasks.example.com"),
        *sets("ingress.tls.secretName=tasks-tls"),
    )
    assert api_container(rendered)["image"] == "you/task-api:1a2b3c4"
    ingress = one("Ingress", rendered)["spec"]
    assert ingress["tls"] == [{"hosts": ["tasks.example.com"], "secretName": "tasks-tls"}]
    assert [rule["host"] for rule in ingress["rules"]] == ["tasks.example.com"]


@pytest.mark.parametrize("how", ["--set", "--set-string", "file"])
@pytest.mark.parametrize("tag", ["12345678", "20261123235959", "0123456", "12e4567", "v1.10"])
def test_a_tag_that_looks_like_a_number_stays_as_it_was_typed(how: str, tag: str, tmp_path: Path) -> None:
    if how == "file":
        (tmp_path / "values.yaml").write_text(f'image:\n  tag: "{tag}"\n')
        arguments = ["--values", str(tmp_path / "values.yaml")]
    else:
        arguments = [how, f"image.tag={tag}"]
    assert api_container(render(*arguments))["image"] == f"your-dockerhub-username/task-api:{tag}"


def test_a_digest_wins_over_the_tag() -> None:
    rendered = render(*sets(f"image.digest={DIGEST}", "image.tag=1a2b3c4"), helm_tests=True)
    images = {pod["containers"][0]["image"] for pod in pod_specs(rendered)}
    assert images == {f"your-dockerhub-username/task-api@{DIGEST}", "postgres:17"}


def test_the_autoscaler_owns_the_number_of_replicas() -> None:
    rendered = render(*sets("replicaCount=4"))
    assert "replicas" not in one("Deployment", rendered)["spec"]
    assert one("HorizontalPodAutoscaler", rendered)["spec"]["minReplicas"] == 4
    rendered = render(*sets("autoscaling.enabled=false", "replicaCount=4"))
    assert one("Deployment", rendered)["spec"]["replicas"] == 4
    assert not [m for m in rendered if m["kind"] == "HorizontalPodAutoscaler"]


@pytest.mark.parametrize(
    "repository", ["task-api", "you/task-api", "localhost:5001/task-api", "ghcr.io/you/kit/task-api"]
)
def test_repositories_of_every_form_are_taken(repository: str) -> None:
    image = api_container(render(*sets(f"image.repository={repository}", "image.tag=1")))["image"]
    assert image == f"{repository}:1"


def test_every_knob_of_the_pods_arrives() -> None:
    values = {
        "imagePullSecrets": [{"name": "my-registry"}],
        "extraEnv": [{"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://collector:4318"}],
        "podLabels": {"sidecar": "no"},
        "podAnnotations": {"note": "well"},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
        "priorityClassName": "apis",
        "commonLabels": {"team": "tasks"},
    }
    rendered = render(*with_json(**values), helm_tests=True)
    template = one("Deployment", rendered)["spec"]["template"]
    for key in ("imagePullSecrets", "nodeSelector", "tolerations", "affinity", "priorityClassName"):
        assert template["spec"][key] == values[key]
    assert environment(template["spec"]["containers"][0])["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://collector:4318"
    assert template["metadata"]["labels"]["sidecar"] == "no"
    assert template["metadata"]["annotations"] == {"note": "well"}
    assert all(manifest["metadata"]["labels"]["team"] == "tasks" for manifest in rendered)
    selectors = [m["spec"]["selector"] for m in rendered if "selector" in m.get("spec", {})]
    assert selectors
    assert "team" not in json.dumps(selectors)


def test_a_values_file_for_an_environment_holds_only_differences() -> None:
    defaults = default_values()

    def same(ours: Any, default: Any, path: str) -> list[str]:
        if isinstance(ours, dict):
            return [found for key, value in ours.items() for found in same(value, default[key], f"{path}.{key}")]
        return [path] if ours == default else []

    for file in (*CHART.glob("values-*.yaml"), *LIBRARY.glob("values-*.yaml")):
        assert same(yaml.safe_load(file.read_text()), defaults, file.stem) == []


# --- the database ---------------------------------------------------------------------


def test_an_external_database_leaves_the_bundled_one_out() -> None:
    rendered = render(*sets("database.existingSecret=mine"))
    assert not {m["kind"] for m in rendered} & {"StatefulSet", "Secret"}
    assert {m["metadata"]["name"] for m in rendered} == {"task-api"}
    assert environment(api_container(rendered))["TASKS_DATABASE_URL"] == {
        "secretKeyRef": {"name": "mine", "key": "url"}
    }


def test_with_a_secret_of_ones_own_the_chart_renders_the_same_each_time() -> None:
    arguments = values_of("values-dev.yaml")
    first, second = (helm_template(*arguments).stdout for _ in range(2))
    assert first == second
    assert "Secret" not in {m["kind"] for m in render(*arguments)}


def test_a_generated_password_is_the_same_for_database_and_url_and_stays() -> None:
    secret = one("Secret", render())
    password = decoded(secret)["password"]
    assert re.fullmatch(r"[A-Za-z0-9]{32}", password)
    assert decoded(secret)["url"] == f"postgresql://tasks:{password}@task-api-postgres/tasks"
    assert secret["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert decoded(one("Secret", render()))["password"] != password


def with_a_kept_secret(folder: Path, kept: dict[str, str]) -> dict[str, str]:
    """What the chart makes of a Secret that is there. `helm template` asks no cluster: a value is asked instead."""
    chart = folder / "chart"
    shutil.copytree(CHART, chart)
    template = chart / "charts/library/templates/_database-secret.tpl"
    asked = 'lookup "v1" "Secret" .Release.Namespace $name'
    assert asked in template.read_text()
    template.write_text(template.read_text().replace(asked, ".Values.global.kept"))
    data = {key: base64.b64encode(value.encode()).decode() for key, value in kept.items()}
    return decoded(one("Secret", render(*with_json(**{"global": {"kept": {"data": data}}}), chart=chart)))


@pytest.mark.parametrize("password", ["0123456789", "true", "a: b # c", "p@ss/wörd?%+", '"quoted" \\ it'])
def test_a_kept_password_stays_whatever_it_is_and_arrives_in_the_url(password: str, tmp_path: Path) -> None:
    written = with_a_kept_secret(tmp_path, {"password": password})
    assert written["password"] == password
    url = urlsplit(written["url"])
    assert (url.scheme, url.hostname, url.path) == ("postgresql", "task-api-postgres", "/tasks")
    assert (unquote(url.username or ""), unquote(url.password or "")) == ("tasks", password)


def test_a_kept_url_stays(tmp_path: Path) -> None:
    """People may have added to it, as `?sslmode=require`."""
    url = "postgresql://tasks:a@task-api-postgres/tasks?application_name=mine"
    assert with_a_kept_secret(tmp_path, {"password": "a", "url": url}) == {"password": "a", "url": url}


def test_the_volume_stays_after_an_uninstall() -> None:
    """Kubernetes keeps the claims of a StatefulSet, unless it is told otherwise."""
    spec = one("StatefulSet", render())["spec"]
    assert [claim["metadata"]["name"] for claim in spec["volumeClaimTemplates"]] == ["data"]
    assert "persistentVolumeClaimRetentionPolicy" not in spec


def test_no_value_is_a_password() -> None:
    def leaves(value: Any, path: str) -> list[str]:
        if isinstance(value, dict):
            return [leaf for key, below in value.items() for leaf in leaves(below, f"{path}.{key}")]
        return [path]

    names = leaves(default_values(), "")
    assert not [name for name in names if re.search(r"(password|token|\.url)$", name, re.IGNORECASE)]


def test_cloudnativepg_replicates_each_write() -> None:
    """What it means, beside the operator's schema, to which scripts/lint.sh holds it."""
    files = render_files(*sets("database.cloudNativePG.enabled=true", "database.cloudNativePG.storageClassName=fast"))
    (cluster,) = files["cloudnativepg.yaml"]
    assert (cluster["apiVersion"], cluster["kind"]) == ("postgresql.cnpg.io/v1", "Cluster")
    assert cluster["spec"] == {
        "instances": 3,
        "bootstrap": {"initdb": {"database": "tasks", "owner": "tasks"}},
        "postgresql": {
            # 100, and of 11 pods the pool of 5 once more; its parameters are strings.
            "parameters": {"max_connections": "155"},
            "synchronous": {"method": "any", "number": 1, "dataDurability": "required", "failoverQuorum": True},
        },
        "storage": {"size": "10Gi", "storageClass": "fast"},
        "resources": {"requests": {"cpu": "500m", "memory": "512Mi"}, "limits": {"memory": "1Gi"}},
    }
    assert cluster["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    url = environment(api_container(files["deployment.yaml"]))["TASKS_DATABASE_URL"]
    assert url == {"secretKeyRef": {"name": "task-api-postgres-app", "key": "uri"}}
    assert not files.keys() & {"postgres.yaml", "postgres-service.yaml", "database-secret.yaml"}


def test_memory_is_for_one_pod_that_is_never_two() -> None:
    rendered = render(*values_of("ci/memory-values.yaml"))
    spec = one("Deployment", rendered)["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    assert environment(api_container(rendered))["TASKS_DATABASE_URL"] == "memory://"
    assert not [m for m in rendered if m["kind"] == "StatefulSet"]


# --- who may call ---------------------------------------------------------------------


def test_tokens_come_from_a_folder_that_sees_changes() -> None:
    rendered = render(*sets("auth.mode=tokens", "auth.tokens.existingSecret=mine"))
    container = api_container(rendered)
    settings = environment(container)
    assert settings["TASKS_AUTH"] == "tokens"
    (mount,) = (mount for mount in container["volumeMounts"] if mount["name"] == "tokens")
    assert "subPath" not in mount
    (volume,) = (v for v in one("Deployment", rendered)["spec"]["template"]["spec"]["volumes"] if v["name"] == "tokens")
    assert volume["secret"]["secretName"] == "mine"
    (item,) = volume["secret"]["items"]
    assert settings["TASKS_AUTH_TOKEN_FILE"] == f"{mount['mountPath']}/{item['path']}"


def test_oidc_names_issuer_and_audience() -> None:
    settings = environment(api_container(render(*values_of("ci/oidc-values.yaml"))))
    assert settings["TASKS_AUTH"] == "oidc"
    assert settings["TASKS_OIDC_ISSUER"] == "https://login.example.com/realms/ours"
    assert settings["TASKS_OIDC_AUDIENCE"] == "api"


def test_what_an_issuers_tokens_look_like_is_said_only_where_it_is_otherwise() -> None:
    given = environment(api_container(render(*values_of("ci/oidc-values.yaml"))))
    assert {name: given[f"TASKS_OIDC_{name}"] for name in ("CLAIM", "READ", "WRITE", "SUBJECT_CLAIM")} == {
        "CLAIM": "realm_access.roles",
        "READ": "reader,writer",
        "WRITE": "writer",
        "SUBJECT_CLAIM": "sub,azp",
    }
    assert given["TASKS_OIDC_READ_SUBJECTS"] == given["TASKS_OIDC_WRITE_SUBJECTS"] == "service-account-importer"
    assert given["TASKS_OIDC_AUDIENCE_CLAIM"] == "aud"
    usual = environment(
        api_container(render(*sets("auth.mode=oidc", "auth.oidc.issuer=https://a", "auth.oidc.audience=b")))
    )
    assert {name for name in usual if "OIDC" in name} == {"TASKS_OIDC_ISSUER", "TASKS_OIDC_AUDIENCE"}


def test_production_asks_for_tokens_and_prometheus_has_one() -> None:
    rendered = render(*values_of("values-production.yaml"), helm_tests=True)
    assert environment(api_container(rendered))["TASKS_AUTH"] == "tokens"
    endpoints = {endpoint["path"]: endpoint for endpoint in one("ServiceMonitor", rendered)["spec"]["endpoints"]}
    credential = {"name": "task-api-metrics-token", "key": "token"}
    assert endpoints["/metrics"]["authorization"] == {"credentials": credential}
    assert "authorization" not in endpoints["/health"]  # it is open in every mode
    test = one("Pod", rendered)["spec"]
    assert environment(test["containers"][0])["AUTH"] == "tokens"
    (volume,) = (volume for volume in test["volumes"] if volume["name"] == "token")
    assert volume["secret"]["secretName"] == "task-api-test-token"
    assert volume["secret"]["items"] == [{"key": "token", "path": "token"}]


# --- what is set beside the chart's own -------------------------------------------------


def test_labels_and_annotations_of_ones_own_win_over_the_charts() -> None:
    """A key that stood there twice would be refused by the server, and by the reader of these tests."""
    values = {
        "ingress.annotations": {"nginx.ingress.kubernetes.io/ssl-redirect": "false", "mine": "a"},
        "serviceMonitor": {"enabled": True, "labels": {"app": "kube-prometheus-stack", "team": "ours"}},
        "prometheusRule": {"enabled": True, "labels": {"app": "kube-prometheus-stack", "team": "ours"}},
        "dashboard": {"enabled": True, "labels": {"app": "grafana", "team": "ours"}},
        "commonLabels": {"team": "tasks"},
    }
    rendered = render(*with_json(**values))
    annotations = one("Ingress", rendered)["metadata"]["annotations"]
    assert annotations["nginx.ingress.kubernetes.io/ssl-redirect"] == "false"
    assert (annotations["mine"], annotations["nginx.ingress.kubernetes.io/backend-protocol"]) == ("a", "HTTP")
    for kind, app in (
        ("ServiceMonitor", "kube-prometheus-stack"),
        ("PrometheusRule", "kube-prometheus-stack"),
        ("ConfigMap", "grafana"),
    ):
        labels = one(kind, rendered)["metadata"]["labels"]
        assert (labels["app"], labels["team"], labels["app.kubernetes.io/name"]) == (app, "ours", "task-api")


@pytest.mark.parametrize("value", ["commonLabels", "podLabels"])
def test_a_label_that_the_chart_does_not_write_is_ones_own(value: str) -> None:
    rendered = render("--set-json", f'{value}={{"app.kubernetes.io/part-of": "tasks", "helm.sh/mine": "a"}}')
    deployment = one("Deployment", rendered)
    labelled = deployment if value == "commonLabels" else deployment["spec"]["template"]
    assert labelled["metadata"]["labels"]["app.kubernetes.io/part-of"] == "tasks"


def test_each_label_that_the_chart_writes_is_refused_to_others() -> None:
    rendered = render(helm_tests=True)
    pods = one("Deployment", rendered)["spec"]["template"]["metadata"]["labels"]
    everywhere = {label for manifest in rendered for label in manifest["metadata"]["labels"]}
    everywhere.remove("app.kubernetes.io/part-of")  # what it is a part of, others may know better
    of_pods = [(f"pods.{kind}.podLabels", pods.keys()) for kind in default_values()["pods"]]
    for value, own in (("commonLabels", everywhere), ("podLabels", pods.keys()), *of_pods):
        said = refusal(*with_json(**{value: dict.fromkeys(own, "mine")}))
        refused = set(re.findall(rf"- {value} has (\S+)\. The chart sets that label", said))
        assert refused == set(own)
        assert len(refused) >= 4


def test_each_variable_that_the_chart_writes_is_refused_in_the_environment_of_ones_own() -> None:
    values = default_values()
    written = {
        name
        for arguments in VALUES_FILES.values()
        for name in environment(api_container(render(*arguments)))
        if name.startswith("TASKS_")
    } - {"TASKS_DATABASE_WAIT_SECONDS"}  # which gives way to one's own
    assert {"TASKS_DATABASE_URL", "TASKS_ROOT_PATH", "TASKS_OIDC_ISSUER", "TASKS_AUTH_TOKEN_FILE"} <= written
    own = f"extraEnv={json.dumps([{'name': name, 'value': 'a'} for name in sorted(written)])}"
    said = refusal("--set-json", own, *sets("maxBodyBytes=2097152"))
    instead = dict(re.findall(r"- extraEnv has (\w+), which the chart sets\. Set (\S+) instead\.", said))
    assert instead.keys() == written
    for value in instead.values():
        node = values
        for key in value.split("."):
            node = node[key]  # it exists
    assert instead["TASKS_DATABASE_POOL_SIZE"] == "database.poolSize"
    assert "extraEnv has A twice" in refusal("--set-json", 'extraEnv=[{"name": "A"}, {"name": "A"}]')


def test_below_an_ingress_of_ones_own_the_prefix_is_set_by_hand() -> None:
    prefix = 'extraEnv=[{"name": "TASKS_ROOT_PATH", "value": "/mine"}]'
    container = api_container(render(*sets("ingress.enabled=false"), "--set-json", prefix))
    assert environment(container)["TASKS_ROOT_PATH"] == "/mine"


def test_names_that_look_like_numbers_stay_names() -> None:
    named = (
        "ingress.className",
        "ingress.tls.secretName",
        "ingress.tls.clusterIssuer",
        "priorityClassName",
        "auth.tokens.existingSecret",
        "serviceMonitor.credential.secretName",
        "serviceMonitor.credential.key",
        "helmTest.credential.secretName",
        "helmTest.credential.key",
        "networkPolicy.ingressNamespaces[0]",
        "networkPolicy.monitoringNamespaces[0]",
    )
    databases = (
        ("database.existingSecret",),
        ("database.bundled.existingSecret", "database.bundled.storageClassName"),
        ("database.cloudNativePG.storageClassName", "database.cloudNativePG.operatorNamespace"),
    )
    for database in databases:
        names = [part for name in (*named, *database) for part in ("--set-string", f"{name}=123")]
        switched_on = ["auth.mode=tokens", "serviceMonitor.enabled=true"]
        if "cloudNativePG" in database[0]:
            switched_on.append("database.cloudNativePG.enabled=true")
        switched_on.append("fullnameOverride=mine")  # the name of a Service is none that looks like a number
        rendered = json.dumps(render(*sets(*switched_on), *names, release="123", helm_tests=True))
        assert rendered.count('"123"') > len(named)
        assert not re.search(r"[ \[]123\b", rendered)


# --- monitoring -----------------------------------------------------------------------


def test_prometheus_finds_the_service_and_tells_both_scrapes_apart() -> None:
    rendered = render(*sets("serviceMonitor.enabled=true", "serviceMonitor.labels.release=monitoring"))
    monitor, service = one("ServiceMonitor", rendered), [m for m in rendered if m["kind"] == "Service"]
    assert monitor["metadata"]["labels"]["release"] == "monitoring"
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    assert [s["metadata"]["name"] for s in service if wanted <= s["metadata"]["labels"].items()] == ["task-api"]
    ports = {port["name"] for s in service for port in s["spec"]["ports"]}
    assert "fallbackScrapeProtocol" not in monitor["spec"]
    assert [endpoint["path"] for endpoint in monitor["spec"]["endpoints"]] == ["/health", "/metrics"]
    for endpoint in monitor["spec"]["endpoints"]:
        assert endpoint["port"] in ports
        assert endpoint["interval"] == "30s"
        assert endpoint["relabelings"] == [
            {"action": "replace", "sourceLabels": ["__metrics_path__"], "targetLabel": "metrics_path"}
        ]


def test_what_needs_the_operator_is_off_until_asked_for_and_never_gated_on_the_cluster() -> None:
    monitoring = {"ServiceMonitor", "PrometheusRule", "ConfigMap"}
    assert not {m["kind"] for m in render()} & monitoring
    switched_on = sets("serviceMonitor.enabled=true", "prometheusRule.enabled=true", "dashboard.enabled=true")
    assert {m["kind"] for m in render(*switched_on)} >= monitoring
    assert not [t for t in (LIBRARY / "templates").rglob("*") if t.is_file() and "APIVersions" in t.read_text()]


def test_the_rules_of_every_service_and_its_own_have_the_releases_names(tmp_path: Path) -> None:
    chart = tmp_path / "orders"
    shutil.copytree(CHART, chart)
    (chart / "charts/library/files/alerts.yaml").write_text("""groups:
  - name: service-name.first
    rules:
      - alert: ServiceNameDown
        expr: up{namespace="default", job="service-name", route!="/stream"} == service_name_b
        annotations:
          summary: "{{ $labels.pod }} is {{ $value }}"
          runbook_url: RUNBOOKSdown
""")
    own = {
        "alert": "Mine",
        "expr": 'a{namespace="default", job="service-name"}',
        "annotations": {"runbook_url": "docs/m"},
    }
    groups = [{"name": f"service-name.{name}", "rules": [own]} for name in ("first", "own")]
    (chart / "files/alerts.yaml").write_text(yaml.safe_dump({"groups": groups}))
    arguments = (*sets("prometheusRule.enabled=true", "prometheusRule.repositoryUrl=https://a/"), "--namespace", "shop")
    rendered = render(*arguments, chart=chart, release="task-api-two")
    first, database, others = one("PrometheusRule", rendered)["spec"]["groups"]
    named = own | {
        "expr": 'a{namespace="shop", job="task-api-two"}',
        "annotations": {"runbook_url": "https://a/docs/m"},
    }
    assert (first["name"], database["name"], others["name"]) == tuple(
        f"task-api-two.{name}" for name in ("first", "database", "own")
    )
    assert others["rules"] == [named]
    general, after = first["rules"]
    assert after == named
    assert general == {
        "alert": "TaskApiDown",
        "expr": 'up{namespace="shop", job="task-api-two", route!="/v1/changes"} == task_api_b',
        "annotations": {
            "summary": "{{ $labels.pod }} is {{ $value }}",
            "runbook_url": "https://a/docs/operate.md#taskapidown",
        },
    }


def test_a_dashboard_of_its_own_arrives_as_its_file_says(tmp_path: Path) -> None:
    chart = tmp_path / "chart"
    shutil.copytree(CHART, chart)
    panels = {"title": "{{pod}}", "description": "<a> & b", "panels": [{"id": 1, "span": 0.5}]}
    (chart / "files/dashboard.json").write_text(json.dumps(panels, indent=2))
    dashboard = one("ConfigMap", render(*sets("dashboard.enabled=true"), chart=chart))
    (text,) = dashboard["data"].values()
    arrived = json.loads(text)
    assert arrived.pop("uid")
    assert arrived == panels | {"title": "{{pod}} (default/task-api)"}
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"


# --- what is refused ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (("image.repository=You/task-api",), 'image.repository is "You/task-api". It must be in lower case'),
        (("image.repository=you/task-api:1a2b3c4",), "without tag or digest"),
        (("image.tag=a:b",), 'image.tag is "a:b"'),
        (("image.tag=",), 'image.tag is ""'),
        (("image.digest=sha256:12",), "It must be sha256: and 64 hexadecimal digits"),
        (("ingress.host=https://task-api.local",), "without https://, port or path"),
        (("ingress.extraHosts={Tasks.example.com}",), "in lower case"),
        (("ingress.path=tasks",), 'ingress.path is "tasks". It must be / or a prefix such as /task-api'),
        (("ingress.path=/tasks/",), "a leading slash, no trailing slash"),
        (("ingress.path=/tasks(.*)",), "only letters, digits, - and _"),
        (("podLabels.app=mine",), "podLabels has app. The chart sets that label"),
        (("commonLabels.app\\.kubernetes\\.io/name=mine",), "commonLabels has app.kubernetes.io/name."),
        (("extraEnv[0].name=TASKS_DRAIN_SECONDS",), "Set shutdown.drainSeconds instead."),
        (("database.inMemory=true",), "Each pod would have its own tasks"),
        (("database.inMemory=true", "autoscaling.enabled=false"), "Set autoscaling.enabled=false and replicaCount=1"),
        (
            ("database.existingSecret=a", "database.cloudNativePG.enabled=true"),
            "database.existingSecret and database.cloudNativePG.enabled are mutually exclusive",
        ),
        (("rollingUpdate.maxSurge=0", "rollingUpdate.maxUnavailable=0"), "could neither start nor terminate a pod"),
        (("replicaCount=null",), "use your own autoscaler"),
        (("replicaCount=11",), "replicaCount 11 is above autoscaling.maxReplicas 10"),
        (("resources.requests.cpu=null",), "resources.requests.cpu is not set"),
        (("autoscaling.containerResource=true",), "needs Kubernetes 1.27 or later, and this is v1.26.0"),
        (("ingress.tls.clusterIssuer=a", "ingress.tls.secretName="), "Name the Secret for the certificate"),
        (("httpRoute.enabled=true",), "--set 'httpRoute.parentRefs[0].name=my-gateway'"),
        (("auth.mode=tokens",), "auth.mode is tokens without auth.tokens.existingSecret"),
        (("auth.mode=oidc", "auth.oidc.issuer=https://a"), "without auth.oidc.issuer and auth.oidc.audience"),
        (
            ("auth.mode=tokens", "auth.tokens.existingSecret=a", "serviceMonitor.enabled=true"),
            "Prometheus would get a 401 from /metrics",
        ),
    ],
)
def test_values_that_cannot_work_are_refused_in_a_sentence(values: tuple[str, ...], said: str) -> None:
    message = refusal(*sets(*values))
    assert said in message
    assert message.count("\n- ") == 1  # this reason and no other


def test_all_that_is_wrong_is_said_at_once() -> None:
    assert refusal(*sets("database.inMemory=true", "auth.mode=tokens", "httpRoute.enabled=true")).count("\n- ") == 3


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("replicaCuont=5", "replicaCuont"),
        ("autoscaling.minReplicas=3", "minReplicas"),
        ("ingress.tls.secret=a", "secret"),
        ("database.password=a", "password"),
        ("replicaCount=0", "replicaCount"),
        ("replicaCount=three", "replicaCount"),
        ("autoscaling.targetCPUUtilizationPercentage=0", "targetCPUUtilizationPercentage"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("auth.mode=password", "mode"),
        ("rollingUpdate.maxSurge=a lot", "maxSurge"),
        ("resources.limits.memory=512MB", "memory"),
        ("database.cloudNativePG.instances=2", "instances"),
        ("shutdown.preStopSeconds=0", "preStopSeconds"),
        ("service.port=70000", "port"),
        ("serviceMonitor.interval=5s", "interval"),
        ("serviceMonitor.fallbackScrapeProtocol=JSON", "fallbackScrapeProtocol"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_its_name(value: str, names: str) -> None:
    message = refusal(*sets(value))
    assert "values don't meet the specifications of the schema" in message
    assert names in message


def test_a_value_that_is_null_is_refused_by_its_name_or_stands_for_nothing() -> None:
    """`nodeSelector:` in a file, with nothing behind it, is null. It must not end in an error of Go's templates."""
    schema = json.loads((CHART / "values.schema.json").read_text())

    def optional(node: dict[str, Any], of_defaults: dict[str, Any], path: tuple[str, ...] = ()) -> list[str]:
        node = resolve(schema, node)
        required = of_defaults.get("required", ())
        return [
            found
            for key, below in node.get("properties", {}).items()
            for found in (
                optional(below, of_defaults.get("properties", {}).get(key, {}), (*path, key))
                if key in required
                else [".".join((*path, key))]
            )
        ]

    # The autoscaler needs two of them, and a sentence says so; global values are no default that null could take away.
    nulls = set(optional(schema, schema["then"])) - {"resources.requests", "replicaCount", "global", "library"}
    assert {"image.digest", "ingress.extraHosts", "commonLabels", "prometheusRule.repositoryUrl"} <= nulls
    switched_on = sets("serviceMonitor.enabled=true", "prometheusRule.enabled=true", "dashboard.enabled=true")
    rendered = render(*switched_on, *sets(*(f"{name}=null" for name in nulls)), helm_tests=True)
    assert api_container(rendered)["image"] == "your-dockerhub-username/task-api:latest"
    assert "<nil>" not in json.dumps(rendered)
    for name in ("auth.tokens", "database.bundled.resources", "networkPolicy.ingressNamespaces"):
        said = refusal(*sets(f"{name}=null"))
        assert "values don't meet the specifications of the schema" in said
        assert name.rpartition(".")[2] in said


def test_a_chart_around_this_one_may_hand_down_global_values() -> None:
    assert render(*sets("global.registry=example.com")) != []


def resolve(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    """What a part of the schema is, where it only says where that stands."""
    return resolve(schema, schema["definitions"][node["$ref"].rpartition("/")[2]]) if "$ref" in node else node


def test_the_schema_knows_every_value_and_no_other() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())

    def compare(value: Any, node: dict[str, Any], path: str) -> list[str]:
        node = resolve(schema, node)
        known = node.get("properties")
        if not isinstance(value, dict) or known is None:
            return []
        assert node["additionalProperties"] is False, f"{path} takes anything"
        wrong = [
            f"{path}.{key}"
            for key in known.keys() ^ value.keys()
            if path or key not in {"global", "library", "enabled", "tags"}  # of charts around this one
        ]
        return wrong + [
            w for key in known.keys() & value.keys() for w in compare(value[key], known[key], f"{path}.{key}")
        ]

    # What these have in their defaults is an example of what may be there.
    free = re.compile(r"^\.(affinity|autoscaling\.behavior\.\w+|pods\.\w+)\.")
    found = compare(default_values(), schema, "")
    assert [path for path in found if not free.match(path)] == []


def wanted_texts(value: Any, schema: dict[str, Any], node: dict[str, Any], path: str = "") -> list[str]:
    """The values by their paths of which the schema says that they are texts."""
    node = resolve(schema, node)
    if isinstance(value, dict):
        found = []
        for key, below in value.items():
            of_it = node.get("properties", {}).get(key, node.get("additionalProperties"))
            if isinstance(of_it, dict):
                found += wanted_texts(below, schema, of_it, f"{path}.{key}" if path else key)
        return found
    if isinstance(value, list):
        return [found for item in value for found in wanted_texts(item, schema, node.get("items", {}), f"{path}[0]")]
    return [path] if set(node.get("type", ())) >= {"string", "boolean"} else []


EXAMPLES: dict[str, Any] = {
    "imagePullSecrets": [{"name": "a"}],
    "ingress": {"extraHosts": ["a"], "annotations": {"a": "b"}},
    "networkPolicy": {"ingressNamespaces": ["a"]},
    "httpRoute": {"parentRefs": [{"name": "a"}]},
    "extraEnv": [{"name": "A", "value": "b"}],
    **{key: {"a": "b"} for key in ("commonLabels", "podLabels", "podAnnotations", "nodeSelector")},
}
"""Texts inside of what is empty by default."""


def test_a_number_or_a_truth_in_the_place_of_any_text_is_refused_and_told_to_be_quoted(tmp_path: Path) -> None:
    """YAML has lost how it was written: of 1.0 it makes 1, of 0123456 it makes 42798, of yes it makes true."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    texts = wanted_texts(default_values(), schema, schema)
    assert {"image.tag", "image.digest", "ingress.host", "priorityClassName", "nameOverride"} <= set(texts)
    values: dict[str, Any] = {}
    for path in texts:
        node = values
        for key in (keys := re.findall(r"[^.\[]+", path.partition("[")[0]))[:-1]:
            node = node.setdefault(key, {})
        node[keys[-1]] = [1.5] if "[" in path else 1.5
    for written in ("1.0", "0123456", "1234e56", "0x1f", "yes", "true"):
        text = yaml.safe_dump(values).replace("1.5", written)
        (tmp_path / "values.yaml").write_text(text)
        message = refusal("--values", str(tmp_path / "values.yaml"))
        assert set(
            re.findall(r"^- (\S+) is \S+, a (?:number|boolean), but must be a string", message, re.MULTILINE)
        ) == set(texts)
        assert message.count("Quote it in the file, ") == len(texts)
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(EXAMPLES))
    assert render("--values", str(tmp_path / "values.yaml"))
    inside = wanted_texts(EXAMPLES, schema, schema)
    assert len(inside) == 11
    for path in inside:
        message = refusal(*sets(f"{path}=123"), "--values", str(tmp_path / "values.yaml"))
        assert f"- {path} is 123, a number, but must be a string." in message
        assert "or use --set-string instead of --set" in message


@pytest.mark.parametrize("kubernetes", ["1.25.16", "1.20.0"])
def test_an_older_kubernetes_is_refused(kubernetes: str) -> None:
    assert "requires kubeVersion: >=1.26.0-0" in refusal(kubernetes=kubernetes)


@pytest.mark.parametrize("kubernetes", ["1.26.0", "v1.29.3-gke.100", "1.34.4", "1.37.0"])
@pytest.mark.parametrize("file", VALUES_FILES)
def test_every_values_file_renders_on_every_kubernetes(kubernetes: str, file: str) -> None:
    assert one("Deployment", render(*VALUES_FILES[file], kubernetes=kubernetes))
