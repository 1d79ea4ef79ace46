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
AT_ITS_TIP = f"{ON_MAIN} && needs.tip.outputs.commit == github.sha"
READ = {"contents": "read"}
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
    (names,) = (step for step in job["steps"] if step.get("id") == "names")
    assert "epoch=$(git log -1 --format=%ct)\n" in names["run"]
    assert 'echo "epoch=$epoch"\n' in names["run"]
    assert 'echo "created=$(date --utc --date "@$epoch" +%Y-%m-%dT%H:%M:%SZ)"\n' in names["run"]
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
        "sign": {"test", "build-scan-push"},
        "e2e": {"test", "lint", "build-scan-push"},
        "gate": {"test", "lint", "e2e"},
        "tip": {"e2e"},
        "latest": {"build-scan-push", "sign", "e2e", "tip"},
        "deploy": {"build-scan-push", "sign", "e2e", "tip", "latest"},
    }


def test_what_changes_anything_outside_runs_for_a_push_to_main_only() -> None:
    assert {name: job["if"] for name, job in PIPELINE.items() if "if" in job} == {
        "build-scan-push": ON_MAIN,
        "sign": ON_MAIN,
        "e2e": (
            "!cancelled() && needs.test.result == 'success' && needs.lint.result == 'success' && "
            "(github.event_name == 'pull_request' || needs.build-scan-push.result == 'success')"
        ),
        "gate": "always()",
        "tip": ON_MAIN,
        "latest": AT_ITS_TIP,
        "deploy": AT_ITS_TIP,
    }


def test_a_run_that_main_has_left_behind_is_found_before_it_enters_a_group() -> None:
    job = PIPELINE["tip"]
    assert "concurrency" not in job
    assert job["outputs"] == {"commit": "${{ steps.main.outputs.commit }}"}
    (step,) = job["steps"]
    assert step["id"] == "main"
    assert 'commit=$(gh api "repos/$GITHUB_REPOSITORY/commits/main" --jq .sha)' in step["run"]


def test_only_deploys_and_latest_have_a_group_that_runs_on_main_share() -> None:
    assert WORKFLOWS["ci-cd.yml"]["concurrency"] == {
        "group": "${{ github.workflow }}-${{ github.event.pull_request.number || github.run_id }}",
        "cancel-in-progress": "true",
    }
    assert {name for name, job in PIPELINE.items() if "concurrency" in job} == {"latest", "deploy"}


def test_tests_run_with_python_311_and_pips_cache_by_make() -> None:
    job = PIPELINE["test"]
    (python,) = uses(job, "actions/setup-python")
    assert job["steps"][python]["with"]["python-version"] == "3.11"
    assert job["steps"][python]["with"]["cache"] == "pip"
    assert python < runs(job, "make install")[0] < runs(job, "make test")[0]
    assert runs(PIPELINE["lint"], "make lint")
    assert all(PIPELINE[job]["env"]["REQUIRE_ALL"] == "1" for job in ("test", "lint"))


def test_the_scan_comes_before_the_login_and_the_login_before_the_push() -> None:
    job = PIPELINE["build-scan-push"]
    (build,) = uses(job, "docker/build-push-action")
    (scan,) = uses(job, "aquasecurity/trivy-action")
    keep, note = uses(job, "actions/upload-artifact")
    (login,) = uses(job, "docker/login-action")
    (push,) = runs(job, "scripts/push.sh")
    (tool,) = runs(job, "scripts/go-tools.sh crane")
    assert build < scan < keep < tool < login < push < note
    # No secret is at hand before: but for the name, of which the repository is made.
    before = yaml.safe_dump([job["steps"][:login], job["env"]])
    assert set(re.findall(r"secrets\.(\w+)", before)) == {"DOCKERHUB_USERNAME"}
    # A failed scan stops the job: no step after it has a condition of its own.
    assert not any("if" in step for step in job["steps"])


