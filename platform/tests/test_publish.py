"""scripts/publish-chart.sh: the content of a published chart. e2e/test_push.py pushes to a registry."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
import yaml
from manifests import CHARTS, LIBRARY, REPOSITORY, render
from scripts.new_service import SKELETONS

HELM = """#!/usr/bin/env bash
case $1 in
  push) cp "$2" "$PUSHED" && echo 'Digest: sha256:0a' ;;
  *) exec REAL "$@" ;;
esac
"""


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each chart of the repository, and that of a skeleton, as published: unpacked, by chart name."""
    folder = tmp_path_factory.mktemp("published")
    repository = folder / "repository"
    for path in ("scripts", "platform/helm", "LICENSE", "NOTICE", "versions.env"):
        source, target = REPOSITORY / path, repository / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target, symlinks=True) if source.is_dir() else shutil.copy(source, target)
    shutil.copytree(SKELETONS["postgresql"] / "chart", repository / "platform/helm/your-service")
    (folder / "bin").mkdir()
    helm = folder / "bin/helm"
    helm.write_text(HELM.replace("REAL", str(shutil.which("helm"))))
    helm.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{helm.parent}:{os.environ['PATH']}",
        "PUSHED": str(folder),
        "GITHUB_SERVER_URL": "https://github.com",
        "GITHUB_REPOSITORY": "ours/kit",
    }
    environment.pop("GITHUB_OUTPUT", None)
    names = [*(chart.name for chart in CHARTS), "your-service"]
    charts: list[Path] = [repository / "platform/helm" / name for name in names]
    charts_ = {}
    for chart in charts:
        version = yaml.safe_load((chart / "Chart.yaml").read_text())["version"]
        command = [str(repository / "scripts/publish-chart.sh"), f"v{version}", "registry.example/charts"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert f"Pushed oci://registry.example/charts/{chart.name}, version {version}" in done.stdout
        with tarfile.open(folder / f"{chart.name}-{version}.tgz") as tar:
            tar.extractall(folder / "charts", filter="data")
        charts_[chart.name] = folder / "charts" / chart.name
    return charts_


def test_published_chart_has_home_sources_maintainers_and_licence(published: dict[str, Path]) -> None:
    assert len(published) > 1
    for name, chart in published.items():
        metadata = yaml.safe_load((chart / "Chart.yaml").read_text())
        assert metadata["name"] == name
        assert metadata["home"] == "https://github.com/ours/kit"
        assert metadata["sources"] == ["https://github.com/ours/kit"]
        assert metadata["icon"] == f"https://github.com/ours/kit/raw/v{metadata['version']}/docs/pictures/icon.svg"
        assert metadata["maintainers"] == [
            {"name": "the maintainers of ours/kit", "url": "https://github.com/ours/kit"}
        ]
        assert metadata["annotations"]["artifacthub.io/license"] == "Apache-2.0"
        assert (chart / "LICENSE").read_text() == (REPOSITORY / "LICENSE").read_text()
        assert (chart / "NOTICE").read_text() == (REPOSITORY / "NOTICE").read_text()


def test_icon_exists_and_charts_share_their_metadata() -> None:
    assert (REPOSITORY / "docs/pictures/icon.svg").is_file()
    metadata = [yaml.safe_load((chart / "Chart.yaml").read_text()) for chart in (LIBRARY, *CHARTS)]
    for key in ("home", "sources", "icon", "maintainers", "annotations"):
        assert len({str(chart_metadata[key]) for chart_metadata in metadata if key in chart_metadata}) == 1


def test_readme_links_lead_into_the_repository_at_the_charts_version(published: dict[str, Path]) -> None:
    readmes = {name: chart / "README.md" for name, chart in published.items() if (chart / "README.md").exists()}
    for name, readme in readmes.items():
        version = yaml.safe_load((published[name] / "Chart.yaml").read_text())["version"]
        links = re.findall(r"\]\(([^)]+)\)", readme.read_text())
        repository_links = [link for link in links if link.startswith("https://github.com/ours/kit/")]
        assert repository_links
        for link in repository_links:
            path = link.removeprefix(f"https://github.com/ours/kit/blob/v{version}/").partition("#")[0]
            assert (REPOSITORY / path).exists(), link
        assert [link for link in links if not link.startswith(("https://", "#"))] == []


def test_published_chart_has_library_and_schema_but_no_test_values_and_renders(published: dict[str, Path]) -> None:
    for name, chart in published.items():
        files = {str(file.relative_to(chart)) for file in chart.rglob("*") if file.is_file()}
        assert {"values.schema.json", "charts/library/templates/_hpa.tpl"} <= files
        assert not [file for file in files if re.search(r"(^|/)ci/|(?<!templates/)tests/|gotmpl|\.bak$", file)]
        assert render(chart=chart, release=name)
