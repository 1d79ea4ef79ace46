"""How external requests reach the API: through Ingress and HTTPRoute, at the root and below a prefix."""

from __future__ import annotations

import re

import pytest
from manifests import Manifest, api_container, environment, one, render, sets

PREFIX = "ingress.path=/tasks"
NGINX = "nginx.ingress.kubernetes.io/"


def upstream_path(ingress: Manifest, uri: str) -> str | None:
    """The path of ingress-nginx's request to the API, or None if it responds with 404 itself."""
    annotations = ingress["metadata"]["annotations"]
    (path,) = ingress["spec"]["rules"][0]["http"]["paths"]
    target = annotations[NGINX + "rewrite-target"]
    if annotations.get(NGINX + "use-regex") != "true":
        assert path["pathType"] == "Prefix"
        # A target that equals the path is not a rewrite (internal/ingress/controller/template/template.go).
        assert target == path["path"] == "/"
        return uri
    match = re.match(path["path"], uri, re.IGNORECASE)  # a location ~* "^...", not anchored at the end
    return re.sub(r"\$(\d)", lambda group: match[int(group[1])], target) if match else None


@pytest.mark.parametrize("uri", ["/", "/docs", "/v1/tasks", "/v1/tasks/0198", "/health"])
def test_paths_are_unchanged_at_the_root(uri: str) -> None:
    assert upstream_path(one("Ingress", render()), uri) == uri


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("/tasks", "/"),
        ("/tasks/", "/"),
        ("/tasks/docs", "/docs"),
        ("/tasks/v1/tasks/0198", "/v1/tasks/0198"),
        ("/tasksofothers", None),
        ("/v1/tasks", None),
        ("/", None),
    ],
)
def test_prefix_is_stripped(uri: str, expected: str | None) -> None:
    assert upstream_path(one("Ingress", render(*sets(PREFIX))), uri) == expected


@pytest.mark.parametrize("values", [(), (PREFIX,), ("ingress.path=/a/b-c_d",)])
def test_path_and_annotations_pass_the_validation_of_ingress_nginx_1_12(values: tuple[str, ...]) -> None:
    """Since 1.12 a path of type Prefix must not be a regular expression, and annotation values are restricted."""
    ingress = one("Ingress", render(*sets(*values)))
    (path,) = ingress["spec"]["rules"][0]["http"]["paths"]
    plain = re.fullmatch(r"/[A-Za-z0-9._\-/]*", path["path"])
    assert (path["pathType"] == "Prefix") == bool(plain)
    assert path["pathType"] in {"Prefix", "ImplementationSpecific"}
    assert re.fullmatch(r"/?[-._~a-zA-Z0-9/$:]*", ingress["metadata"]["annotations"][NGINX + "rewrite-target"])
    assert not [name for name in ingress["metadata"]["annotations"] if name.endswith("-snippet")]


def test_api_knows_the_stripped_prefix() -> None:
    assert "TASKS_ROOT_PATH" not in environment(api_container(render()))
    assert environment(api_container(render(*sets(PREFIX))))["TASKS_ROOT_PATH"] == "/tasks"
    assert "TASKS_ROOT_PATH" not in environment(api_container(render(*sets(PREFIX, "ingress.enabled=false"))))


def test_rules_and_certificate_have_the_same_hosts() -> None:
    ingress = one("Ingress", render(*sets("ingress.extraHosts={a.example.com,b.example.com}")))
    hosts = ["task-api.local", "a.example.com", "b.example.com"]
    assert [rule["host"] for rule in ingress["spec"]["rules"]] == hosts
    assert ingress["spec"]["tls"] == [{"hosts": hosts, "secretName": "task-api-tls"}]


def test_cert_manager_annotation_is_set() -> None:
    annotations = one("Ingress", render(*sets("ingress.tls.clusterIssuer=letsencrypt")))["metadata"]["annotations"]
    assert annotations["cert-manager.io/cluster-issuer"] == "letsencrypt"
    assert "cert-manager.io/cluster-issuer" not in one("Ingress", render())["metadata"]["annotations"]


def test_without_a_certificate_http_is_not_redirected_to_https() -> None:
    ingress = one("Ingress", render(*sets("ingress.tls.secretName=")))
    assert "tls" not in ingress["spec"]
    assert ingress["metadata"]["annotations"][NGINX + "ssl-redirect"] == "false"
    assert one("Ingress", render())["metadata"]["annotations"][NGINX + "ssl-redirect"] == "true"


GATEWAY = sets("httpRoute.enabled=true", "httpRoute.parentRefs[0].name=my-gateway", "ingress.enabled=false")


def test_http_route_routes_to_the_service() -> None:
    rendered = render(*GATEWAY, *sets("ingress.extraHosts={a.example.com}"))
    assert not [m for m in rendered if m["kind"] == "Ingress"]
    route = one("HTTPRoute", rendered)
    assert route["apiVersion"] == "gateway.networking.k8s.io/v1"
    assert route["spec"]["parentRefs"] == [
        {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "my-gateway"}
    ]
    assert route["spec"]["hostnames"] == ["task-api.local", "a.example.com"]
    (service,) = (m for m in rendered if m["kind"] == "Service" and m["metadata"]["name"] == "task-api")
    (rule,) = route["spec"]["rules"]
    assert rule == {
        "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
        "backendRefs": [
            {
                "group": "",
                "kind": "Service",
                "name": service["metadata"]["name"],
                "port": service["spec"]["ports"][0]["port"],
                "weight": 1,
            }
        ],
    }


def test_http_route_of_the_http_listener_redirects_to_https() -> None:
    listeners = (
        "parentRefs[0].sectionName=https",
        "redirectParentRefs[0].name=my-gateway",
        "redirectParentRefs[0].sectionName=http",
    )
    rendered = render(*GATEWAY, *sets(PREFIX, *(f"httpRoute.{listener}" for listener in listeners)))
    serving, redirect = (m for m in rendered if m["kind"] == "HTTPRoute")
    assert [route["spec"]["parentRefs"][0]["sectionName"] for route in (serving, redirect)] == ["https", "http"]
    assert redirect["metadata"]["name"] == "task-api-redirect"
    assert redirect["spec"]["hostnames"] == serving["spec"]["hostnames"]
    (rule,) = redirect["spec"]["rules"]
    assert rule == {
        "matches": [{"path": {"type": "PathPrefix", "value": "/tasks"}}],
        "filters": [{"type": "RequestRedirect", "requestRedirect": {"scheme": "https", "statusCode": 301}}],
    }


def test_http_route_strips_the_prefix() -> None:
    rendered = render(*GATEWAY, *sets(PREFIX))
    (rule,) = one("HTTPRoute", rendered)["spec"]["rules"]
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": "/tasks"}}]
    rewrite = {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}}
    assert rule["filters"] == [{"type": "URLRewrite", "urlRewrite": rewrite}]
    assert environment(api_container(rendered))["TASKS_ROOT_PATH"] == "/tasks"