def test_what_was_pushed_is_signed_and_verified_by_its_digest() -> None:
    job = PIPELINE["sign"]
    assert job["strategy"] == PIPELINE["build-scan-push"]["strategy"]
    (fetched,) = uses(job, "actions/download-artifact")
    (login,) = uses(job, "docker/login-action")
    (sign,) = runs(job, "cosign sign")
    assert fetched < login < sign
    assert job["steps"][fetched]["with"] == {"name": "digest-${{ matrix.service }}", "path": "digests"}
    assert signs_and_verifies(job["steps"][sign]["run"]) == ['"$IMAGE_REPOSITORY@$digest"']
    assert 'digest=$(cat "digests/$SERVICE")' in job["steps"][sign]["run"]


def signs_and_verifies(script: str) -> list[str]:
    """What it signs; each is verified afterwards as this workflow's."""
    lines = script.replace("\\\n", "").splitlines()
    signed = [line.split()[-1] for line in lines if line.split()[:2] == ["cosign", "sign"]]
    verified = [line.split() for line in lines if line.split()[:2] == ["cosign", "verify"]]
    assert [words[2:] for words in verified] == [
        [
            *("--certificate-identity", '"$GITHUB_SERVER_URL/$GITHUB_WORKFLOW_REF"'),
            *("--certificate-oidc-issuer", "https://token.actions.githubusercontent.com", what, ">", "/dev/null"),
        ]
        for what in signed
    ]
    return signed


def test_one_layout_is_built_scanned_kept_pushed_and_tested() -> None:
    job = PIPELINE["build-scan-push"]
    built = job["steps"][uses(job, "docker/build-push-action")[0]]["with"]
    outputs = dict(part.split("=") for part in built["outputs"].split(","))
    assert (outputs["type"], outputs["dest"], outputs["tar"]) == ("oci", "images/${{ matrix.service }}", "false")
    assert "push" not in built
    assert "load" not in built
    assert (built["provenance"], built["sbom"]) == ("mode=max", "true")
    cache = "type=gha,scope=${{ matrix.service }}"
    assert (built["cache-from"], built["cache-to"]) == (cache, f"{cache},mode=max,ignore-error=true")
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


@pytest.mark.parametrize(
    ("job", "command"), [(PIPELINE["e2e"], "make e2e"), (WORKFLOWS["rebuild.yml"]["jobs"]["e2e"], "make e2e-full")]
)
def test_end_to_end_has_what_no_test_is_left_out_for(job: dict[str, Any], command: str) -> None:
    (load,) = runs(job, "install --yes --no-install-recommends wrk")
    (cluster,) = runs(job, "make up")
    (tests,) = (i for i, step in enumerate(job["steps"]) if step.get("run") == command)
    assert load < cluster < tests


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
    (move,) = runs(job, "scripts.latest")
    assert uses(job, "docker/login-action")[0] < move
    # The digest is that of what was pushed, not whatever the tag leads to by now.
    of_one = '"${IMAGE_REPOSITORY//\'{0}\'/${digest#digests/}}" "$GITHUB_SHA" "$(cat "$digest")"'
    assert f"python3 -m scripts.latest {of_one}\n" in job["steps"][move]["run"]
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


def test_what_is_published_is_fetched_and_scanned_without_a_token() -> None:
    job = WORKFLOWS["rebuild.yml"]["jobs"]["published"]
    (login,) = uses(job, "docker/login-action")
    (fetch,) = runs(job, '.tools/crane pull --format=oci "$IMAGE_REPOSITORY:latest" image')
    (logout,) = runs(job, 'docker logout "$REGISTRY"')
    (scan,) = uses(job, "aquasecurity/trivy-action")
    assert login < fetch < logout < scan
    assert job["steps"][logout]["env"]["REGISTRY"] == job["steps"][login]["with"]["registry"]
    assert job["steps"][scan]["with"]["input"] == "image"


def test_the_gate_is_tried_on_a_known_hole_on_a_schedule() -> None:
    assert runs(WORKFLOWS["rebuild.yml"]["jobs"]["gate"], "pytest -m scanner e2e/test_scan.py")


