"""The chart's values: documented values work, invalid ones are rejected with a message, and settings take effect."""

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
    helm_error,
    helm_template,
    one,
    pod_specs,
    render,
    render_files,
    sets,
    values_of,
    with_json,
)

DIGEST = "sha256:" + "0a" * 32


# --- documented values ----------------------------------------------------------------


def test_defaults_are_those_documented() -> None:
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


def test_values_of_the_deployment_guide_take_effect() -> None:
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
def test_numeric_looking_tag_is_preserved(how: str, tag: str, tmp_path: Path) -> None:
    if how == "file":
        (tmp_path / "values.yaml").write_text(f'image:\n  tag: "{tag}"\n')
        arguments = ["--values", str(tmp_path / "values.yaml")]
    else:
        arguments = [how, f"image.tag={tag}"]
    assert api_container(render(*arguments))["image"] == f"your-dockerhub-username/task-api:{tag}"


def test_digest_takes_precedence_over_the_tag() -> None:
    rendered = render(*sets(f"image.digest={DIGEST}", "image.tag=1a2b3c4"), helm_tests=True)
    images = {pod["containers"][0]["image"] for pod in pod_specs(rendered)}
    assert images == {f"your-dockerhub-username/task-api@{DIGEST}", "postgres:17"}


def test_autoscaler_owns_the_number_of_replicas() -> None:
    rendered = render(*sets("replicaCount=4"))
    assert "replicas" not in one("Deployment", rendered)["spec"]
    assert one("HorizontalPodAutoscaler", rendered)["spec"]["minReplicas"] == 4
    rendered = render(*sets("autoscaling.enabled=false", "replicaCount=4"))
    assert one("Deployment", rendered)["spec"]["replicas"] == 4
    assert not [m for m in rendered if m["kind"] == "HorizontalPodAutoscaler"]


@pytest.mark.parametrize(
    "repository", ["task-api", "you/task-api", "localhost:5001/task-api", "ghcr.io/you/kit/task-api"]
)
def test_every_form_of_repository_is_accepted(repository: str) -> None:
    image = api_container(render(*sets(f"image.repository={repository}", "image.tag=1")))["image"]
    assert image == f"{repository}:1"


def test_every_pod_setting_takes_effect() -> None:
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


def test_values_file_of_an_environment_contains_only_differences() -> None:
    defaults = default_values()

    def unchanged(value: Any, default: Any, path: str) -> list[str]:
        if isinstance(value, dict):
            return [leaf for key, child in value.items() for leaf in unchanged(child, default[key], f"{path}.{key}")]
        return [path] if value == default else []

    for file in (*CHART.glob("values-*.yaml"), *LIBRARY.glob("values-*.yaml")):
        assert unchanged(yaml.safe_load(file.read_text()), defaults, file.stem) == []


# --- database -------------------------------------------------------------------------


def test_external_database_replaces_the_bundled_one() -> None:
    rendered = render(*sets("database.existingSecret=mine"))
    assert not {m["kind"] for m in rendered} & {"StatefulSet", "Secret"}
    assert {m["metadata"]["name"] for m in rendered} == {"task-api"}
    assert environment(api_container(rendered))["TASKS_DATABASE_URL"] == {
        "secretKeyRef": {"name": "mine", "key": "url"}
    }


def test_with_a_custom_secret_the_chart_renders_deterministically() -> None:
    arguments = values_of("values-dev.yaml")
    first, second = (helm_template(*arguments).stdout for _ in range(2))
    assert first == second
    assert "Secret" not in {m["kind"] for m in render(*arguments)}


