"""The chart of a new service: a line for each object of the library, platform/helm/service, and what is otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

LIBRARY = Path(__file__).resolve().parent.parent / "platform/helm/service"

LINKS = {"charts/library": "../../service", "values.schema.json": "../service/files/values.schema.json"}
"""Where the library and the schema of its values are, from the chart's folder."""

FILES = {
    "Chart.yaml": """\
apiVersion: v2
name: NAME
description: The TITLE API
type: application
version: 0.1.0
# The release of the service; the image to run is chosen by image.tag.
appVersion: "0.1.0"
kubeVersion: ">=1.26.0-0"
dependencies: # by the link charts/library
  - name: library
    version: "*"
    repository: file://../service
    import-values: [defaults]
""",
    ".helmignore": """\
# What checks the library stays out of the chart's package.
/charts/library/ci/
/charts/library/tests/
/charts/library/README.md.gotmpl
""",
    "values.yaml": """\
# What this chart has otherwise than the library. All values, with their defaults: ../service/README.md
image:
  repository: your-dockerhub-username/NAME # a placeholder for your own
ingress:
  host: NAME.local
  tls:
    secretName: NAME-tls
""",
    "values-dev.yaml": """\
# What `make up` and Tilt change for the local cluster, after ../service/values-dev.yaml.
ingress:
  extraHosts: [NAME.localhost] # browsers send *.localhost to this machine
""",
    "values-production.yaml": """\
# What production changes. The host name and the image come with the release; the Secrets are made before.
auth:
  mode: tokens
  tokens:
    existingSecret: NAME-tokens
serviceMonitor:
  enabled: true
  credential:
    secretName: NAME-metrics-token
prometheusRule: {enabled: true}
dashboard: {enabled: true}
helmTest:
  credential:
    secretName: NAME-test-token
""",
    "files/service.yaml": """\
# What the library has to know of this service. What each of these is: ../../service/templates/_self.tpl
runbooks: docs/operate.md#taskapi
""",
}

OF_A_DATABASE = {
    "values-dev.yaml": """\
database:
  maxConnections: 120 # for the three pods more that start at once
  bundled:
    existingSecret: NAME-database # made beside the chart
""",
    "values-production.yaml": """\
database:
  existingSecret: NAME-database
""",
    "files/service.yaml": """\
keeps: KEEPS
""",
}
"""What comes after the files of the same names."""


def chart(name: str, keeps: str = "") -> Iterator[tuple[str, str]]:
    """The files of the chart, by their paths in its folder; without LINKS.

    keeps: in a word, what the service keeps in a database; empty where it has none.
    """
    title = " ".join(word.capitalize() for word in name.split("-"))
    for path, text in FILES.items():
        whole = text + (OF_A_DATABASE.get(path, "") if keeps else "")
        yield path, whole.replace("NAME", name).replace("TITLE", title).replace("KEEPS", keeps)
    for template in objects(database=bool(keeps)):
        yield path_of(template), f'{{{{- include "service.{template}" . }}}}\n'


def objects(*, database: bool) -> list[str]:
    """The templates of the library that are an object, or the notes: each has a file of its own."""
    files = {file.stem[1:]: file.read_text() for file in sorted(LIBRARY.glob("templates/_*.tpl"))}
    of_a_database = ("postgres", "cloudnativepg", "database-")
    return [
        name
        for name, text in files.items()
        if (name == "notes" or "\nkind: " in text) and (database or not name.startswith(of_a_database))
    ]


def path_of(template: str) -> str:
    """Of hpa it is templates/hpa.yaml, of test-api templates/tests/api.yaml."""
    if template == "notes":
        return "templates/NOTES.txt"
    return f"templates/{template.replace('test-', 'tests/')}.yaml"
