"""What is checked of the charts, and of the manifests beside them."""

from __future__ import annotations

import json
import os
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

NOT_ASKED = {
    "container-image-pull-policy": "IfNotPresent lets a local cluster use an image that was loaded into it",
    "container-security-context-user-group-id": "1000 and 999 are the users that the images are made for",
}
"""Checks of kube-score that nothing is asked of, and why. It has no file of settings."""
NOT_ASKED_WITH = {
    "memory-values.yaml": {
        "deployment-strategy": "tasks are in the memory of one pod: two at once would have different ones",
        "deployment-replicas": "the same",
    },
    "cloudnativepg-values.yaml": {
        "networkpolicy-targets-pod": "the operator makes the pods that it selects, so nobody sees them here",
    },
}
"""The same, of the charts with one file of values."""


class Charts:
    """The charts, and what each Helm makes of them for each Kubernetes: rendered once, for all checks that read it."""

    def __init__(self, work: Path, repository: Path) -> None:
        """Of each service, and of the skeletons that services are made of."""
        self.work = work
        self.library = repository / "platform/helm/service"
        charts = [chart for chart in sorted(repository.glob("platform/helm/*/")) if chart != self.library]
        self.charts = charts + sorted(repository.glob("skeletons/*/chart/"))
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

    def values(self, chart: Path) -> dict[str, list[str | Path]]:
        """Each set of values that a chart is rendered with, as arguments of helm, by the file's name.

        They are those of other surroundings, and those made for checks. A chart's own file comes after the library's.
        """
        patterns, folders = ("values-*.yaml", "ci/*-values.yaml"), (self.library, chart)
        files = sorted({file.relative_to(f) for f in folders for pattern in patterns for file in f.glob(pattern)})
        return {
            file.name: [part for f in folders if (f / file).exists() for part in ("--values", f / file)]
            for file in files
        }

    def _render(self, helm: str, kubernetes: str, folder: Path) -> None:
        made = {}
        for chart in self.charts:
            has_database = (chart / "templates/postgres.yaml").exists()
            release = chart.name if chart.parent == self.library.parent else "your-service"
            for name, values in self.values(chart).items():
                settings = ["--set-string", "image.tag=0.1.0"]
                if has_database and name != "defaults-values.yaml":
                    settings += ["--set", f"database.bundled.existingSecret={release}-database"]
                settings += ["--kube-version", f"{kubernetes}.0"]
                made[f"{name_of(chart)}-{name}"] = run(helm, "template", release, chart, *values, *settings)
        folder.mkdir()
        for name, text in made.items():
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
        """One run for each file of values: it looks for what a pod has beside it, as its NetworkPolicy and Service."""
        failures = []
        for file in sorted(self.rendered("helm", OLDEST_KUBERNETES).iterdir()):
            command = ["kube-score", "score", "--kubernetes-version", f"v{OLDEST_KUBERNETES}", "--exit-one-on-warning"]
            optional = ["--enable-optional-test", "container-seccomp-profile,container-ports-check"]
            of_file = [checks for values, checks in NOT_ASKED_WITH.items() if file.name.endswith(f"-{values}")]
            ignored = ["--ignore-test", ",".join(name for checks in (NOT_ASKED, *of_file) for name in checks)]
            try:
                run(*command, "--output-format", "ci", *optional, *ignored, file)
            except Failed as failed:
                scores = [line for line in str(failed).splitlines() if not line.startswith("[OK]")]
                failures.append("\n".join([f"With {file.name}:", *scores]))
        if failures:
            raise Failed("\n".join(failures))

    def linter(self) -> None:
        """With its default checks, but for those in .kube-linter.yaml. And but for latest-tag in platform/k8s: there
        `latest` is a placeholder, in the one line that a user edits. That folder is the first service's, and goes with
        it."""
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

    def security(self) -> None:
        checkov = [".tools/checkov/bin/checkov", "--config-file", ".checkov.yaml", "--directory"]
        run(*checkov, self.rendered("helm", NEWEST_KUBERNETES))

    def tests(self, chart: Path) -> None:
        """The library's, which hold for every service's chart, and the chart's own."""
        of_all = self.library / "tests"
        if not list(of_all.glob("*_test.yaml")):
            raise Failed(f"{of_all} holds no *_test.yaml.")
        library = os.path.relpath(self.library, chart)
        files = ("--file", f"{library}/tests/*_test.yaml", "--file", "tests/*_test.yaml")
        run("helm-unittest", "--strict", "--with-subchart=false", *files, chart)

    def readme(self, chart: Path) -> None:
        """Those of charts with a README.md.gotmpl: helm-docs writes them."""
        made = run("helm-docs", "--chart-search-root", chart, "--log-level", "warning", "--dry-run")
        if made != (chart / "README.md").read_text():
            raise Failed(f"{chart}/README.md is not what values.yaml says. Write it again: make docs")


def name_of(chart: Path) -> str:
    """What the chart is called in titles and files: a skeleton's is skeletons/NAME/chart."""
    return chart.parent.name if chart.name == "chart" else chart.name


def plain_manifests() -> list[Path]:
    return [file for folder in PLAIN_MANIFESTS for file in sorted(Path(folder).glob("*.yaml"))]
