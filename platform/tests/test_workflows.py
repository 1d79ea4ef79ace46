"""The workflows as data: who waits for whom, what runs when, with which rights, and that nothing untested is pushed."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from manifests import REPOSITORY

FILES = sorted((REPOSITORY / ".github/workflows").glob("*.yml"))


def _strings(file: Path) -> dict[str, Any]:
    """The file with every value a string: in YAML 1.1 the key `on` is a truth value."""
    content: dict[str, Any] = yaml.BaseLoader(file.read_text()).get_single_data()
    return content


WORKFLOWS = {file.name: _strings(file) for file in FILES}
PIPELINE = WORKFLOWS["ci-cd.yml"]["jobs"]
JOBS = [pytest.param(job, id=f"{file}-{name}") for file, w in WORKFLOWS.items() for name, job in w["jobs"].items()]
STEPS = [step for workflow in WORKFLOWS.values() for job in workflow["jobs"].values() for step in job["steps"]]
ON_MAIN = "github.event_name == 'push' && github.ref == 'refs/heads/main'"
VERSIONS = dict(re.findall(r"^([A-Z_0-9]+)=(.*)$", (REPOSITORY / "versions.env").read_text(), re.MULTILINE))


def needs(job: str) -> set[str]:
    found = PIPELINE[job].get("needs", [])
    return {found} if isinstance(found, str) else set(found)


def uses(job: dict[str, Any], action: str) -> list[int]:
    """Where in the job the action is used."""
    return [i for i, step in enumerate(job["steps"]) if step.get("uses", "").startswith(f"{action}@")]


def runs(job: dict[str, Any], command: str) -> list[int]:
    return [i for i, step in enumerate(job["steps"]) if command in step.get("run", "")]


# --- the outline of ci-cd.yml ---------------------------------------------------------


def test_the_pipeline_runs_for_main_and_for_pull_requests_to_it() -> None:
    assert WORKFLOWS["ci-cd.yml"]["on"] == {"push": {"branches": ["main"]}, "pull_request": {"branches": ["main"]}}


def test_two_builds_of_a_commit_are_the_same_bytes() -> None:
    """The times in them are the commit's; e2e/test_image.py shows that nothing else differs."""
    job = PIPELINE["build-scan-push"]
    (build,) = (job["steps"][i] for i in uses(job, "docker/build-push-action"))
    assert build["env"]["SOURCE_DATE_EPOCH"] == "${{ steps.names.outputs.epoch }}"
    assert "rewrite-timestamp=true" in build["with"]["outputs"]
    labels = dict(line.split("=", 1) for line in build["with"]["labels"].splitlines())
    assert labels == {
        "org.opencontainers.image.source": "${{ github.server_url }}/${{ github.repository }}",
        "org.opencontainers.image.created": "${{ steps.names.outputs.created }}",
    }


def test_who_waits_for_whom() -> None:
    assert {name: needs(name) for name in PIPELINE} == {
        "test": set(),
        "lint": set(),
        "build-scan-push": {"test", "lint"},
        "e2e": {"test", "lint", "build-scan-push"},
        "gate": {"test", "lint", "e2e"},
        "latest": {"build-scan-push", "e2e"},
        "deploy": {"build-scan-push", "e2e", "latest"},
    }


@pytest.mark.parametrize("job", ["build-scan-push", "latest", "deploy"])
def test_what_changes_anything_outside_runs_for_a_push_to_main_only(job: str) -> None:
    assert PIPELINE[job]["if"] == ON_MAIN


def test_tests_run_with_python_311_and_pips_cache_by_make() -> None:
    job = PIPELINE["test"]
    (python,) = uses(job, "actions/setup-python")
    assert job["steps"][python]["with"]["python-version"] == "3.11"
    assert job["steps"][python]["with"]["cache"] == "pip"
    assert python < runs(job, "make install")[0] < runs(job, "make test")[0]
    assert runs(PIPELINE["lint"], "make lint")
    assert all(PIPELINE[name]["env"]["REQUIRE_ALL"] == "1" for name in ("test", "lint"))


def test_the_scan_comes_before_the_login_and_the_login_before_the_push() -> None:
    job = PIPELINE["build-scan-push"]
    (build,) = uses(job, "docker/build-push-action")
    (scan,) = uses(job, "aquasecurity/trivy-action")
    keep, note = uses(job, "actions/upload-artifact")
    (login,) = uses(job, "docker/login-action")
    (push,) = runs(job, "scripts/push.sh")
    (sign,) = runs(job, "cosign sign")
    (tool,) = runs(job, "scripts/go-tools.sh crane")
    assert build < scan < keep < tool < login < push < sign < note
    # No secret is at hand before: but for the name, of which the repository is made.
    before = yaml.safe_dump([job["steps"][:login], job["env"]])
    assert set(re.findall(r"secrets\.(\w+)", before)) == {"DOCKERHUB_USERNAME"}
    # A failed scan stops the job: no step after it has a condition of its own, and none is excused.
    assert not any("if" in step or "continue-on-error" in step for step in job["steps"])