def test_a_version_tag_publishes_a_signed_chart_with_notes() -> None:
    workflow = WORKFLOWS["release.yml"]
    assert workflow["on"] == {"push": {"tags": ["v*.*.*"]}}
    job = workflow["jobs"]["chart"]
    order = ["merge-base --is-ancestor", "release-notes.sh", "publish-chart.sh", "cosign sign", "gh release create"]
    places = [runs(job, command)[0] for command in order]
    assert places == sorted(places)
    assert signs_and_verifies(job["steps"][places[3]]["run"]) == ['"$chart"']
    assert job["steps"][uses(job, "actions/checkout")[0]]["with"]["fetch-depth"] == "0"


@pytest.mark.parametrize(
    ("gates", "released"), [(["success"], True), ([], False), (["failure"], False), (["success", "failure"], False)]
)
def test_a_commit_is_released_only_if_its_gate_succeeded(tmp_path: Path, gates: list[str], released: bool) -> None:
    (step,) = (s for s in WORKFLOWS["release.yml"]["jobs"]["chart"]["steps"] if "check-runs" in s.get("run", ""))
    assert f"check_name={PIPELINE['gate']['name']}&" in step["run"]
    answer = tmp_path / "answer.json"
    answer.write_text(json.dumps({"check_runs": [{"conclusion": conclusion} for conclusion in gates]}))
    for name, does in (("gh", f'cat "{answer}"'), ("git", "true")):
        tool = tmp_path / name
        tool.write_text(f"#!/bin/sh\n{does}\n")
        tool.chmod(0o755)
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", step["run"]],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "GITHUB_SHA": "1", "GITHUB_REPOSITORY": "you/it"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode == 0) is released


# --- every workflow -------------------------------------------------------------------


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_nothing_is_granted_to_a_whole_workflow_and_each_grant_has_its_reason(file: Any) -> None:
    assert WORKFLOWS[file.name]["permissions"] == {}
    assert all("permissions" in job for job in WORKFLOWS[file.name]["jobs"].values())
    for line in file.read_text().splitlines():
        if re.match(r"\s+[a-z-]+: (read|write)\b", line):
            assert re.search(r"(read|write) # \w+", line), line


def test_each_job_is_granted_this_and_no_more() -> None:
    granted = {
        (file, name): job["permissions"]
        for file, workflow in WORKFLOWS.items()
        for name, job in workflow["jobs"].items()
        if job["permissions"] != READ
    }
    assert granted == {
        ("ci-cd.yml", "sign"): {"id-token": "write"},
        ("ci-cd.yml", "gate"): {},
        ("release.yml", "chart"): {"contents": "write", "checks": "read", "packages": "write", "id-token": "write"},
    }


@pytest.mark.parametrize("job", JOBS)
def test_what_fails_is_not_excused(job: Any) -> None:
    assert not [part for part in (job, *job["steps"]) if "continue-on-error" in part]


@pytest.mark.parametrize("job", JOBS)
def test_every_job_ends_in_time_on_a_runner_that_is_named(job: Any) -> None:
    assert int(job["timeout-minutes"]) <= 120
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
        ("docker/setup-buildx-action", "version", "BUILDX_VERSION"),
        ("sigstore/cosign-installer", "cosign-release", "COSIGN_VERSION"),
    ],
)
def test_what_an_action_installs_is_of_the_version_in_versions_env(action: str, key: str, version: str) -> None:
    found = {step["with"][key] for step in STEPS if step.get("uses", "").startswith(f"{action}@")}
    assert found == {VERSIONS[version]}


def test_every_image_is_built_by_the_buildkit_of_versions_env() -> None:
    builders = [step["with"] for step in STEPS if step.get("uses", "").startswith("docker/setup-buildx-action@")]
    assert len(builders) == 2
    for builder in builders:
        assert builder["driver-opts"] == f"image=moby/buildkit:{VERSIONS['BUILDKIT_VERSION']}"


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
