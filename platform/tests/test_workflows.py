"""The workflows as data: dependencies, triggers and permissions, and that nothing untested is pushed."""

from __future__ import annotations

import json
import os
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from manifests import CHARTS, REPOSITORY
from repository_copy import copy_repository
from under_test import SERVICE

FILES = sorted((REPOSITORY / ".github/workflows").glob("*.yml"))


def _strings(file: Path) -> dict[str, Any]:
    """The file with every value a string: in YAML 1.1 the key `on` is a boolean."""
    content: dict[str, Any] = yaml.BaseLoader(file.read_text()).get_single_data()
    return content


WORKFLOWS = {file.name: _strings(file) for file in FILES}
PIPELINE = WORKFLOWS["ci-cd.yml"]["jobs"]
EVERY_JOB: dict[str, dict[str, Any]] = {
    f"{file}-{n}": job for file, w in WORKFLOWS.items() for n, job in w["jobs"].items()
}
JOBS = [pytest.param(job, id=name) for name, job in EVERY_JOB.items()]
STEPS = [step for workflow in WORKFLOWS.values() for job in workflow["jobs"].values() for step in job["steps"]]
ON_MAIN = "github.event_name == 'push' && github.ref == 'refs/heads/main'"
AT_ITS_TIP = f"{ON_MAIN} && needs.tip.outputs.commit == github.sha"
# One of its dependencies may be skipped: to run anyway it needs a condition on all of them.
AFTER_STAGES = (
    f"!cancelled() && {AT_ITS_TIP} && needs.build-scan-push.result == 'success' && needs.sign.result == 'success' && "
    "needs.e2e.result == 'success' && needs.tip.result == 'success' && needs.latest.result == 'success' && "
    "(needs.stages.result == 'success' || needs.tip.outputs.stages == '[]')"
)
READ = {"contents": "read"}
VERSIONS = dict(re.findall(r"^([A-Z_0-9]+)=(.*)$", (REPOSITORY / "versions.env").read_text(), re.MULTILINE))


def needs(job: str) -> set[str]:
    jobs = PIPELINE[job].get("needs", [])
    return {jobs} if isinstance(jobs, str) else set(jobs)


def uses(job: dict[str, Any], action: str) -> list[int]:
    """The positions of the action in the job's steps."""
    return [i for i, step in enumerate(job["steps"]) if step.get("uses", "").startswith(f"{action}@")]


def runs(job: dict[str, Any], command: str) -> list[int]:
    return [i for i, step in enumerate(job["steps"]) if command in step.get("run", "")]


def step_of(job: dict[str, Any], identity: str) -> dict[str, Any]:
    (step,) = (step for step in job["steps"] if step.get("id") == identity)
    return dict(step)