def test_one_layout_is_built_scanned_kept_pushed_and_tested() -> None:
    job = PIPELINE["build-scan-push"]
    built = job["steps"][uses(job, "docker/build-push-action")[0]]["with"]
    outputs = dict(part.split("=") for part in built["outputs"].split(","))
    assert (outputs["type"], outputs["dest"], outputs["tar"]) == ("oci", "images/${{ matrix.service }}", "false")
    assert "push" not in built
    assert "load" not in built
    assert (built["provenance"], built["sbom"]) == ("mode=max", "true")
    assert built["cache-from"].startswith("type=gha,")
    assert built["cache-to"].startswith("type=gha,")
    assert job["steps"][uses(job, "aquasecurity/trivy-action")[0]]["with"]["input"] == outputs["dest"]
    kept = job["steps"][uses(job, "actions/upload-artifact")[0]]["with"]
    assert (kept["name"], kept["path"]) == ("image-${{ matrix.service }}", "images")
    (push,) = runs(job, "scripts/push.sh")
    assert job["steps"][push]["run"] == 'scripts/push.sh "images/$SERVICE" "$IMAGE_REPOSITORY" "$GITHUB_SHA"'
    assert job["steps"][push]["env"] == {"SERVICE": "${{ matrix.service }}"}
    e2e = PIPELINE["e2e"]
    fetched = e2e["steps"][uses(e2e, "actions/download-artifact")[0]]
    assert fetched["if"] == "github.event_name == 'push'"
    assert fetched["with"] == {"pattern": "image-*", "path": "images", "merge-multiple": "true"}
    (load,) = runs(e2e, 'scripts/layout.py load "$layout"')
    assert e2e["steps"][load]["if"] == "github.event_name == 'push'"
    assert load < runs(e2e, "make up")[0] < runs(e2e, "make e2e")[0]


def flags_of_the_action(step: dict[str, Any]) -> dict[str, str]:
    return {key: value for key, value in step["with"].items() if key not in ("version", "input", "image-ref")}


def test_every_scan_has_the_flags_and_the_version_of_make_scan() -> None:
    script = (REPOSITORY / "scripts/scan.sh").read_text()
    command = script[script.index("  image --input /layout") :].split()[3:]
    assert command == ["--severity", "HIGH,CRITICAL", "--ignore-unfixed", "--exit-code", "1"]
    scans = [step for step in STEPS if step.get("uses", "").startswith("aquasecurity/trivy-action@")]
    assert len(scans) == 3
    for step in scans:
        assert flags_of_the_action(step) == {"severity": "HIGH,CRITICAL", "ignore-unfixed": "true", "exit-code": "1"}
        assert step["with"]["version"] == VERSIONS["TRIVY_VERSION"]
    version = VERSIONS["TRIVY_VERSION"].removeprefix("v")
    assert re.fullmatch(rf"ghcr\.io/aquasecurity/trivy:{version}@sha256:[0-9a-f]{{64}}", VERSIONS["TRIVY_IMAGE"])
    # Files that change what the scan means would be read by one of the two only.
    assert not [name for name in ("trivy.yaml", ".trivyignore", ".trivyignore.yaml") if (REPOSITORY / name).exists()]


def test_pull_requests_see_no_secret() -> None:
    for name in ("test", "lint", "e2e", "gate"):
        assert "secrets." not in yaml.safe_dump(PIPELINE[name]), name


def test_latest_moves_after_end_to_end_and_one_at_a_time() -> None:
    job = PIPELINE["latest"]
    assert job["concurrency"] == {"group": "image-latest", "cancel-in-progress": "false"}
    (move,) = runs(job, "scripts/latest.py")
    assert uses(job, "docker/login-action")[0] < move
    assert job["steps"][uses(job, "actions/checkout")[0]]["with"]["fetch-depth"] == "0"
    assert not any("latest" in step.get("run", "") for step in PIPELINE["build-scan-push"]["steps"])