def test_generated_password_is_used_in_the_url_and_kept() -> None:
    secret = one("Secret", render())
    password = decoded(secret)["password"]
    assert re.fullmatch(r"[A-Za-z0-9]{32}", password)
    assert decoded(secret)["url"] == f"postgresql://tasks:{password}@task-api-postgres/tasks"
    assert secret["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert decoded(one("Secret", render()))["password"] != password


def with_existing_secret(folder: Path, content: dict[str, str]) -> dict[str, str]:
    """The chart's Secret if one already exists. `helm template` queries no cluster: `lookup` is replaced by a value."""
    chart = folder / "chart"
    shutil.copytree(CHART, chart)
    template = chart / "charts/library/templates/_database-secret.tpl"
    lookup = 'lookup "v1" "Secret" .Release.Namespace $name'
    assert lookup in template.read_text()
    template.write_text(template.read_text().replace(lookup, ".Values.global.kept"))
    data = {key: base64.b64encode(value.encode()).decode() for key, value in content.items()}
    return decoded(one("Secret", render(*with_json(**{"global": {"kept": {"data": data}}}), chart=chart)))


@pytest.mark.parametrize("password", ["0123456789", "true", "a: b # c", "p@ss/wörd?%+", '"quoted" \\ it'])
def test_existing_password_is_kept_and_escaped_in_the_url(password: str, tmp_path: Path) -> None:
    secret = with_existing_secret(tmp_path, {"password": password})
    assert secret["password"] == password
    url = urlsplit(secret["url"])
    assert (url.scheme, url.hostname, url.path) == ("postgresql", "task-api-postgres", "/tasks")
    assert (unquote(url.username or ""), unquote(url.password or "")) == ("tasks", password)


def test_existing_url_is_kept(tmp_path: Path) -> None:
    """Users may have added parameters, such as `?sslmode=require`."""
    url = "postgresql://tasks:a@task-api-postgres/tasks?application_name=mine"
    assert with_existing_secret(tmp_path, {"password": "a", "url": url}) == {"password": "a", "url": url}


def test_volume_survives_an_uninstall() -> None:
    """Kubernetes keeps a StatefulSet's claims by default."""
    spec = one("StatefulSet", render())["spec"]
    assert [claim["metadata"]["name"] for claim in spec["volumeClaimTemplates"]] == ["data"]
    assert "persistentVolumeClaimRetentionPolicy" not in spec


def test_no_value_is_a_password() -> None:
    def leaves(value: Any, path: str) -> list[str]:
        if isinstance(value, dict):
            return [leaf for key, child in value.items() for leaf in leaves(child, f"{path}.{key}")]
        return [path]

    names = leaves(default_values(), "")
    assert not [name for name in names if re.search(r"(password|token|\.url)$", name, re.IGNORECASE)]


def test_cloudnativepg_replicates_synchronously() -> None:
    """Checks the meaning; scripts/lint.sh validates it against the operator's schema."""
    files = render_files(*sets("database.cloudNativePG.enabled=true", "database.cloudNativePG.storageClassName=fast"))
    (cluster,) = files["cloudnativepg.yaml"]
    assert (cluster["apiVersion"], cluster["kind"]) == ("postgresql.cnpg.io/v1", "Cluster")
    assert cluster["spec"] == {
        "instances": 3,
        "bootstrap": {"initdb": {"database": "tasks", "owner": "tasks"}},
        "postgresql": {
            # 100, plus the pool of 5 for 11 pods; parameters are strings
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


def test_in_memory_storage_runs_a_single_pod() -> None:
    rendered = render(*values_of("ci/memory-values.yaml"))
    spec = one("Deployment", rendered)["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    assert environment(api_container(rendered))["TASKS_DATABASE_URL"] == "memory://"
    assert not [m for m in rendered if m["kind"] == "StatefulSet"]


# --- authentication -------------------------------------------------------------------


def test_tokens_come_from_a_volume_that_follows_changes() -> None:
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


def test_oidc_sets_issuer_and_audience() -> None:
    settings = environment(api_container(render(*values_of("ci/oidc-values.yaml"))))
    assert settings["TASKS_AUTH"] == "oidc"
    assert settings["TASKS_OIDC_ISSUER"] == "https://login.example.com/realms/ours"
    assert settings["TASKS_OIDC_AUDIENCE"] == "api"


def test_oidc_claims_are_set_only_if_they_differ_from_the_default() -> None:
    variables = environment(api_container(render(*values_of("ci/oidc-values.yaml"))))
    assert {name: variables[f"TASKS_OIDC_{name}"] for name in ("CLAIM", "READ", "WRITE", "SUBJECT_CLAIM")} == {
        "CLAIM": "realm_access.roles",
        "READ": "reader,writer",
        "WRITE": "writer",
        "SUBJECT_CLAIM": "sub,azp",
    }
    assert variables["TASKS_OIDC_READ_SUBJECTS"] == variables["TASKS_OIDC_WRITE_SUBJECTS"] == "service-account-importer"
    assert variables["TASKS_OIDC_AUDIENCE_CLAIM"] == "aud"
    defaults = environment(
        api_container(render(*sets("auth.mode=oidc", "auth.oidc.issuer=https://a", "auth.oidc.audience=b")))
    )
    assert {name for name in defaults if "OIDC" in name} == {"TASKS_OIDC_ISSUER", "TASKS_OIDC_AUDIENCE"}


def test_production_requires_tokens_and_prometheus_has_one() -> None:
    rendered = render(*values_of("values-production.yaml"), helm_tests=True)
    assert environment(api_container(rendered))["TASKS_AUTH"] == "tokens"
    endpoints = {endpoint["path"]: endpoint for endpoint in one("ServiceMonitor", rendered)["spec"]["endpoints"]}
    credential = {"name": "task-api-metrics-token", "key": "token"}
    assert endpoints["/metrics"]["authorization"] == {"credentials": credential}
    assert "authorization" not in endpoints["/health"]  # public in every mode
    test = one("Pod", rendered)["spec"]
    assert environment(test["containers"][0])["AUTH"] == "tokens"
    (volume,) = (volume for volume in test["volumes"] if volume["name"] == "token")
    assert volume["secret"]["secretName"] == "task-api-test-token"
    assert volume["secret"]["items"] == [{"key": "token", "path": "token"}]


# --- custom additions -------------------------------------------------------------------


def test_custom_labels_and_annotations_override_the_charts() -> None:
    """A duplicate key would be rejected by the server, and by these tests' YAML loader."""
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
def test_label_that_the_chart_does_not_set_can_be_set(value: str) -> None:
    rendered = render("--set-json", f'{value}={{"app.kubernetes.io/part-of": "tasks", "helm.sh/mine": "a"}}')
    deployment = one("Deployment", rendered)
    labelled = deployment if value == "commonLabels" else deployment["spec"]["template"]
    assert labelled["metadata"]["labels"]["app.kubernetes.io/part-of"] == "tasks"


def test_labels_that_the_chart_sets_cannot_be_overridden() -> None:
    rendered = render(helm_tests=True)
    pods = one("Deployment", rendered)["spec"]["template"]["metadata"]["labels"]
    common = {label for manifest in rendered for label in manifest["metadata"]["labels"]}
    common.remove("app.kubernetes.io/part-of")  # its default can be overridden
    kinds = [(f"pods.{kind}.podLabels", pods.keys()) for kind in default_values()["pods"]]
    for value, names in (("commonLabels", common), ("podLabels", pods.keys()), *kinds):
        message = helm_error(*with_json(**{value: dict.fromkeys(names, "mine")}))
        rejected = set(re.findall(rf"- {value} has (\S+)\. The chart sets that label", message))
        assert rejected == set(names)
        assert len(rejected) >= 4


def test_variables_that_the_chart_sets_are_rejected_in_extra_env() -> None:
    values = default_values()
    chart_variables = {
        name
        for arguments in VALUES_FILES.values()
        for name in environment(api_container(render(*arguments)))
        if name.startswith("TASKS_")
    } - {"TASKS_DATABASE_WAIT_SECONDS"}  # which can be overridden
    assert {"TASKS_DATABASE_URL", "TASKS_ROOT_PATH", "TASKS_OIDC_ISSUER", "TASKS_AUTH_TOKEN_FILE"} <= chart_variables
    extra_env = f"extraEnv={json.dumps([{'name': name, 'value': 'a'} for name in sorted(chart_variables)])}"
    message = helm_error("--set-json", extra_env, *sets("maxBodyBytes=2097152"))
    replacements = dict(re.findall(r"- extraEnv has (\w+), which the chart sets\. Set (\S+) instead\.", message))
    assert replacements.keys() == chart_variables
    for value in replacements.values():
        node = values
        for key in value.split("."):
            node = node[key]  # it exists
    assert replacements["TASKS_DATABASE_POOL_SIZE"] == "database.poolSize"
    assert "extraEnv has A twice" in helm_error("--set-json", 'extraEnv=[{"name": "A"}, {"name": "A"}]')


def test_with_a_custom_ingress_the_prefix_is_set_manually() -> None:
    prefix = 'extraEnv=[{"name": "TASKS_ROOT_PATH", "value": "/mine"}]'
    container = api_container(render(*sets("ingress.enabled=false"), "--set-json", prefix))
    assert environment(container)["TASKS_ROOT_PATH"] == "/mine"


def test_numeric_looking_names_stay_strings() -> None:
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
        switched_on.append("fullnameOverride=mine")  # a Service name cannot look like a number
        rendered = json.dumps(render(*sets(*switched_on), *names, release="123", helm_tests=True))
        assert rendered.count('"123"') > len(named)
        assert not re.search(r"[ \[]123\b", rendered)


# --- monitoring -----------------------------------------------------------------------


def test_prometheus_finds_the_service_and_distinguishes_both_endpoints() -> None:
    rendered = render(*sets("serviceMonitor.enabled=true", "serviceMonitor.labels.release=monitoring"))
    monitor, service = one("ServiceMonitor", rendered), [m for m in rendered if m["kind"] == "Service"]
    assert monitor["metadata"]["labels"]["release"] == "monitoring"
    selected = monitor["spec"]["selector"]["matchLabels"].items()
    assert [s["metadata"]["name"] for s in service if selected <= s["metadata"]["labels"].items()] == ["task-api"]
    ports = {port["name"] for s in service for port in s["spec"]["ports"]}
    assert "fallbackScrapeProtocol" not in monitor["spec"]
    assert [endpoint["path"] for endpoint in monitor["spec"]["endpoints"]] == ["/health", "/metrics"]
    for endpoint in monitor["spec"]["endpoints"]:
        assert endpoint["port"] in ports
        assert endpoint["interval"] == "30s"
        assert endpoint["relabelings"] == [
            {"action": "replace", "sourceLabels": ["__metrics_path__"], "targetLabel": "metrics_path"}
        ]


def test_objects_that_need_the_operator_are_off_by_default_and_not_gated_on_the_cluster() -> None:
    monitoring = {"ServiceMonitor", "PrometheusRule", "ConfigMap"}
    assert not {m["kind"] for m in render()} & monitoring
    switched_on = sets("serviceMonitor.enabled=true", "prometheusRule.enabled=true", "dashboard.enabled=true")
    assert {m["kind"] for m in render(*switched_on)} >= monitoring
    assert not [t for t in (LIBRARY / "templates").rglob("*") if t.is_file() and "APIVersions" in t.read_text()]


def test_rules_of_library_and_service_have_the_release_names(tmp_path: Path) -> None:
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
    rule = {
        "alert": "Mine",
        "expr": 'a{namespace="default", job="service-name"}',
        "annotations": {"runbook_url": "docs/m"},
    }
    groups = [{"name": f"service-name.{name}", "rules": [rule]} for name in ("first", "own")]
    (chart / "files/alerts.yaml").write_text(yaml.safe_dump({"groups": groups}))
    arguments = (*sets("prometheusRule.enabled=true", "prometheusRule.repositoryUrl=https://a/"), "--namespace", "shop")
    rendered = render(*arguments, chart=chart, release="task-api-two")
    first, database, others = one("PrometheusRule", rendered)["spec"]["groups"]
    expected = rule | {
        "expr": 'a{namespace="shop", job="task-api-two"}',
        "annotations": {"runbook_url": "https://a/docs/m"},
    }
    assert (first["name"], database["name"], others["name"]) == tuple(
        f"task-api-two.{name}" for name in ("first", "database", "own")
    )
    assert others["rules"] == [expected]
    library_rule, own_rule = first["rules"]
    assert own_rule == expected
    assert library_rule == {
        "alert": "TaskApiDown",
        "expr": 'up{namespace="shop", job="task-api-two", route!="/v1/changes"} == task_api_b',
        "annotations": {
            "summary": "{{ $labels.pod }} is {{ $value }}",
            "runbook_url": "https://a/docs/operate.md#taskapidown",
        },
    }


def test_dashboard_of_the_service_is_rendered_verbatim(tmp_path: Path) -> None:
    chart = tmp_path / "chart"
    shutil.copytree(CHART, chart)
    panels = {"title": "{{pod}}", "description": "<a> & b", "panels": [{"id": 1, "span": 0.5}]}
    (chart / "files/dashboard.json").write_text(json.dumps(panels, indent=2))
    dashboard = one("ConfigMap", render(*sets("dashboard.enabled=true"), chart=chart))
    (text,) = dashboard["data"].values()
    rendered = json.loads(text)
    assert rendered.pop("uid")
    assert rendered == panels | {"title": "{{pod}} (default/task-api)"}
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"


# --- rejected values ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
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
def test_invalid_values_are_rejected_with_a_message(values: tuple[str, ...], expected: str) -> None:
    message = helm_error(*sets(*values))
    assert expected in message
    assert message.count("\n- ") == 1  # only this reason


def test_all_errors_are_reported_at_once() -> None:
    assert helm_error(*sets("database.inMemory=true", "auth.mode=tokens", "httpRoute.enabled=true")).count("\n- ") == 3


@pytest.mark.parametrize(
    ("value", "name"),
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
def test_schema_violation_names_the_value(value: str, name: str) -> None:
    message = helm_error(*sets(value))
    assert "values don't meet the specifications of the schema" in message
    assert name in message


def test_null_values_are_rejected_by_name_or_treated_as_unset() -> None:
    """`nodeSelector:` without a value in a file is null. It must not cause an error in Go's templates."""
    schema = json.loads((CHART / "values.schema.json").read_text())

    def optional(node: dict[str, Any], default_node: dict[str, Any], path: tuple[str, ...] = ()) -> list[str]:
        node = resolve(schema, node)
        required = default_node.get("required", ())
        return [
            path_
            for key, child in node.get("properties", {}).items()
            for path_ in (
                optional(child, default_node.get("properties", {}).get(key, {}), (*path, key))
                if key in required
                else [".".join((*path, key))]
            )
        ]

    # The autoscaler needs two of them, and a message says so; global values have no default that null could remove.
    nulls = set(optional(schema, schema["then"])) - {"resources.requests", "replicaCount", "global", "library"}
    assert {"image.digest", "ingress.extraHosts", "commonLabels", "prometheusRule.repositoryUrl"} <= nulls
    switched_on = sets("serviceMonitor.enabled=true", "prometheusRule.enabled=true", "dashboard.enabled=true")
    rendered = render(*switched_on, *sets(*(f"{name}=null" for name in nulls)), helm_tests=True)
    assert api_container(rendered)["image"] == "your-dockerhub-username/task-api:latest"
    assert "<nil>" not in json.dumps(rendered)
    for name in ("auth.tokens", "database.bundled.resources", "networkPolicy.ingressNamespaces"):
        message = helm_error(*sets(f"{name}=null"))
        assert "values don't meet the specifications of the schema" in message
        assert name.rpartition(".")[2] in message


def test_parent_chart_may_pass_global_values() -> None:
    assert render(*sets("global.registry=example.com")) != []


def resolve(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    """A part of the schema, with references resolved."""
    return resolve(schema, schema["definitions"][node["$ref"].rpartition("/")[2]]) if "$ref" in node else node


def test_schema_covers_every_value_and_no_other() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())

    def compare(value: Any, node: dict[str, Any], path: str) -> list[str]:
        node = resolve(schema, node)
        properties = node.get("properties")
        if not isinstance(value, dict) or properties is None:
            return []
        assert node["additionalProperties"] is False, f"{path} accepts anything"
        wrong = [
            f"{path}.{key}"
            for key in properties.keys() ^ value.keys()
            if path or key not in {"global", "library", "enabled", "tags"}  # of parent charts
        ]
        return wrong + [
            w for key in properties.keys() & value.keys() for w in compare(value[key], properties[key], f"{path}.{key}")
        ]

    # Their defaults are only examples of their content.
    free = re.compile(r"^\.(affinity|autoscaling\.behavior\.\w+|pods\.\w+)\.")
    differences = compare(default_values(), schema, "")
    assert [path for path in differences if not free.match(path)] == []


def string_values(value: Any, schema: dict[str, Any], node: dict[str, Any], path: str = "") -> list[str]:
    """The values that are strings according to the schema, by path."""
    node = resolve(schema, node)
    if isinstance(value, dict):
        paths = []
        for key, child in value.items():
            of_it = node.get("properties", {}).get(key, node.get("additionalProperties"))
            if isinstance(of_it, dict):
                paths += string_values(child, schema, of_it, f"{path}.{key}" if path else key)
        return paths
    if isinstance(value, list):
        return [paths for item in value for paths in string_values(item, schema, node.get("items", {}), f"{path}[0]")]
    return [path] if set(node.get("type", ())) >= {"string", "boolean"} else []


EXAMPLES: dict[str, Any] = {
    "imagePullSecrets": [{"name": "a"}],
    "ingress": {"extraHosts": ["a"], "annotations": {"a": "b"}},
    "networkPolicy": {"ingressNamespaces": ["a"]},
    "httpRoute": {"parentRefs": [{"name": "a"}]},
    "extraEnv": [{"name": "A", "value": "b"}],
    **{key: {"a": "b"} for key in ("commonLabels", "podLabels", "podAnnotations", "nodeSelector")},
}
"""String values inside of values that are empty by default."""


def test_unquoted_number_or_boolean_for_a_string_is_rejected_with_a_hint_to_quote_it(tmp_path: Path) -> None:
    """YAML loses the notation: 1.0 becomes 1, 0123456 becomes 42798, yes becomes true."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    texts = string_values(default_values(), schema, schema)
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
        message = helm_error("--values", str(tmp_path / "values.yaml"))
        assert set(
            re.findall(r"^- (\S+) is \S+, a (?:number|boolean), but must be a string", message, re.MULTILINE)
        ) == set(texts)
        assert message.count("Quote it in the file, ") == len(texts)
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(EXAMPLES))
    assert render("--values", str(tmp_path / "values.yaml"))
    inside = string_values(EXAMPLES, schema, schema)
    assert len(inside) == 11
    for path in inside:
        message = helm_error(*sets(f"{path}=123"), "--values", str(tmp_path / "values.yaml"))
        assert f"- {path} is 123, a number, but must be a string." in message
        assert "or use --set-string instead of --set" in message


@pytest.mark.parametrize("kubernetes", ["1.25.16", "1.20.0"])
def test_older_kubernetes_is_rejected(kubernetes: str) -> None:
    assert "requires kubeVersion: >=1.26.0-0" in helm_error(kubernetes=kubernetes)


@pytest.mark.parametrize("kubernetes", ["1.26.0", "v1.29.3-gke.100", "1.34.4", "1.37.0"])
@pytest.mark.parametrize("file", VALUES_FILES)
def test_every_values_file_renders_on_every_supported_kubernetes(kubernetes: str, file: str) -> None:
    assert one("Deployment", render(*VALUES_FILES[file], kubernetes=kubernetes))
