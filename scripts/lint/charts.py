"""What is checked of the charts, and of the manifests beside them."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import defaultdict
from pathlib import Path
from threading import Lock

from scripts.lint.check import Failed, run

OLDEST_KUBERNETES = "1.26"
"""The oldest that the charts support."""
SLEEPING_KUBERNETES = "1.30"
"""The first that sleeps in preStop by itself."""
NEWEST_KUBERNETES = "1.37"
"""The newest with schemas."""

PLAIN_MANIFESTS = ("platform/k8s", "platform/k8s/monitoring", "platform/deployer", "platform/cluster")
"""Folders of what is applied as it stands: by a user, by `make kubeconfig-ci`, by `make up MONITORING=1`."""


class Charts:
    """The charts, and what each Helm makes of them for each Kubernetes: rendered once, for all checks that read it."""

    def __init__(self, work: Path, charts: list[Path]) -> None:
        self.work = work
        self.charts = charts
        self._rendering: defaultdict[tuple[str, str], Lock] = defaultdict(Lock)

    def rendered(self, helm: str, kubernetes: str) -> Path:
        """A folder with a file for each chart and file of values.

        With a tag, as a deploy does: the placeholder `latest` is what NOTES warn of. And where there is a database with
        a Secret that exists, but for ci/defaults-values.yaml, which makes its own.
        """
        folder = self.work / f"{helm}-{kubernetes}"
        with self._rendering[helm, kubernetes]:
            if not folder.exists():
                self._render(helm, kubernetes, folder)
        return folder

    @staticmethod
    def values(chart: Path) -> list[Path]:
        """Each file that a chart is rendered with: its defaults, other surroundings', and those made for checks."""
        return sorted([*chart.glob("values*.yaml"), *chart.glob("ci/*-values.yaml")])

    def _render(self, helm: str, kubernetes: str, folder: Path) -> None:
        made = {}
        for chart in self.charts:
            has_database = re.search("^database:", (chart / "values.yaml").read_text(), re.MULTILINE)
            for values in self.values(chart):
                settings = ["--set-string", "image.tag=0.1.0"]
                if has_database and values.name != "defaults-values.yaml":
                    settings += ["--set", f"database.bundled.existingSecret={chart.name}-database"]
                settings += ["--kube-version", f"{kubernetes}.0"]
                made[f"{chart.name}-{values.name}"] = run(
                    helm, "template", chart.name, chart, "--values", values, *settings
                )
        folder.mkdir()
        for name, text in made.items():
            (folder / name).write_text(text)

    def lint(self, chart: Path) -> None:
        failures = []
        for values in self.values(chart):
            command = ["helm", "lint", "--strict", "--quiet", "--kube-version", f"{OLDEST_KUBERNETES}.0", "--values"]
            try:
                run(*command, values, chart)
            except Failed as failed:
                failures.append(f"With {values}:\n{failed}")
        if failures:
            raise Failed("".join(failures))

    def manifests(self, kubernetes: str) -> None:
        rendered = sorted(self.rendered("helm", kubernetes).iterdir()) if shutil.which("helm") else []
        run("kubernetes-validate", "--strict", "--kubernetes-version", kubernetes, *plain_manifests(), *rendered)

    def custom_resources(self) -> None:
        """kubernetes-validate lets custom resources pass; here a kind without a schema is an error."""
        operators = [os.environ["PROMETHEUS_OPERATOR_MANIFEST"], os.environ["GATEWAY_API_MANIFEST"]]
        cloudnative_pg = f"github.com/cloudnative-pg/cloudnative-pg@{os.environ['CLOUDNATIVE_PG_VERSION']}"
        schemas = Path(".tools/schemas")
        kept, made_from = schemas / "from", " ".join([NEWEST_KUBERNETES, *operators, cloudnative_pg])
        if not kept.exists() or kept.read_text() != made_from:
            from scripts.lint.schemas import lay_out  # not in tests: where platform/ is on the path it cannot be

            shutil.rmtree(schemas, ignore_errors=True)
            module = json.loads(run("go", "mod", "download", "-json", cloudnative_pg))["Dir"]
            clusters = f"{module}/config/crd/bases/postgresql.cnpg.io_clusters.yaml"
            lay_out(schemas, NEWEST_KUBERNETES, [*operators, clusters])
            kept.write_text(made_from)
        locations = [
            *("-schema-location", f"{schemas}/built-in/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"),
            *("-schema-location", f"{schemas}/{{{{.Group}}}}/{{{{.ResourceKind}}}}_{{{{.ResourceAPIVersion}}}}.json"),
        ]
        command = ["kubeconform", "-strict", "-summary", "-kubernetes-version", f"{NEWEST_KUBERNETES}.0", *locations]
        run(*command, *plain_manifests(), self.rendered("helm", NEWEST_KUBERNETES))

    def same_with_each_helm(self) -> None:
        """The Helm that a team has must not matter. What differs is empty lines, and a password made each time."""
        as_it_is = self.rendered(f"helm-{os.environ['HELM_VERSION']}", NEWEST_KUBERNETES)
        for version in (os.environ["HELM_OLDEST_VERSION"], os.environ["HELM_4_VERSION"]):
            ignored = ["--ignore-blank-lines", "-I", "^  password: ", "-I", "^  url: "]
            other = self.rendered(f"helm-{version}", NEWEST_KUBERNETES)
            try:
                run("diff", "--recursive", "--unified", *ignored, as_it_is, other)
            except Failed as failed:
                raise Failed(f"{failed}Helm {version} renders a chart otherwise than {as_it_is.name}.") from None

    def practice(self) -> None:
        """One run for each file of values: it looks for a pod's NetworkPolicy, disruption budget and Service beside it.

        What objects are excused from is written on them with the reason (kube-score/ignore).
        """
        failures = []
        for file in sorted(self.rendered("helm", OLDEST_KUBERNETES).iterdir()):
            command = ["kube-score", "score", "--kubernetes-version", f"v{OLDEST_KUBERNETES}", "--exit-one-on-warning"]
            optional = ["--enable-optional-test", "container-seccomp-profile,container-ports-check"]
            try:
                run(*command, "--output-format", "ci", *optional, file)
            except Failed as failed:
                scores = [line for line in str(failed).splitlines() if not line.startswith("[OK]")]
                failures.append("\n".join([f"With {file.name}:", *scores]))
        if failures:
            raise Failed("\n".join(failures))

    def linter(self) -> None:
        """With its default checks. But for latest-tag in platform/k8s: there `latest` is a placeholder, in the one line
        that a user edits."""
        lint = ["kube-linter", "lint", "--fail-if-no-objects-found", "--fail-on-invalid-resource"]
        run(*lint, self.rendered("helm", NEWEST_KUBERNETES), "platform/deployer", "platform/cluster")
        run(*lint, "--exclude", "latest-tag", "platform/k8s")

    def security(self) -> None:
        checkov = [".tools/checkov/bin/checkov", "--config-file", ".checkov.yaml", "--directory"]
        run(*checkov, self.rendered("helm", NEWEST_KUBERNETES))

    def tests(self, chart: Path) -> None:
        if not list(chart.glob("tests/*_test.yaml")):
            raise Failed(f"{chart}/tests holds no *_test.yaml.")
        run("helm-unittest", "--strict", "--file", "tests/*_test.yaml", chart)

    def readme(self, chart: Path) -> None:
        made = run("helm-docs", "--chart-search-root", chart, "--log-level", "warning", "--dry-run")
        if made != (chart / "README.md").read_text():
            raise Failed(f"{chart}/README.md is not what values.yaml says. Write it again: make docs")


def plain_manifests() -> list[Path]:
    return [file for folder in PLAIN_MANIFESTS for file in sorted(Path(folder).glob("*.yaml"))]