def test_the_deploy_is_of_this_commit_by_tag_and_digest() -> None:
    job = PIPELINE["deploy"]
    assert job["environment"]["name"] == "production"
    assert job["concurrency"] == {"group": "production-deploy", "cancel-in-progress": "true"}
    assert job["env"]["IMAGE_TAG"] == "${{ github.sha }}"
    assert job["env"]["IMAGE_DIGESTS"] == "digests"
    (fetched,) = uses(job, "actions/download-artifact")
    assert job["steps"][fetched]["with"] == {"pattern": "digest-*", "path": "digests", "merge-multiple": "true"}
    built = PIPELINE["build-scan-push"]["steps"]
    assert [step["with"]["name"] for step in built if "if-no-files-found" in step.get("with", {})] == [
        "image-${{ matrix.service }}",
        "digest-${{ matrix.service }}",
    ]
    (noted,) = (step for step in built if "digests" in step.get("run", ""))
    assert noted["env"]["DIGEST"] == "${{ steps.push.outputs.digest }}"
    assert job["env"]["DEPLOY_TIMEOUT"] == "120s"
    (deploy,) = runs(job, "scripts/deploy.sh deploy")
    (settle,) = runs(job, "scripts/deploy.sh settle")
    # exec, and no make between: GNU make does not pass a SIGINT on.
    assert job["steps"][deploy]["run"] == "exec scripts/deploy.sh deploy"
    assert job["steps"][settle]["if"] == "cancelled() || failure()"
    assert [i for i, step in enumerate(job["steps"]) if "KUBE_CONFIG" in step.get("env", {})] == [deploy, settle]
    # Without history git could not tell an older commit from a newer one.
    assert job["steps"][uses(job, "actions/checkout")[0]]["with"]["fetch-depth"] == "0"


def test_every_job_names_the_image_alike() -> None:
    names = {
        job["env"]["IMAGE_REPOSITORY"]
        for workflow in WORKFLOWS.values()
        for job in workflow["jobs"].values()
        if "IMAGE_REPOSITORY" in job.get("env", {})
    }
    assert names == {
        # In a job for each service, and in one for all of them, where {0} is left for the service's name.
        "${{ format(vars.IMAGE_REPOSITORY || 'docker.io/{1}/{0}', matrix.service, secrets.DOCKERHUB_USERNAME) }}",
        "${{ vars.IMAGE_REPOSITORY || format('docker.io/{0}/{{0}}', secrets.DOCKERHUB_USERNAME) }}",
    }


def test_what_is_built_and_scanned_is_every_service_that_has_a_chart(tmp_path: Path) -> None:
    found = []
    for name, lister, jobs in (
        ("ci-cd.yml", "test", ["build-scan-push"]),
        ("rebuild.yml", "services", ["published", "rebuilt"]),
    ):
        workflow = WORKFLOWS[name]["jobs"]
        (step,) = (step for step in workflow[lister]["steps"] if step.get("id") == "services")
        output = tmp_path / name
        subprocess.run(
            ["bash", "-euo", "pipefail", "-c", step["run"]],
            cwd=REPOSITORY,
            env={**os.environ, "GITHUB_OUTPUT": str(output)},
            check=True,
        )
        found.append(json.loads(output.read_text().removeprefix("services=")))
        for job in jobs:
            assert workflow[job]["strategy"]["matrix"] == {
                "service": f"${{{{ fromJSON(needs.{lister}.outputs.services) }}}}"
            }
    charts = sorted(file.parent.name for file in (REPOSITORY / "platform/helm").glob("*/Chart.yaml"))
    assert found == [charts, charts]


def test_the_gate_fails_unless_everything_before_it_succeeded() -> None:
    job = PIPELINE["gate"]
    assert job["if"] == "always()"
    (step,) = job["steps"]
    assert step["env"] == {"RESULTS": "${{ toJSON(needs) }}"}
    assert """jq --exit-status 'all(.[]; .result == "success")'""" in step["run"]


# --- the other workflows --------------------------------------------------------------


def test_a_rollback_shares_the_group_and_the_environment_of_deploys() -> None:
    workflow = WORKFLOWS["rollback.yml"]
    assert list(workflow["on"]) == ["workflow_dispatch"]
    assert workflow["concurrency"] == PIPELINE["deploy"]["concurrency"]
    job = workflow["jobs"]["rollback"]
    assert job["environment"] == PIPELINE["deploy"]["environment"]
    assert job["if"] == "github.ref == 'refs/heads/main'"
    (rollback,) = runs(job, "exec scripts/deploy.sh rollback")
    (settle,) = runs(job, "exec scripts/deploy.sh settle")
    assert rollback < settle
    assert job["steps"][settle] == PIPELINE["deploy"]["steps"][-1]


def test_the_image_is_rebuilt_from_nothing_and_scanned_on_a_schedule() -> None:
    workflow = WORKFLOWS["rebuild.yml"]
    assert workflow["on"]["schedule"]
    job = workflow["jobs"]["rebuilt"]
    (build,) = uses(job, "docker/build-push-action")
    assert job["steps"][build]["with"]["no-cache"] == "true"
    assert build < uses(job, "aquasecurity/trivy-action")[0]


