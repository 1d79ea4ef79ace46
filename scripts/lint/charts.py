"""Checks of the charts, and of the raw manifests."""

from __future__ import annotations

import json
import os
import shutil
from collections import defaultdict
from pathlib import Path
from threading import Lock

from scripts.lint.check import Failed, run

OLDEST_KUBERNETES = "1.26"
"""The oldest supported version."""
SLEEP_ACTION_KUBERNETES = "1.30"
"""The first with the sleep action for preStop."""
NEWEST_KUBERNETES = "1.37"
"""The newest version with schemas."""
KUBERNETES_VERSIONS = (OLDEST_KUBERNETES, SLEEP_ACTION_KUBERNETES, NEWEST_KUBERNETES)

RAW_MANIFESTS = ("platform/k8s", "platform/k8s/monitoring", "platform/deployer", "platform/cluster")
"""Folders of manifests that are applied as they are: by a user, by `make kubeconfig-ci`, by `make up MONITORING=1`."""

IGNORED_CHECKS = {
    "container-image-pull-policy": "IfNotPresent lets a local cluster use an image that was loaded into it",
    "container-security-context-user-group-id": "1000 and 999 are the users that the images are made for",
}
"""kube-score checks that are ignored, and why. It has no configuration file."""
IGNORED_CHECKS_BY_VALUES = {
    "memory-values.yaml": {
        "deployment-strategy": "tasks are in one pod's memory: two pods would have different ones",
        "deployment-replicas": "the same",
    },
    "cloudnativepg-values.yaml": {
        "networkpolicy-targets-pod": "the operator creates the selected pods, so they are not in these manifests",
    },
}
"""The same, for charts with a specific values file."""


