"""All checks of `make lint`, in the order in which they start."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from scripts.lint import documents
from scripts.lint.charts import KUBERNETES_VERSIONS, Charts, name_of
from scripts.lint.check import Check, Command

CHASSIS = "packages/chassis"
CHART_FILES = r"platform/(helm|k8s|deployer|cluster)/.*|skeletons/[^/]*/chart/.*"


def checks(services: list[str], files: Iterable[str], charts: Charts) -> Iterator[Check]:
    def ours(pattern: str) -> Command:
        return tuple(path for path in files if re.fullmatch(pattern, path))

    shell, yaml = r".*\.sh|\.ci/run", r"(?!(platform/helm/[^/]*|skeletons/[^/]*/chart)/templates/).*\.ya?ml"
    # All but a fragment that becomes the last section of bench/RESULTS.md, and has no title.
    markdown = r"(?!bench/findings\.md).*\.md"
    python = r".*\.pyi?|.*pyproject\.toml"

    yield Check("Python format (ruff)", python, ("ruff", "format", "--check", "."))
    yield Check("Python code (ruff)", python, ("ruff", "check", "."))
    yield Check("Python types: tools and tests (mypy)", python, ("mypy",))
    skeletons = [Path(path).parent for path in ours(r"skeletons/[^/]*/service/pyproject\.toml")]
    for project in (Path(CHASSIS), *(Path("services", name) for name in services), *skeletons):
        name = str(project.parent) if project in skeletons else project.name
        python = f"{CHASSIS if project in skeletons else project}/.venv/bin/python"
        # The chassis' settings. Separate caches: each project has its own environment and packages.
        mypy = ("mypy", "--config-file", f"{CHASSIS}/pyproject.toml", "--cache-dir", f".mypy_cache/{name}")
        reads = rf"{CHASSIS}/((src|testing)/.*\.pyi?|pyproject\.toml)|{project}/(.*\.pyi?|requirements-dev\.txt)"
        yield Check(
            f"Python types: {name} (mypy)",
            reads,
            (*mypy, "--python-executable", python, f"{project}/src", f"{project}/tests"),
        )
        if project != Path(CHASSIS):
            reads = rf"({CHASSIS}|{project})/src/.*|{project}/(openapi\.json|requirements\.txt)"
            yield Check(f"OpenAPI document: {name}", reads, partial(documents.check, project, python))
    yield Check("Shell (shellcheck)", shell, ("shellcheck", "--external-sources", *ours(shell)))
    yield Check("YAML (yamllint)", yaml, ("yamllint", "--strict", *ours(yaml)))
    yield Check("Markdown (pymarkdown)", markdown, ("pymarkdown", "scan", *ours(markdown)))
    yield Check("Spelling (typos)", r".*", ("typos", "--hidden"))
    yield Check("Dockerfile (hadolint)", "Dockerfile", ("hadolint", "Dockerfile"))
    zizmor = ("zizmor", "--quiet", "--offline", "--persona", "pedantic", ".github")
    yield Check("Workflows and Dependabot (zizmor)", r"\.github/.*", zizmor)
    yield Check("Workflows (actionlint)", r"\.github/.*", ("actionlint",), needs="go")

    for chart in charts.charts:
        yield Check(f"Chart {name_of(chart)} (helm lint)", CHART_FILES, partial(charts.lint, chart), needs="helm")
    for kubernetes in KUBERNETES_VERSIONS:
        title = f"Manifests, Kubernetes {kubernetes} (kubeconform)"
        yield Check(title, CHART_FILES, partial(charts.manifests, kubernetes), needs="go")
    yield Check("Charts with Helm 3.12, 3 and 4 (diff)", CHART_FILES, charts.compare_helm_versions, needs="go")
    yield Check("Charts, good practice (kube-score)", CHART_FILES, charts.kube_score, needs="go")
    yield Check("Charts and manifests, good practice (kube-linter)", CHART_FILES, charts.kube_linter, needs="go")
    for chart in charts.charts:
        name = name_of(chart)
        yield Check(f"Chart {name}, tests (helm-unittest)", CHART_FILES, partial(charts.tests, chart), needs="go")
    for chart in [charts.library, *charts.charts]:
        if (chart / "README.md.gotmpl").exists():
            yield Check(
                f"Chart {chart.name}, README (helm-docs)", CHART_FILES, partial(charts.readme, chart), needs="go"
            )