def run_step(step: dict[str, Any], folder: Path, **environment: str) -> tuple[int, dict[str, str], str]:
    """Runs the step's script like GitHub's runner; returns its exit code, its outputs, and what it printed."""
    output = folder / "output"
    output.touch()
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
        cwd=REPOSITORY,
        env={**os.environ, "GITHUB_OUTPUT": str(output), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = output.read_text()
    output.unlink()
    several = re.findall(r"^([\w-]+)<<END\n(.*?)\nEND$", lines, re.MULTILINE | re.DOTALL)
    single = re.findall(r"^([\w-]+)=(.*)$", re.sub(r"(?ms)^[\w-]+<<END$.*?^END$", "", lines), re.MULTILINE)
    return done.returncode, dict([*several, *single]), done.stdout


# --- structure of ci-cd.yml -----------------------------------------------------------


def test_pipeline_runs_for_main_and_its_pull_requests() -> None:
    assert WORKFLOWS["ci-cd.yml"]["on"] == {"push": {"branches": ["main"]}, "pull_request": {"branches": ["main"]}}


BUILDERS = [PIPELINE["build-scan-push"], WORKFLOWS["rebuild.yml"]["jobs"]["rebuilt"]]


@pytest.mark.parametrize("job", BUILDERS, ids=["ci-cd", "rebuild"])
def test_image_is_built_with_the_metadata_of_the_script(job: dict[str, Any], tmp_path: Path) -> None:
    """e2e/test_image.py builds an image with the same metadata and inspects it."""
    commit = git("rev-parse", "HEAD")
    environment = {"SERVICE": SERVICE, "GITHUB_SHA": commit, "IMAGE_REPOSITORY": f"docker.io/you/{SERVICE}"}
    github = {"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "you/it"}
    code, outputs, _ = run_step(step_of(job, "names"), tmp_path, **environment, **github)
    assert code == 0
    assert outputs["build-args"].splitlines() == [
        f"PYTHON_IMAGE={os.environ.get('PYTHON_IMAGE', VERSIONS['PYTHON_IMAGE'])}",
        f"SERVICE={SERVICE}",
        f"REVISION={commit}",
    ]
    created, source = outputs["labels"].splitlines()
    seconds = int(git("log", "-1", "--format=%ct"))
    time = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert created == f"org.opencontainers.image.created={time}"
    assert source == "org.opencontainers.image.source=https://github.com/you/it"
    (build,) = (job["steps"][i] for i in uses(job, "docker/build-push-action"))
    assert build["with"]["build-args"] == "${{ steps.names.outputs.build-args }}"
    assert build["with"]["labels"] == "${{ steps.names.outputs.labels }}"
    assert outputs["epoch"] == str(seconds)


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_builds_of_a_commit_are_reproducible() -> None:
    """Their timestamps are the commit's; e2e/test_image.py shows that nothing else differs."""
    job = PIPELINE["build-scan-push"]
    (build,) = (job["steps"][i] for i in uses(job, "docker/build-push-action"))
    assert build["env"]["SOURCE_DATE_EPOCH"] == "${{ steps.names.outputs.epoch }}"
    assert "rewrite-timestamp=true" in build["with"]["outputs"]


@pytest.mark.parametrize(
    "step",
    [step_of(PIPELINE["build-scan-push"], "names"), step_of(WORKFLOWS["rebuild.yml"]["jobs"]["published"], "names")],
)
def test_run_without_registry_credentials_reports_it_and_contacts_no_registry(
    step: dict[str, Any], tmp_path: Path
) -> None:
    code, outputs, output = run_step(step, tmp_path, SERVICE=SERVICE, IMAGE_REPOSITORY=f"docker.io//{SERVICE}")
    assert code == 1
    assert outputs == {}
    assert output.startswith("::error::The secret DOCKERHUB_USERNAME is not set")


def test_jobs_have_the_expected_dependencies() -> None:
    assert {name: needs(name) for name in PIPELINE} == {
        "test": set(),
        "lint": set(),
        "build-scan-push": {"test", "lint"},
        "sign": {"test", "build-scan-push"},
        "e2e": {"test", "lint", "build-scan-push"},
        "gate": {"test", "lint", "e2e"},
        "tip": {"e2e"},
        "latest": {"build-scan-push", "sign", "e2e", "tip"},
        "stages": {"build-scan-push", "sign", "e2e", "tip", "latest"},
        "deploy": {"build-scan-push", "sign", "e2e", "tip", "latest", "stages"},
    }


def test_external_changes_happen_only_on_a_push_to_main() -> None:
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
        "stages": f"{AT_ITS_TIP} && needs.tip.outputs.stages != '[]'",
        "deploy": AFTER_STAGES,
    }


def test_outdated_run_is_detected_before_it_enters_a_concurrency_group() -> None:
    job = PIPELINE["tip"]
    assert "concurrency" not in job
    assert job["outputs"] == {
        "commit": "${{ steps.main.outputs.commit }}",
        "stages": "${{ steps.stages.outputs.stages }}",
    }
    step = step_of(job, "main")
    assert 'commit=$(gh api "repos/$GITHUB_REPOSITORY/commits/main" --jq .sha)' in step["run"]


def test_only_deploys_and_latest_share_a_concurrency_group_across_runs() -> None:
    assert WORKFLOWS["ci-cd.yml"]["concurrency"] == {
        "group": "${{ github.workflow }}-${{ github.event.pull_request.number || github.run_id }}",
        "cancel-in-progress": "true",
    }
    assert {name for name, job in PIPELINE.items() if "concurrency" in job} == {"latest", "stages", "deploy"}


def test_failing_service_does_not_cancel_push_or_signature_of_the_others() -> None:
    for job in ("build-scan-push", "sign"):
        assert PIPELINE[job]["strategy"]["fail-fast"] == "false"


def test_rerun_job_overwrites_its_artifacts() -> None:
    uploads = [step["with"] for step in STEPS if step.get("uses", "").startswith("actions/upload-artifact@")]
    assert len(uploads) == 4
    assert all(artifact["overwrite"] == "true" for artifact in uploads)


def test_tests_run_with_python_311_and_the_newest_and_cache_packages() -> None:
    job = PIPELINE["test"]
    (python,) = uses(job, "actions/setup-python")
    assert job["strategy"]["matrix"]["python"] == ["3.11", "3.14"]
    assert job["steps"][python]["with"]["python-version"] == "${{ matrix.python }}"
    assert job["env"]["PYTHON"] == "python${{ matrix.python }}"
    assert job["steps"][python]["with"]["cache"] == "pip"
    assert python < runs(job, "make install")[0] < runs(job, "make test-full")[0]
    assert runs(PIPELINE["lint"], "make lint")[0] < runs(PIPELINE["lint"], "make test-platform")[0]
    assert all(PIPELINE[job]["env"]["REQUIRE_ALL"] == "1" for job in ("test", "lint"))


WITH_PIP = [pytest.param(job, id=name) for name, job in EVERY_JOB.items() if uses(job, "actions/setup-python")]


@pytest.fixture(scope="module")
def nothing_installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_repository(tmp_path_factory.mktemp("checkout"))


@pytest.mark.parametrize("job", WITH_PIP)
def test_cache_key_is_derived_from_the_installed_files(job: Any, nothing_installed: Path) -> None:
    """Of two jobs with the same key, the first to complete saves the cache, and the other never finds its packages."""
    commands = "\n".join(step.get("run", "") for step in job["steps"])
    targets = re.findall(r"^make (.+)$", commands, re.MULTILINE)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    dry = subprocess.run(
        ["make", "--dry-run", *" ".join(targets).split()],
        cwd=nothing_installed,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    installed = set(re.findall(r"^scripts/install\.sh \S+ (\S+) ", dry.stdout, re.MULTILINE))
    assert installed
    (setup,) = uses(job, "actions/setup-python")
    python = job["steps"][setup]["with"]
    assert python["cache"] == "pip"
    assert python["cache-dependency-path"] == "requirements-uv.txt"  # what pip installs: uv, which installs the rest
    (step,) = (i for i in uses(job, "actions/cache") if job["steps"][i]["with"]["path"] == "~/.cache/uv")
    assert step == setup + 1
    key = job["steps"][step]["with"]["key"]
    start = f"uv-${{{{ runner.os }}}}-${{{{ runner.arch }}}}-{python['python-version']}-${{{{ hashFiles("
    assert key.startswith(start)
    patterns = re.findall(r"'([^']+)'", key)
    files = {
        str(file.relative_to(nothing_installed)) for pattern in patterns for file in nothing_installed.glob(pattern)
    }
    assert files == installed


def cached(step: dict[str, Any]) -> bool:
    """Whether the step may execute content of the cache, which every run of the branch can write."""
    action, options = step.get("uses", "").split("@")[0], step.get("with", {})
    return (
        action.startswith("actions/cache")
        or (action == "actions/setup-python" and "cache" in options)
        or (action == "actions/setup-go" and options.get("cache") != "false")
        or (action == "aquasecurity/trivy-action" and options.get("cache") != "false")
        or (action == "docker/setup-buildx-action" and options.get("cache-binary") != "false")
    )


def test_jobs_with_secrets_or_signing_rights_execute_nothing_from_a_cache() -> None:
    """Except for layers: the image of main is built from those of main's own builds."""
    rights = re.compile(r"\bsecrets\.|: write\b|github\.token")
    trusted = [job for job in EVERY_JOB.values() if rights.search(yaml.safe_dump(job)) or "environment" in job]
    assert len(trusted) == 9
    assert [step for job in trusted for step in job["steps"] if cached(step)] == []
    # Nor does any scanner, in any job: its result is trusted.
    assert not [step for step in STEPS if "trivy" in step.get("uses", "") and cached(step)]


def test_scan_runs_before_login_and_login_before_push() -> None:
    job = PIPELINE["build-scan-push"]
    (build,) = uses(job, "docker/build-push-action")
    (scan,) = uses(job, "aquasecurity/trivy-action")
    keep, note = uses(job, "actions/upload-artifact")
    (login,) = uses(job, "docker/login-action")
    (push,) = runs(job, "scripts/push.sh")
    (tool,) = runs(job, "scripts/go-tools.sh crane")
    assert build < scan < keep < tool < login < push < note
    # No secret is available before, except for the account name, which is part of the repository.
    before = yaml.safe_dump([job["steps"][:login], job["env"]])
    assert set(re.findall(r"secrets\.(\w+)", before)) == {"DOCKERHUB_USERNAME"}
    # A failed scan stops the job: no later step has a condition of its own.
    assert not any("if" in step for step in job["steps"])


def test_pushed_digest_is_signed_and_verified() -> None:
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
    """What it signs; each signature is verified afterwards with this workflow's identity."""
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
    upload = job["steps"][uses(job, "actions/upload-artifact")[0]]["with"]
    assert (upload["name"], upload["path"]) == ("image-${{ matrix.service }}", "images")
    (push,) = runs(job, "scripts/push.sh")
    assert job["steps"][push]["run"] == 'scripts/push.sh "images/$SERVICE" "$IMAGE_REPOSITORY" "$GITHUB_SHA"'
    assert job["steps"][push]["env"] == {"SERVICE": "${{ matrix.service }}"}
    e2e = PIPELINE["e2e"]
    fetched = e2e["steps"][uses(e2e, "actions/download-artifact")[0]]
    assert fetched["if"] == "github.event_name == 'push'"
    # Git-ignored: code that copies the checkout, or compares it with the commit, must see the same as on a laptop.
    assert fetched["with"] == {"pattern": "image-*", "path": ".image", "merge-multiple": "true"}
    (load,) = runs(e2e, 'scripts/layout.py load "$layout"')
    assert e2e["steps"][load]["if"] == "github.event_name == 'push'"
    assert load < runs(e2e, "make up")[0] < runs(e2e, "make e2e")[0]
    # A variable tells the tests which of the two kinds of image it is.
    (tests,) = (step for step in e2e["steps"] if step.get("run") == "make e2e")
    assert tests["env"] == {"IMAGE_COMMIT": "${{ github.event_name == 'push' && github.sha || '' }}"}


def test_files_added_to_a_tested_checkout_are_git_ignored() -> None:
    """Otherwise tests that copy the checkout copy them too, and a commit's image is rejected as modified."""
    folders = {
        step["with"]["path"]
        for workflow in WORKFLOWS.values()
        for job in workflow["jobs"].values()
        if any(re.match("make (lint|test|test-platform|up|e2e)", step.get("run", "")) for step in job["steps"])
        for step in job["steps"]
        if re.match("actions/(cache|download-artifact|upload-artifact)@", step.get("uses", ""))
        and not step["with"]["path"].startswith("~/")
    }
    assert len(folders) == 3
    assert [
        folder for folder in folders if git("check-ignore", f"{folder.partition('*')[0].rstrip('/')}/x") == ""
    ] == []


@pytest.fixture
def runners_checkout(tmp_path: Path) -> Path:
    """As created by actions/checkout: a history of one commit, no branch, and the previous job's artifact."""
    origin, folder = copy_repository(tmp_path / "origin"), tmp_path / "checkout"
    commit = "git -c user.name=T -c user.email=t@example.com -c commit.gpgsign=false commit --quiet"
    script = f"""
      cd '{origin}'
      git add --all
      {commit} --message older
      {commit} --allow-empty --message newer
      git clone --quiet --depth 1 'file://{origin}' '{folder}'
      git -C '{folder}' checkout --quiet --detach
    """
    subprocess.run(["bash", "-euc", script], check=True, capture_output=True)
    (folder / f".image/{SERVICE}").mkdir(parents=True)
    (folder / f".image/{SERVICE}/index.json").touch()
    return folder


def test_runners_checkout_is_clean_and_has_the_same_tag_as_a_laptops(runners_checkout: Path) -> None:
    def output_of(*command: str) -> str:
        environment = {**os.environ, "CI": "true", "GITHUB_ACTIONS": "true", "GITHUB_REPOSITORY": "you/it"}
        done = subprocess.run(
            command, cwd=runners_checkout, env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    desk = subprocess.run(["scripts/image-tag.sh"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert output_of("scripts/image-tag.sh") == desk.stdout.strip()
    assert output_of("git", "status", "--porcelain") == ""
    assert f"REVISION={desk.stdout.strip()}" in output_of("scripts/image-metadata.sh", "options", SERVICE)
    commit = output_of("git", "rev-parse", "HEAD")
    assert f"REVISION={commit}" in output_of("scripts/image-metadata.sh", "options", SERVICE, commit)


def test_expired_layout_is_reported(tmp_path: Path) -> None:
    (step,) = (step for step in PIPELINE["e2e"]["steps"] if "layout.py load" in step.get("run", ""))
    moved = {**step, "run": f"cd '{tmp_path}'\n{step['run']}"}
    code, _, output = run_step(moved, tmp_path)
    assert code == 1
    assert "Re-run all jobs, not only the failed ones" in output


@pytest.mark.parametrize(
    ("job", "command"), [(PIPELINE["e2e"], "make e2e"), (WORKFLOWS["rebuild.yml"]["jobs"]["e2e"], "make e2e-full")]
)
def test_e2e_job_has_the_tools_for_every_test(job: dict[str, Any], command: str) -> None:
    (load,) = runs(job, "install --yes --no-install-recommends wrk")
    (cluster,) = runs(job, "make up")
    (tests,) = (i for i, step in enumerate(job["steps"]) if step.get("run") == command)
    assert load < cluster < tests


def flags_of_the_action(step: dict[str, Any]) -> dict[str, str]:
    return {key: value for key, value in step["with"].items() if key not in ("version", "input", "image-ref", "cache")}


def test_every_scan_has_the_flags_and_the_version_of_make_scan() -> None:
    script = (REPOSITORY / "scripts/scan.sh").read_text()
    command = script[script.index(' image --input "$layout"') :].split()[3:]
    assert command == ["--severity", "HIGH,CRITICAL", "--ignore-unfixed", "--exit-code", "1"]
    scans = [step for step in STEPS if step.get("uses", "").startswith("aquasecurity/trivy-action@")]
    assert len(scans) == 3
    for step in scans:
        assert flags_of_the_action(step) == {"severity": "HIGH,CRITICAL", "ignore-unfixed": "true", "exit-code": "1"}
        assert step["with"]["cache"] == "false"
        assert step["with"]["version"] == VERSIONS["TRIVY_VERSION"]
    version = VERSIONS["TRIVY_VERSION"].removeprefix("v")
    assert re.fullmatch(rf"ghcr\.io/aquasecurity/trivy:{version}@sha256:[0-9a-f]{{64}}", VERSIONS["TRIVY_IMAGE"])
    # Files that change the meaning of the scan would be read by only one of the two.
    assert not [name for name in ("trivy.yaml", ".trivyignore", ".trivyignore.yaml") if (REPOSITORY / name).exists()]


def test_pull_requests_have_no_access_to_secrets() -> None:
    for name in ("test", "lint", "e2e", "gate"):
        assert "secrets." not in yaml.safe_dump(PIPELINE[name]), name


def test_latest_moves_after_e2e_and_one_run_at_a_time() -> None:
    job = PIPELINE["latest"]
    assert job["concurrency"] == {"group": "image-latest", "cancel-in-progress": "false"}
    (move,) = runs(job, "scripts.latest")
    assert uses(job, "docker/login-action")[0] < move
    # The pushed digest, not whatever the tag points to by now.
    arguments = '"${IMAGE_REPOSITORY//\'{0}\'/${digest#digests/}}" "$GITHUB_SHA" "$(cat "$digest")"'
    assert f"python3 -m scripts.latest {arguments}\n" in job["steps"][move]["run"]
    assert job["steps"][uses(job, "actions/checkout")[0]]["with"]["fetch-depth"] == "0"
    assert not any("latest" in step.get("run", "") for step in PIPELINE["build-scan-push"]["steps"])


def test_deploy_uses_the_commits_tag_and_digest() -> None:
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
    (digest_step,) = (step for step in built if "digests" in step.get("run", ""))
    assert digest_step["env"]["DIGEST"] == "${{ steps.push.outputs.digest }}"
    assert job["env"]["DEPLOY_TIMEOUT"] == "120s"
    (deploy,) = runs(job, "scripts/deploy.sh deploy")
    (settle,) = runs(job, "scripts/deploy.sh settle")
    # exec, and no make in between: GNU make does not forward SIGINT.
    assert job["steps"][deploy]["run"] == "exec scripts/deploy.sh deploy"
    assert job["steps"][settle]["if"] == "cancelled() || failure()"
    assert [i for i, step in enumerate(job["steps"]) if "KUBE_CONFIG" in step.get("env", {})] == [deploy, settle]
    # Without history git cannot compare the age of commits.
    assert job["steps"][uses(job, "actions/checkout")[0]]["with"]["fetch-depth"] == "0"
    # The sums are beside them. A cancelled job has five minutes, whatever is configured here.
    assert (job["timeout-minutes"], job["steps"][settle]["timeout-minutes"]) == ("25", "8")
    # 120 s for the lock, 150 s for a revision of another deployer, 120 s rollback, 60 s verification.
    assert job["steps"][settle]["env"]["LOCK_TIMEOUT"] == "120s"


def test_stages_are_deployed_like_production_one_after_the_other_and_soak() -> None:
    stages, deploy = PIPELINE["stages"], PIPELINE["deploy"]
    assert stages["strategy"] == {
        "fail-fast": "true",
        "max-parallel": "1",
        "matrix": {"environment": "${{ fromJSON(needs.tip.outputs.stages) }}"},
    }
    assert stages["environment"] == {**deploy["environment"], "name": "${{ matrix.environment }}"}
    assert stages["concurrency"] == {"group": "${{ matrix.environment }}-deploy", "cancel-in-progress": "true"}
    assert stages["env"] == {**deploy["env"], "SOAK_TIME": "${{ vars.SOAK_TIME || '300s' }}"}
    assert stages["steps"] == deploy["steps"]
    assert stages["permissions"] == deploy["permissions"]


@pytest.mark.parametrize(
    ("environments", "stages"),
    [
        ("", "[]"),
        ("production", "[]"),
        ("staging production", '["staging"]'),
        ("  test   staging\tproduction\n", '["test","staging"]'),
        ("staging", None),
        ("production staging", None),
        ("staging Staging production", None),
        ("production production", None),
    ],
)
def test_stages_are_the_environments_before_production(tmp_path: Path, environments: str, stages: str | None) -> None:
    step = step_of(PIPELINE["tip"], "stages")
    assert step["env"] == {"ENVIRONMENTS": "${{ vars.DEPLOY_ENVIRONMENTS }}"}
    code, outputs, output = run_step(step, tmp_path, ENVIRONMENTS=environments)
    assert outputs == ({} if stages is None else {"stages": stages})
    assert (code, output.startswith("::error::DEPLOY_ENVIRONMENTS is ")) == (
        (1, True) if stages is None else (0, False)
    )


def test_every_job_uses_the_same_image_name() -> None:
    names = {
        job["env"]["IMAGE_REPOSITORY"]
        for workflow in WORKFLOWS.values()
        for job in workflow["jobs"].values()
        if "IMAGE_REPOSITORY" in job.get("env", {})
    }
    assert names == {
        # In a job per service, and in one for all of them, where {0} is left for the service's name.
        "${{ format(vars.IMAGE_REPOSITORY || 'docker.io/{1}/{0}', matrix.service, secrets.DOCKERHUB_USERNAME) }}",
        "${{ vars.IMAGE_REPOSITORY || format('docker.io/{0}/{{0}}', secrets.DOCKERHUB_USERNAME) }}",
    }


def test_every_service_with_a_chart_is_built_and_scanned(tmp_path: Path) -> None:
    services = []
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
        services.append(json.loads(output.read_text().removeprefix("services=")))
        for job in jobs:
            assert workflow[job]["strategy"]["matrix"] == {
                "service": f"${{{{ fromJSON(needs.{lister}.outputs.services) }}}}"
            }
    charts = [chart.name for chart in CHARTS]
    assert services == [charts, charts]


def test_gate_fails_unless_every_previous_job_succeeded() -> None:
    job = PIPELINE["gate"]
    assert job["if"] == "always()"
    (step,) = job["steps"]
    assert step["env"] == {"RESULTS": "${{ toJSON(needs) }}"}
    assert """jq --exit-status 'all(.[]; .result == "success")'""" in step["run"]


# --- the other workflows --------------------------------------------------------------


ROLLBACK = WORKFLOWS["rollback.yml"]


def test_rollback_is_started_from_main_before_it_changes_anything(tmp_path: Path) -> None:
    """A job's condition is evaluated after its workflow entered a group: so it is a job of no shared group."""
    assert list(ROLLBACK["on"]) == ["workflow_dispatch"]
    assert ROLLBACK["concurrency"] == {
        "group": "${{ github.workflow }}-${{ github.run_id }}",
        "cancel-in-progress": "false",
    }
    jobs = ROLLBACK["jobs"]
    assert {name: job.get("needs") for name, job in jobs.items()} == {"main": None, "rollback": "main"}
    assert not [name for name, job in jobs.items() if "if" in job]
    (step,) = jobs["main"]["steps"]
    assert run_step(step, tmp_path, GITHUB_REF="refs/heads/main", GITHUB_REF_NAME="main")[0] == 0
    for kind, name in (("heads", "other"), ("tags", "main")):
        code, _, output = run_step(step, tmp_path, GITHUB_REF=f"refs/{kind}/{name}", GITHUB_REF_NAME=name)
        assert code == 1
        assert f"Started from {name}; nothing was changed. Run it again" in output


def test_no_deploy_interrupts_a_rollback() -> None:
    """A rollback interrupts a deploy through the lock (scripts/deploy/lock.py), once it knows which commit to leave."""
    assert ROLLBACK["on"]["workflow_dispatch"]["inputs"]["environment"]["default"] == "production"
    rollback = ROLLBACK["jobs"]["rollback"]
    assert rollback["concurrency"] == {"group": "${{ inputs.environment }}-rollback", "cancel-in-progress": "false"}
    others = {job["concurrency"]["group"] for job in PIPELINE.values() if "concurrency" in job}
    assert {"${{ matrix.environment }}-deploy", "production-deploy"} <= others
    assert not [group for group in others if group.endswith("-rollback")]


def test_rollback_uses_its_environment_and_recovers_like_a_deploy() -> None:
    job = ROLLBACK["jobs"]["rollback"]
    assert job["environment"] == {**PIPELINE["deploy"]["environment"], "name": "${{ inputs.environment }}"}
    (rollback,) = runs(job, "exec scripts/deploy.sh rollback")
    (settle,) = runs(job, "exec scripts/deploy.sh settle")
    assert rollback < settle
    assert job["steps"][settle] == PIPELINE["deploy"]["steps"][-1]
    assert job["timeout-minutes"] == "25"


def test_scheduled_and_manual_runs_do_not_cancel_each_other() -> None:
    group = WORKFLOWS["rebuild.yml"]["concurrency"]["group"]
    assert group == "${{ github.workflow }}-${{ github.event_name }}-${{ github.ref }}"


def test_image_is_rebuilt_without_cache_and_scanned_on_a_schedule() -> None:
    workflow = WORKFLOWS["rebuild.yml"]
    assert workflow["on"]["schedule"]
    job = workflow["jobs"]["rebuilt"]
    (build,) = uses(job, "docker/build-push-action")
    assert job["steps"][build]["with"]["no-cache"] == "true"
    assert build < uses(job, "aquasecurity/trivy-action")[0]


def test_published_image_is_fetched_and_scanned_without_a_token() -> None:
    job = WORKFLOWS["rebuild.yml"]["jobs"]["published"]
    (login,) = uses(job, "docker/login-action")
    (fetch,) = runs(job, 'scripts/fetch-latest.sh "$IMAGE_REPOSITORY" image')
    (logout,) = runs(job, 'docker logout "$REGISTRY"')
    (scan,) = uses(job, "aquasecurity/trivy-action")
    assert login < fetch < logout < scan
    assert job["steps"][logout]["env"]["REGISTRY"] == job["steps"][login]["with"]["registry"]
    assert job["steps"][scan]["with"]["input"] == "image"
    # A new repository has none; the token is removed anyway. e2e/test_push.py runs the script.
    assert job["steps"][scan]["if"] == "steps.fetch.outputs.published == 'true'"
    assert [step for step in job["steps"] if "if" in step] == [job["steps"][scan], job["steps"][-1]]


def test_long_fuzzing_runs_on_a_schedule_and_skips_nothing() -> None:
    """platform/tests/test_makefile.py tests where the seed of a failing round is shown."""
    job = WORKFLOWS["rebuild.yml"]["jobs"]["fuzz"]
    (fuzz,) = runs(job, "make fuzz")
    minutes = re.fullmatch(r"make fuzz MINUTES=(\d+)", job["steps"][fuzz]["run"])
    assert minutes
    assert int(job["timeout-minutes"]) >= int(minutes[1]) + 45  # for the install, and for the current round
    assert job["env"]["REQUIRE_ALL"] == "1"


def test_mutants_are_tested_on_a_schedule_in_bounded_time() -> None:
    job = WORKFLOWS["rebuild.yml"]["jobs"]["mutants"]
    (mutants,) = runs(job, "make mutants")
    minutes = re.fullmatch(r"make mutants MINUTES=(\d+)", job["steps"][mutants]["run"])
    assert minutes
    # For the install, and for the tests of a mutant, or of a module without one, that have just started.
    assert int(job["timeout-minutes"]) >= int(minutes[1]) + 30


def test_gate_is_tested_with_a_known_vulnerability_on_a_schedule() -> None:
    assert runs(WORKFLOWS["rebuild.yml"]["jobs"]["gate"], "pytest -m scanner e2e/test_scan.py")


def test_version_tag_publishes_a_signed_chart_with_notes() -> None:
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
def test_commit_is_released_only_if_its_gate_succeeded(tmp_path: Path, gates: list[str], released: bool) -> None:
    (step,) = (s for s in WORKFLOWS["release.yml"]["jobs"]["chart"]["steps"] if "check-runs" in s.get("run", ""))
    assert f"check_name={PIPELINE['gate']['name']}&" in step["run"]
    check_runs = tmp_path / "answer.json"
    check_runs.write_text(json.dumps({"check_runs": [{"conclusion": conclusion} for conclusion in gates]}))
    for name, script_ in (("gh", f'cat "{check_runs}"'), ("git", "true")):
        tool = tmp_path / name
        tool.write_text(f"#!/bin/sh\n{script_}\n")
        tool.chmod(0o755)
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", step["run"]],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "GITHUB_SHA": "1", "GITHUB_REPOSITORY": "you/it"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode == 0) is released
    assert ("::error::The check Gate did not succeed for 1." in done.stdout.decode()) is not released


# --- every workflow -------------------------------------------------------------------


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_no_workflow_has_global_permissions_and_each_permission_has_a_reason(file: Any) -> None:
    assert WORKFLOWS[file.name]["permissions"] == {}
    assert all("permissions" in job for job in WORKFLOWS[file.name]["jobs"].values())
    for line in file.read_text().splitlines():
        if re.match(r"\s+[a-z-]+: (read|write)\b", line):
            assert re.search(r"(read|write) # \w+", line), line


def test_jobs_have_exactly_the_listed_permissions() -> None:
    granted = {
        (file, name): job["permissions"]
        for file, workflow in WORKFLOWS.items()
        for name, job in workflow["jobs"].items()
        if job["permissions"] != READ
    }
    assert granted == {
        ("ci-cd.yml", "sign"): {"id-token": "write"},
        ("ci-cd.yml", "gate"): {},
        ("rollback.yml", "main"): {},
        ("release.yml", "chart"): {"contents": "write", "checks": "read", "packages": "write", "id-token": "write"},
    }


@pytest.mark.parametrize("job", JOBS)
def test_failures_are_not_ignored(job: Any) -> None:
    assert not [part for part in (job, *job["steps"]) if "continue-on-error" in part]


@pytest.mark.parametrize("job", JOBS)
def test_every_job_has_a_timeout_and_a_versioned_runner(job: Any) -> None:
    assert int(job["timeout-minutes"]) <= 120
    assert job["runs-on"] == "ubuntu-24.04"


@pytest.mark.parametrize("job", JOBS)
def test_no_checkout_keeps_the_token(job: Any) -> None:
    for place in uses(job, "actions/checkout"):
        assert job["steps"][place]["with"]["persist-credentials"] == "false"


def test_no_command_contains_an_expression() -> None:
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
def test_actions_install_the_versions_of_versions_env(action: str, key: str, version: str) -> None:
    versions = {step["with"][key] for step in STEPS if step.get("uses", "").startswith(f"{action}@")}
    assert versions == {VERSIONS[version]}


def test_every_image_is_built_with_the_buildkit_of_versions_env() -> None:
    builders = [step["with"] for step in STEPS if step.get("uses", "").startswith("docker/setup-buildx-action@")]
    assert len(builders) == 2
    for builder in builders:
        assert builder["driver-opts"] == f"image=moby/buildkit:{VERSIONS['BUILDKIT_VERSION']}"


def test_every_action_has_the_same_pin_everywhere() -> None:
    pins: dict[str, set[str]] = {}
    for file in FILES:
        for action, pin in re.findall(r"uses: ([\w./-]+)@(.*)", file.read_text()):
            assert re.fullmatch(r"[0-9a-f]{40} # v\d+\.\d+\.\d+", pin), f"{file.name}: {action}@{pin}"
            pins.setdefault(action, set()).add(pin)
    assert {action: pins_ for action, pins_ in pins.items() if len(pins_) > 1} == {}


def test_every_script_called_by_a_workflow_exists() -> None:
    scripts = {script for step in STEPS for script in re.findall(r"scripts/[\w.-]+", step.get("run", ""))}
    assert scripts
    assert not [script for script in scripts if not (REPOSITORY / script).exists()]


def test_updates_are_grouped_and_at_least_a_week_old() -> None:
    updates = yaml.safe_load((REPOSITORY / ".github/dependabot.yml").read_text())["updates"]
    assert {update["package-ecosystem"] for update in updates} == {
        *("github-actions", "docker", "pip", "helm", "devcontainers"),
        *(["gomod"] if (REPOSITORY / "bench").exists() else []),
        *(["gomod", "npm"] if [*REPOSITORY.glob("services/*/tests/clients")] else []),
    }
    for update in updates:
        assert update["cooldown"]["default-days"] >= 7
        assert update["groups"]


# --- release notes --------------------------------------------------------------------


def test_notes_are_the_commits_since_the_previous_tag(tmp_path: Path) -> None:
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
    assert re.fullmatch(r"Changes since v0.1.0:\n\n- Third \(\w+\)\n- Second \(\w+\)\n", notes("v0.2.0").stdout)
    unknown = notes("v9.0.0")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "The tag v9.0.0 does not exist" in unknown.stderr