class Charts:
    """The charts, rendered by each Helm for each Kubernetes once, for all checks that read the result."""

    def __init__(self, work: Path, repository: Path) -> None:
        """The charts of services, and of the skeletons for new services."""
        self.work = work
        self.library = repository / "platform/helm/service"
        charts = [chart for chart in sorted(repository.glob("platform/helm/*/")) if chart != self.library]
        self.charts = charts + sorted(repository.glob("skeletons/*/chart/"))
        self._rendering: defaultdict[tuple[str, str], Lock] = defaultdict(Lock)
        self._writing_schemas = Lock()

    def rendered(self, helm: str, kubernetes: str) -> Path:
        """A folder with one file per chart and values file.

        With a tag, as in a deploy: NOTES warns of the placeholder `latest`. And with an existing Secret if there is a
        database, except for ci/defaults-values.yaml, which creates its own.
        """
        folder = self.work / f"{helm}-{kubernetes}"
        with self._rendering[helm, kubernetes]:
            if not folder.exists():
                self._render(helm, kubernetes, folder)
        return folder

    def values(self, chart: Path) -> dict[str, list[str | Path]]:
        """Each set of values that a chart is rendered with, as arguments of helm, by file name.

        Some are for other environments, some only for checks. A chart's own file comes after the library's.
        """
        patterns, folders = ("values-*.yaml", "ci/*-values.yaml"), (self.library, chart)
        files = sorted({file.relative_to(f) for f in folders for pattern in patterns for file in f.glob(pattern)})
        return {
            file.name: [part for f in folders if (f / file).exists() for part in ("--values", f / file)]
            for file in files
        }

    def _render(self, helm: str, kubernetes: str, folder: Path) -> None:
        manifests = {}
        for chart in self.charts:
            has_database = (chart / "templates/postgres.yaml").exists()
            release = chart.name if chart.parent == self.library.parent else "your-service"
            for name, values in self.values(chart).items():
                settings = ["--set-string", "image.tag=0.1.0"]
                if has_database and name != "defaults-values.yaml":
                    settings += ["--set", f"database.bundled.existingSecret={release}-database"]
                settings += ["--kube-version", f"{kubernetes}.0"]
                manifests[f"{name_of(chart)}-{name}"] = run(helm, "template", release, chart, *values, *settings)
        folder.mkdir()
        for name, text in manifests.items():
            (folder / name).write_text(text)

    def lint(self, chart: Path) -> None:
        failures = []
        for name, values in self.values(chart).items():
            command = ["helm", "lint", "--strict", "--quiet", "--kube-version", f"{OLDEST_KUBERNETES}.0"]
            try:
                run(*command, *values, chart)
            except Failed as failed:
                failures.append(f"With {name}:\n{failed}")
        if failures:
            raise Failed("".join(failures))

    def manifests(self, kubernetes: str) -> None:
        """Against the schemas of this Kubernetes version and of the operators; a kind without a schema is an error."""
        schemas = self._schemas()
        locations = [
            *("-schema-location", f"{schemas}/built-in/{kubernetes}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"),
            *("-schema-location", f"{schemas}/{{{{.Group}}}}/{{{{.ResourceKind}}}}_{{{{.ResourceAPIVersion}}}}.json"),
        ]
        command = ["kubeconform", "-strict", "-summary", "-kubernetes-version", f"{kubernetes}.0", *locations]
        run(*command, *raw_manifests(), self.rendered("helm", kubernetes))

    def _schemas(self) -> Path:
        """The folder with the schemas, written once per version of what they are made of."""
        operators = [os.environ["PROMETHEUS_OPERATOR_MANIFEST"], os.environ["GATEWAY_API_MANIFEST"]]
        cloudnative_pg = f"github.com/cloudnative-pg/cloudnative-pg@{os.environ['CLOUDNATIVE_PG_VERSION']}"
        folder = Path(".tools/schemas")
        stamp, sources = folder / "from", " ".join([*KUBERNETES_VERSIONS, *operators, cloudnative_pg])
        with self._writing_schemas:
            if stamp.exists() and stamp.read_text() == sources:
                return folder
            from scripts.lint.schemas import (
                write_schemas,  # not in tests, where platform/ on the path breaks this import
            )

            shutil.rmtree(folder, ignore_errors=True)
            module = json.loads(run("go", "mod", "download", "-json", cloudnative_pg))["Dir"]
            clusters = f"{module}/config/crd/bases/postgresql.cnpg.io_clusters.yaml"
            write_schemas(folder, [*KUBERNETES_VERSIONS], [*operators, clusters])
            stamp.write_text(sources)
        return folder

    def compare_helm_versions(self) -> None:
        """All supported Helm versions must render the same. Only empty lines and generated passwords may differ."""
        expected = self.rendered(f"helm-{os.environ['HELM_VERSION']}", NEWEST_KUBERNETES)
        for version in (os.environ["HELM_OLDEST_VERSION"], os.environ["HELM_4_VERSION"]):
            ignored = ["--ignore-blank-lines", "-I", "^  password: ", "-I", "^  url: "]
            other = self.rendered(f"helm-{version}", NEWEST_KUBERNETES)
            try:
                run("diff", "--recursive", "--unified", *ignored, expected, other)
            except Failed as failed:
                raise Failed(f"{failed}Helm {version} renders a chart differently than {expected.name}.") from None

    def kube_score(self) -> None:
        """One run per values file: it looks for objects that belong to a pod, such as its NetworkPolicy and Service."""
        failures = []
        for file in sorted(self.rendered("helm", OLDEST_KUBERNETES).iterdir()):
            command = ["kube-score", "score", "--kubernetes-version", f"v{OLDEST_KUBERNETES}", "--exit-one-on-warning"]
            optional = ["--enable-optional-test", "container-seccomp-profile,container-ports-check"]
            by_values = [
                checks for values, checks in IGNORED_CHECKS_BY_VALUES.items() if file.name.endswith(f"-{values}")
            ]
            ignored = ["--ignore-test", ",".join(name for checks in (IGNORED_CHECKS, *by_values) for name in checks)]
            try:
                run(*command, "--output-format", "ci", *optional, *ignored, file)
            except Failed as failed:
                scores = [line for line in str(failed).splitlines() if not line.startswith("[OK]")]
                failures.append("\n".join([f"With {file.name}:", *scores]))
        if failures:
            raise Failed("\n".join(failures))

    def kube_linter(self) -> None:
        """With its default checks, except for those in .kube-linter.yaml, and for latest-tag in platform/k8s: there
        `latest` is a placeholder, in the one line that a user edits. That folder belongs to the first service, and is
        removed with it."""
        lint = [
            "kube-linter",
            "lint",
            "--config",
            ".kube-linter.yaml",
            "--fail-if-no-objects-found",
            "--fail-on-invalid-resource",
        ]
        run(*lint, self.rendered("helm", NEWEST_KUBERNETES), "platform/deployer", "platform/cluster")
        if Path("platform/k8s").exists():
            run(*lint, "--exclude", "latest-tag", "platform/k8s")

    def tests(self, chart: Path) -> None:
        """The library's tests, which apply to every service's chart, and the chart's own."""
        shared_tests = self.library / "tests"
        if not list(shared_tests.glob("*_test.yaml")):
            raise Failed(f"{shared_tests} contains no *_test.yaml.")
        library = os.path.relpath(self.library, chart)
        files = ("--file", f"{library}/tests/*_test.yaml", "--file", "tests/*_test.yaml")
        run("helm-unittest", "--strict", "--with-subchart=false", *files, chart)

    def readme(self, chart: Path) -> None:
        """The READMEs with a README.md.gotmpl, which helm-docs generates."""
        generated = run("helm-docs", "--chart-search-root", chart, "--log-level", "warning", "--dry-run")
        if generated != (chart / "README.md").read_text():
            raise Failed(f"{chart}/README.md is out of date with values.yaml. Regenerate it: make docs")


def name_of(chart: Path) -> str:
    """The chart's name in titles and files: a skeleton's is skeletons/NAME/chart."""
    return chart.parent.name if chart.name == "chart" else chart.name


def raw_manifests() -> list[Path]:
    return [file for folder in RAW_MANIFESTS for file in sorted(Path(folder).glob("*.yaml"))]