def test_the_gate_is_tried_on_a_known_hole_on_a_schedule_and_not_left_out() -> None:
    job = WORKFLOWS["rebuild.yml"]["jobs"]["gate"]
    assert runs(job, "pytest e2e/test_scan.py")
    assert job["env"]["REQUIRE_ALL"] == "1"


def test_a_version_tag_publishes_a_signed_chart_with_notes() -> None:
    workflow = WORKFLOWS["release.yml"]
    assert workflow["on"] == {"push": {"tags": ["v*.*.*"]}}
    job = workflow["jobs"]["chart"]
    order = ["merge-base --is-ancestor", "release-notes.sh", "publish-chart.sh", "cosign sign", "gh release create"]
    places = [runs(job, command)[0] for command in order]
    assert places == sorted(places)


# --- every workflow -------------------------------------------------------------------


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_nothing_is_granted_to_a_whole_workflow_and_each_grant_has_its_reason(file: Any) -> None:
    assert WORKFLOWS[file.name]["permissions"] == {}
    assert all("permissions" in job for job in WORKFLOWS[file.name]["jobs"].values())
    for line in file.read_text().splitlines():
        if re.match(r"\s+[a-z-]+: (read|write)\b", line):
            assert re.search(r"(read|write) # \w+", line), line


@pytest.mark.parametrize("job", JOBS)
def test_every_job_ends_in_time_on_a_runner_that_is_named(job: Any) -> None:
    assert int(job["timeout-minutes"]) <= 60
    assert job["runs-on"] == "ubuntu-24.04"


@pytest.mark.parametrize("job", JOBS)
def test_no_checkout_keeps_the_token(job: Any) -> None:
    for place in uses(job, "actions/checkout"):
        assert job["steps"][place]["with"]["persist-credentials"] == "false"


def test_no_command_is_made_of_an_expression() -> None:
    commands = [step["run"] for step in STEPS if "run" in step]
    assert commands
    assert not [command for command in commands if "${{" in command]


@pytest.mark.parametrize(
    ("action", "key", "version"),
    [
        ("azure/setup-helm", "version", "HELM_VERSION"),
        ("helm/kind-action", "version", "KIND_VERSION"),
        ("sigstore/cosign-installer", "cosign-release", "COSIGN_VERSION"),
    ],
)
def test_what_an_action_installs_is_of_the_version_in_versions_env(action: str, key: str, version: str) -> None:
    found = {step["with"][key] for step in STEPS if step.get("uses", "").startswith(f"{action}@")}
    assert found == {VERSIONS[version]}


def test_an_action_has_one_pin_everywhere() -> None:
    pins: dict[str, set[str]] = {}
    for file in FILES:
        for action, pin in re.findall(r"uses: ([\w./-]+)@(.*)", file.read_text()):
            assert re.fullmatch(r"[0-9a-f]{40} # v\d+\.\d+\.\d+", pin), f"{file.name}: {action}@{pin}"
            pins.setdefault(action, set()).add(pin)
    assert {action: found for action, found in pins.items() if len(found) > 1} == {}


def test_every_script_that_a_workflow_calls_is_there() -> None:
    called = {found for step in STEPS for found in re.findall(r"scripts/[\w.-]+", step.get("run", ""))}
    assert called
    assert not [script for script in called if not (REPOSITORY / script).exists()]


def test_newer_versions_come_grouped_and_after_a_week() -> None:
    updates = yaml.safe_load((REPOSITORY / ".github/dependabot.yml").read_text())["updates"]
    assert {update["package-ecosystem"] for update in updates} == {"github-actions", "docker", "pip", "helm", "gomod"}
    for update in updates:
        assert update["cooldown"]["default-days"] >= 7
        assert update["groups"]


# --- notes of a release ---------------------------------------------------------------


def test_notes_are_the_commits_since_the_tag_before(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=T", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, capture_output=True, check=True)

    def notes(tag: str) -> subprocess.CompletedProcess[str]:
        script = REPOSITORY / "scripts/release-notes.sh"
        return subprocess.run([script, tag], cwd=tmp_path, capture_output=True, text=True, check=False)

    git("init", "--quiet")
    for subject, tag in (("First", "v0.1.0"), ("Second", ""), ("Third", "v0.2.0")):
        git("commit", "--quiet", "--allow-empty", "--message", subject)
        if tag:
            git("tag", tag)
    assert re.fullmatch(r"The first release.\n\n- First \(\w+\)\n", notes("v0.1.0").stdout)
    assert re.fullmatch(r"Since v0.1.0:\n\n- Third \(\w+\)\n- Second \(\w+\)\n", notes("v0.2.0").stdout)
    unknown = notes("v9.0.0")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "There is no tag v9.0.0" in unknown.stderr
