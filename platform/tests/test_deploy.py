"""scripts/deploy.sh with a fake helm and kubectl that keep a release in a file (fake_cluster.py), and real signals."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from fake_cluster import fake_cluster
from manifests import REPOSITORY
from scripts.deploy import cluster
from scripts.deploy.__main__ import __doc__ as usage_text
from scripts.deploy.__main__ import run_command
from scripts.deploy.kubeconfig import kubeconfig
from scripts.deploy.processes import Failed, Refused
from scripts.deploy.settings import Settings, settings_per_service


class Site:
    """A cluster in a file, and the script, configured to deploy to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "cluster.json"
        (folder / "bin").mkdir()
        self.write(revisions=[], held=None, serves=None)
        (folder / "kubeconfig").write_text("apiVersion: v1\n")
        self.environment = {
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "PYTHON": sys.executable,
            "KUBECONFIG": str(folder / "kubeconfig"),
            "SERVICE": "task-api",
            "IMAGE_REPOSITORY": "docker.io/you/task-api",
            "GITHUB_STEP_SUMMARY": str(folder / "summary"),
            "SETTLE_AGE": "2s",
            "LEASE_DURATION": "60s",
        }

    def write(self, **state: Any) -> None:
        """Atomically: a helm or kubectl may be reading the file."""
        new_file = self.file.with_suffix(".new")
        new_file.write_text(json.dumps(state))
        new_file.replace(self.file)

    @property
    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(self.file.read_text())
        return state

    @property
    def statuses(self) -> list[tuple[str, str]]:
        return [(revision["tag"], revision["status"]) for revision in self.state["revisions"]]

    @property
    def calls(self) -> str:
        calls = self.file.with_suffix(".calls")
        return calls.read_text() if calls.exists() else ""

    @property
    def summary(self) -> str:
        return (self.folder / "summary").read_text()

    def start(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [REPOSITORY / "scripts/deploy.sh", *words],
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        with self.start(*words, **environment) as process:
            output, errors = process.communicate(timeout=60)
        return subprocess.CompletedProcess(words, process.returncode, output, errors)

    def deploy(self, tag: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.run("deploy", IMAGE_TAG=tag, **environment)

    def set_deployed(self, *tags: str) -> None:
        """Sets the state that consecutive successful deploys leave."""
        revisions = [revision(number, tag, "superseded", age=60) for number, tag in enumerate(tags, 1)]
        revisions[-1]["status"] = "deployed"
        self.write(revisions=revisions, held=None, serves=tags[-1], unconfirmed={})

    def use_git_of(self, repository: Path) -> None:
        """With a git wrapper: the script ignores the environment's GIT_DIR."""
        git = self.folder / "bin/git"
        git.write_text(f'#!/bin/sh\nexec "{shutil.which("git")}" --git-dir="{repository}/.git" "$@"\n')
        git.chmod(0o755)

    def kill(self, process: subprocess.Popen[str]) -> None:
        """Kills the script and its helm, as when a runner is lost, and shortens the lease as if a minute had passed."""
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=10)
        self.set_lease(self.lease | {"leaseDurationSeconds": 1})

    @property
    def lease(self) -> dict[str, Any]:
        spec: dict[str, Any] = json.loads((self.file.with_suffix(".leases") / "task-api-deploy").read_text())["spec"]
        return spec

    def set_lease(self, spec: dict[str, Any], version: str = "100", **annotations: str) -> None:
        folder = self.file.with_suffix(".leases")
        folder.mkdir(exist_ok=True)
        metadata = {"name": "task-api-deploy", "resourceVersion": version, "annotations": annotations}
        lease = {"metadata": metadata, "spec": spec}
        new_file = folder / "new"
        new_file.write_text(json.dumps(lease))
        new_file.replace(folder / "task-api-deploy")

    def begin_slow_upgrade(self) -> subprocess.Popen[str]:
        process = self.start("deploy", IMAGE_TAG="slow-2")
        until(lambda: ("slow-2", "pending-upgrade") in self.statuses, "the upgrade is pending")
        return process


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, f"not within 30 s: {what}"
        time.sleep(0.05)


def read_until(process: subprocess.Popen[str], words: str) -> None:
    """Reads the output up to the line with these words."""
    assert process.stdout is not None
    for line in process.stdout:
        if words in line:
            return
    pytest.fail(f"it exited without a line with {words!r}")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    with fake_cluster(site.file, tmp_path / "bin"):
        yield site


# --- deploying ------------------------------------------------------------------------


def test_deploy_installs_then_upgrades_and_every_pod_reports_the_commit(site: Site) -> None:
    digest = "sha256:" + "0" * 64
    first = site.deploy("one", IMAGE_DIGEST=digest)
    assert first.returncode == 0, first.stderr
    assert "2 pods healthy, all at commit one" in first.stdout
    assert f"--set-string image.tag=one --set-string image.digest={digest}" in site.calls
    assert "--history-max 10 --wait --timeout 120s" in site.calls
    assert site.deploy("two").returncode == 0
    assert site.statuses == [("one", "superseded"), ("two", "deployed")]
    assert "Deployed docker.io/you/task-api:two. Previously: one, revision 1." in site.summary


def test_initial_state_of_the_other_tests_equals_that_after_deploys(site: Site) -> None:
    def comparable_state() -> dict[str, Any]:
        state = site.state
        for entry in state["revisions"]:
            del entry["updated"], entry["description"]
        return state

    site.deploy("one")
    site.deploy("two")
    by_deploys = comparable_state()
    site.set_deployed("one", "two")
    assert comparable_state() == by_deploys


def digests(folder: Path, **services: str) -> str:
    """A folder as left by the pipeline's build jobs."""
    (folder / "digests").mkdir()
    for name, letter in services.items():
        (folder / "digests" / name).write_text(f"sha256:{letter * 64}\n")
    return str(folder / "digests")


def test_every_pushed_service_is_deployed_by_its_own_digest(site: Site, tmp_path: Path) -> None:
    done = site.deploy(
        "one",
        IMAGE_DIGESTS=digests(tmp_path, parcels="2", orders="1"),
        IMAGE_REPOSITORY="docker.io/you/{0}",
        DEPLOY_VALUES="deploy/{0}.yaml",
    )
    assert done.returncode == 0, done.stderr
    upgrades = [call for call in site.calls.splitlines() if call.startswith("helm upgrade")]
    for call, name, letter in zip(upgrades, ("orders", "parcels"), "12", strict=True):
        assert call.startswith(f"helm upgrade --install {name} platform/helm/{name} --values deploy/{name}.yaml ")
        assert f"image.repository=docker.io/you/{name} " in call
        assert f"image.digest=sha256:{letter * 64}" in call


def test_after_a_failed_deploy_no_other_service_is_deployed(site: Site, tmp_path: Path) -> None:
    folder = digests(tmp_path, parcels="2", orders="1")
    done = site.deploy("bad", IMAGE_DIGESTS=folder, IMAGE_REPOSITORY="docker.io/you/{0}")
    assert done.returncode == 1
    assert "helm upgrade --install orders" in site.calls
    assert "parcels" not in site.calls


def test_one_repository_for_two_services_and_an_empty_folder_are_rejected(site: Site, tmp_path: Path) -> None:
    done = site.deploy("one", IMAGE_DIGESTS=digests(tmp_path, orders="1", parcels="2"))
    assert done.returncode == 2
    assert "one repository for 2 services. Use {0} as placeholder for the name" in done.stderr
    (tmp_path / "none").mkdir()
    done = site.deploy("one", IMAGE_DIGESTS=str(tmp_path / "none"))
    assert done.returncode == 2
    assert "Was an image pushed?" in done.stderr
    assert not site.state["revisions"]


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"IMAGE_TAG": "latest"}, "IMAGE_TAG=latest is rejected"),
        ({}, "IMAGE_TAG is not set"),
        ({"IMAGE_TAG": "one", "IMAGE_REPOSITORY": ""}, "IMAGE_REPOSITORY is not set"),
        ({"IMAGE_TAG": "one", "IMAGE_DIGEST": "sha256:12"}, "is not a digest"),
        ({"IMAGE_TAG": "one", "PRODUCTION_URL": "file:///etc"}, "PRODUCTION_URL=file:///etc is not a URL"),
        ({"IMAGE_TAG": "one", "KUBECONFIG": ""}, "No cluster given"),
        ({"IMAGE_TAG": "one", "KUBECONFIG": "/no/where"}, "KUBECONFIG: cannot read /no/where"),
        ({"IMAGE_TAG": "one", "KUBECONFIG": "/dev/null"}, "KUBECONFIG: /dev/null is empty"),
        ({"IMAGE_TAG": "one", "KUBE_CONFIG": "apiVersion: v1"}, "KUBE_CONFIG is not base64"),
        ({"IMAGE_TAG": "one", "KUBE_CONFIG": "köln"}, "KUBE_CONFIG is not base64"),
        ({"IMAGE_TAG": "one", "KUBE_CONFIG": "/w=="}, "KUBE_CONFIG is base64, but not of text"),
        # On GitHub a missing secret is empty. The machine's KUBECONFIG is not used instead.
        ({"IMAGE_TAG": "one", "KUBE_CONFIG": ""}, "KUBE_CONFIG is empty"),
        ({"IMAGE_TAG": "one", "KUBE_CONFIG": "IAo="}, "KUBE_CONFIG is empty"),
        ({"IMAGE_TAG": "one", "HELM_KUBECONTEXT": "other"}, "HELM_KUBECONTEXT is set"),
        ({"IMAGE_TAG": "one", "HELM_NAMESPACE": "other"}, "HELM_NAMESPACE is set"),
        ({"IMAGE_TAG": "one", "HELM_DRIVER": "configmap"}, "HELM_DRIVER is set"),
        ({"IMAGE_TAG": "one", "DEPLOY_TIMEOUT": "soon"}, "DEPLOY_TIMEOUT=soon is not a duration"),
    ],
)
def test_invalid_settings_are_rejected_with_a_message(site: Site, environment: dict[str, str], message: str) -> None:
    done = site.run("deploy", **environment)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert message in done.stderr
    # No tool was called, except for the query of the kubeconfig.
    assert set(site.calls.splitlines()) <= {"kubectl config view --minify --output json"}


@pytest.mark.parametrize(
    ("server", "message"),
    [("", "current-context must exist"), (None, "the cluster of its current context has no server")],
)
def test_kubeconfig_without_a_server_is_rejected_before_the_cluster_is_accessed(
    site: Site, server: str | None, message: str
) -> None:
    site.write(**site.state, server=server)
    done = site.deploy("one", KUBERNETES_SERVICE_HOST="10.0.0.1", KUBERNETES_SERVICE_PORT="443")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert message in done.stderr
    assert [call.split()[:3] for call in site.calls.splitlines()] == [["kubectl", "config", "view"]]


def test_tools_cannot_use_the_cluster_of_the_pod_that_runs_them(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    pod_environment = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443", "KUBERC": "on"}
    for name, value in {**site.environment, **pod_environment}.items():
        monkeypatch.setenv(name, value)
    with kubeconfig():
        assert {name: os.environ.get(name) for name in pod_environment} == {
            **dict.fromkeys(pod_environment),
            "KUBERC": "off",
        }


def test_kubeconfig_is_removed_after_the_deploy(site: Site) -> None:
    kubeconfig = base64.b64encode(b"apiVersion: v1\nkind: Config\n").decode()
    # As wrapped by a shell: base64 inserts line breaks.
    wrapped = "\n".join(re.findall(".{1,20}", kubeconfig))
    temporary = site.folder / "tmp"
    temporary.mkdir()
    assert site.deploy("one", KUBE_CONFIG=wrapped, KUBECONFIG="", TMPDIR=str(temporary)).returncode == 0
    assert list(temporary.iterdir()) == []


@pytest.fixture
def secret(site: Site, monkeypatch: pytest.MonkeyPatch) -> str:
    """A kubeconfig, which is in the environment as base64, as on GitHub."""
    text = "apiVersion: v1\nkind: Config\n"
    encoded = base64.b64encode(text.encode()).decode()
    for name, value in {**site.environment, "KUBERC": "on", "KUBECONFIG": "", "KUBE_CONFIG": encoded}.items():
        monkeypatch.setenv(name, value)
    return text


def test_kubeconfig_of_a_secret_is_a_file_until_the_end(secret: str) -> None:
    with kubeconfig():
        file = Path(os.environ["KUBECONFIG"])
        assert file.read_text() == secret
        assert "KUBE_CONFIG" not in os.environ
    assert not file.exists()


@pytest.mark.usefixtures("secret")
def test_kubeconfig_of_a_secret_without_a_server_is_rejected(site: Site) -> None:
    site.write(**site.state, server=None)
    with pytest.raises(Refused, match="KUBE_CONFIG does not select a cluster"), kubeconfig():
        pytest.fail("it was accepted")


def test_repository_of_a_single_service_needs_no_placeholder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IMAGE_DIGESTS", digests(tmp_path, orders="1"))
    monkeypatch.setenv("IMAGE_REPOSITORY", "docker.io/you/orders")
    assert [(one.release, one.repository) for one in settings_per_service()] == [("orders", "docker.io/you/orders")]


DURATIONS = {
    "timeout": "DEPLOY_TIMEOUT",
    "smoke_timeout": "SMOKE_TIMEOUT",
    "soak_time": "SOAK_TIME",
    "lock_timeout": "LOCK_TIMEOUT",
    "lease_duration": "LEASE_DURATION",
}
"""Settings, and the variables that set them."""


def test_default_durations_are_those_of_the_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*DURATIONS.values(), "SETTLE_AGE"):
        monkeypatch.delenv(name, raising=False)
    settings = Settings.from_env("task-api", "")
    usage = dict(re.findall(r"^    ([A-Z_]+) \((\d+)s\) ", str(usage_text), re.MULTILINE))
    assert {name: str(getattr(settings, field)) for field, name in DURATIONS.items()} == usage
    assert settings.settle_age == settings.timeout + 30


@pytest.mark.parametrize(("text", "seconds"), [("2m", 120), ("90s", 90)])
def test_durations_are_in_seconds_or_minutes(monkeypatch: pytest.MonkeyPatch, text: str, seconds: int) -> None:
    monkeypatch.setenv("DEPLOY_TIMEOUT", text)
    assert Settings.from_env("task-api", "").timeout == seconds


# --- failures -------------------------------------------------------------------------


def test_bad_image_is_rolled_back_automatically_after_printing_the_reason(site: Site) -> None:
    site.set_deployed("one")
    done = site.deploy("bad-2")
    assert done.returncode == 1
    assert site.statuses == [("one", "superseded"), ("bad-2", "failed"), ("one", "deployed")]
    assert site.calls.index("kubectl describe pods") < site.calls.index("helm rollback task-api 1")
    assert "all at commit one" in done.stdout
    assert "Helm failed to deploy bad-2 within 120 s." in done.stderr
    assert "Rolled back to revision 1: one serves" in site.summary
    # It was not rolled back on purpose: after a flaky failure the same run can be retried.
    assert site.state["held"] is None


def test_revision_stays_unverified_if_its_verification_failed(site: Site) -> None:
    assert site.deploy("liar-1", SMOKE_TIMEOUT="1s").returncode == 1
    assert site.state["unconfirmed"] == {"1": "liar-1"}


def test_failed_first_deploy_leaves_nothing(site: Site) -> None:
    done = site.deploy("bad-1")
    assert done.returncode == 1
    assert "no revision to roll back to" in done.stderr
    assert "helm uninstall task-api --wait --timeout 120s" in site.calls
    assert site.statuses == []
    assert site.deploy("one").returncode == 0


@pytest.mark.parametrize("command", ["deploy", "rollback", "settle"])
def test_unreadable_history_does_not_count_as_no_release(site: Site, command: str) -> None:
    """A deploy would be the first one, and its failure would uninstall the release."""
    site.set_deployed("one", "two")
    site.write(**site.state, api="down")
    before = site.state
    done = site.run(command, IMAGE_TAG="three")
    assert done.returncode == 1
    assert "Reading the history of the release task-api failed: Error: Kubernetes cluster unreachable" in done.stderr
    assert "make kubeconfig-ci" in done.stderr
    assert site.state == before


def test_helm_is_given_its_whole_timeout(site: Site) -> None:
    site.write(**site.state, seconds=0.5)
    done = site.deploy("bad-1", DEPLOY_TIMEOUT="1s")
    assert "the release was uninstalled" in done.stderr
    site.set_deployed("one")
    site.write(**site.state, seconds=0.5)
    done = site.deploy("bad-2", DEPLOY_TIMEOUT="1s")
    assert "Helm failed to deploy bad-2 within 1 s.\nRolled back to revision 1: one serves" in done.stderr


def test_first_deploy_with_invalid_values_removes_nothing(site: Site) -> None:
    done = site.deploy("wrong-1")
    assert done.returncode == 2
    assert "Helm rejected the release before creating anything" in done.stderr
    assert "uninstall" not in site.calls + done.stderr
    assert site.state["unconfirmed"] == {}
    assert site.deploy("one").returncode == 0


def test_pods_that_report_another_commit_fail_the_deploy(site: Site) -> None:
    site.set_deployed("one")
    done = site.deploy("liar-2", SMOKE_TIMEOUT="2s")
    assert done.returncode == 1
    assert "Verifying commit liar-2 failed after 2 s" in done.stderr
    assert "reports commit something-else" in done.stderr
    assert site.statuses == [("one", "superseded"), ("liar-2", "superseded"), ("one", "deployed")]


@pytest.mark.parametrize(
    ("tag", "error"), [("list-2", "TypeError"), ("cut-2", "IncompleteRead"), ("noise-2", "BadStatusLine")]
)
def test_invalid_responses_of_pods_fail_the_deploy(site: Site, tag: str, error: str) -> None:
    site.set_deployed("one")
    done = site.deploy(tag, SMOKE_TIMEOUT="1s")
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert f"/health: {error}" in done.stderr
    assert site.statuses[-1] == ("one", "deployed")


def test_public_url_must_report_the_commit_too(site: Site, public: str) -> None:
    site.set_deployed("one")
    done = site.deploy("two", PRODUCTION_URL=public, SMOKE_TIMEOUT="1s")
    assert f"{public}/health reports commit one" in done.stderr
    assert site.statuses == [("one", "superseded"), ("two", "superseded"), ("one", "deployed")]
    assert site.run("smoke", PRODUCTION_URL=f"{public}/").returncode == 0


@pytest.fixture
def public() -> Iterator[str]:
    """A server that reports `one`, whatever is deployed."""

    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/health":
                self.send_error(404)
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"revision": "one"}')

        def log_message(self, *_: Any) -> None:
            """Silent."""

    with HTTPServer(("127.0.0.1", 0), Health) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_failed_rollback_fails_the_deploy_with_next_steps(site: Site) -> None:
    site.set_deployed("one")
    site.write(**site.state, rollback="fails")
    done = site.deploy("bad-2")
    assert done.returncode == 1
    assert "The rollback to revision 1 failed, see above. Next: make history, make deploy-settle" in done.stderr
    assert "serves" not in done.stderr
    assert "helm rollback task-api 1 --wait --timeout 120s --history-max 10" in site.calls
    # Of both: Helm's error, and the state of the pods.
    assert done.stderr.count("Error: context deadline exceeded") == 1
    assert done.stderr.count("Error: UPGRADE FAILED: context deadline exceeded") == 1
    assert site.calls.count("kubectl describe pods") == 2


def test_diagnostics_are_grouped_on_github(site: Site) -> None:
    site.set_deployed("one")
    done = site.deploy("bad-2", GITHUB_ACTIONS="true")
    assert done.stdout.count("::group::") == done.stdout.count("::endgroup::") == 5


def test_failing_diagnostic_command_does_not_hide_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = []

    def hang(*_: str, **given: object) -> None:
        options.append(given)
        raise Failed("no answer within 15 s")

    monkeypatch.setattr(cluster, "run", hang)
    cluster.diagnose(Settings.from_env("task-api", ""))
    assert capsys.readouterr().out.count("no answer within 15 s") == 5
    assert options == [{"show": True, "timeout": 15}] * 5


# --- interruptions --------------------------------------------------------------------


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_cancelled_deploy_leaves_the_release_failed_and_not_pending(site: Site, signum: signal.Signals) -> None:
    site.set_deployed("one")
    process = site.begin_slow_upgrade()
    process.send_signal(signum)  # only to the script, like the runner
    _, errors = process.communicate(timeout=7)  # before the runner's next, harder signal
    assert process.returncode == 128 + signum
    assert "Cancelled" in errors
    assert "Cancelled" in site.summary
    assert site.statuses == [("one", "deployed"), ("slow-2", "failed")]
    assert site.deploy("three").returncode == 0


def test_next_deploy_recovers_from_a_kill(site: Site) -> None:
    site.set_deployed("one")
    process = site.begin_slow_upgrade()
    site.kill(process)
    assert site.statuses[-1] == ("slow-2", "pending-upgrade")
    done = site.deploy("three", SETTLE_AGE="10s")
    assert done.returncode == 0, done.stderr
    assert "has expired: taking over" in done.stdout
    assert "another deploy may be running" in done.stdout
    assert "Revision 2 is stuck in pending-upgrade: rolling back to revision 1" in done.stdout
    assert site.calls.index("kubectl describe pods") < site.calls.index("helm rollback task-api 1")
    assert [status for _, status in site.statuses] == ["superseded", "pending-upgrade", "superseded", "deployed"]


def test_next_deploy_waits_for_a_helm_that_outlives_its_script(site: Site) -> None:
    site.set_deployed("one")
    process = site.begin_slow_upgrade()
    process.kill()  # only the script
    process.wait(timeout=10)
    site.set_lease(site.lease | {"leaseDurationSeconds": 1})
    with site.start("deploy", IMAGE_TAG="three", SETTLE_AGE="60s") as following:
        read_until(following, "another deploy may be running")
        os.killpg(process.pid, signal.SIGTERM)  # the rest of the group: helm, which exits on its own
        output, errors = following.communicate(timeout=30)
        assert following.returncode == 0, errors
        assert "is stuck" not in output
    process.communicate(timeout=10)
    assert site.statuses == [("one", "superseded"), ("slow-2", "failed"), ("three", "deployed")]


def test_killed_first_install_is_removed(site: Site) -> None:
    process = site.start("deploy", IMAGE_TAG="slow-1")
    until(lambda: ("slow-1", "pending-install") in site.statuses, "the install is pending")
    site.kill(process)
    done = site.run("settle")
    assert done.returncode == 0, done.stderr
    assert site.statuses == []


def test_signal_is_handled_while_a_pod_does_not_respond(site: Site) -> None:
    site.set_deployed("one")
    site.write(**site.state, forward="hangs")
    with site.start("smoke") as process:
        until(lambda: site.calls.endswith("--address 127.0.0.1\n"), "a pod is queried")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=5) == 130
        process.communicate()


@pytest.mark.parametrize("words", [(), ("1",)])
def test_killed_rollback_is_resumed_and_not_undone(site: Site, words: tuple[str, ...]) -> None:
    site.set_deployed("one", "two")
    site.write(**site.state, rollback="slow")
    process = site.start("rollback", *words)
    until(lambda: ("one", "pending-rollback") in site.statuses, "the rollback is pending")
    process.send_signal(signal.SIGTERM)  # Helm's rollback handles no signal: it ends immediately
    process.communicate(timeout=10)
    assert process.returncode == 143
    assert site.statuses[-1] == ("one", "pending-rollback")
    site.write(**site.state | {"rollback": ""})
    done = site.run("rollback", *words) if words else site.run("settle")
    assert done.returncode == 0, done.stderr
    assert site.state["serves"] == "one"
    assert list(site.state["held"]) == ["two"]
    # Directly: no rollback to another revision before.
    assert re.findall("helm rollback task-api .", site.calls) == ["helm rollback task-api 1"] * 2


def test_killed_automatic_rollback_is_not_left_at_an_unverified_revision(site: Site) -> None:
    site.set_deployed("one")
    site.write(**site.state, rollback="slow")
    process = site.start("deploy", IMAGE_TAG="liar-2", SMOKE_TIMEOUT="1s")
    until(lambda: ("one", "pending-rollback") in site.statuses, "the rollback is pending")
    site.kill(process)
    site.write(**site.state | {"rollback": ""})
    before = len(site.calls)
    done = site.run("settle")
    assert "Revision 3 (one) is unverified (status: pending-rollback). Rolled back to revision 1" in done.stdout
    calls = site.calls[before:]
    assert calls.index("kubectl describe pods") < calls.index("helm rollback task-api 1")
    assert site.state["serves"] == "one"


def test_held_revision_is_better_than_none(site: Site) -> None:
    """A running release is not uninstalled because it is held."""
    revisions = [revision(1, "one", "deployed", age=99), revision(2, "two", "pending-upgrade", age=60)]
    site.write(revisions=revisions, held={"one": "rolled back"}, serves="one")
    assert "Rolled back to revision 1" in site.run("settle").stdout
    assert site.statuses[-1] == ("one", "deployed")


@pytest.mark.parametrize(("age", "stale"), [(140, False), (160, True)])
def test_by_default_a_pending_revision_becomes_stale_only_after_a_deploys_maximum_duration(
    site: Site, age: float, stale: bool
) -> None:
    del site.environment["SETTLE_AGE"]
    pending = revision(2, "two", "pending-upgrade", age=age)
    site.write(revisions=[revision(1, "one", "deployed", age=200), pending], held=None, serves="one")
    with site.start("settle") as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.terminate()
        process.communicate(timeout=30)
    assert ("After 150 s it counts as stale" in first) is not stale


def test_settle_can_be_cancelled_while_it_waits(site: Site) -> None:
    pending = revision(2, "two", "pending-rollback", age=0)
    site.write(revisions=[revision(1, "one", "deployed", age=60), pending], held=None, serves="one")
    with site.start("settle", SETTLE_AGE="600s") as process:
        read_until(process, "Revision 2 has been pending-rollback for 0 s")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=5) == 130
        process.communicate()


def revision(number: int, tag: str, status: str, *, age: float) -> dict[str, Any]:
    updated = (datetime.now(UTC) - timedelta(seconds=age)).isoformat()
    return {"revision": number, "updated": updated, "status": status, "description": "", "tag": tag}


# --- order of commits -----------------------------------------------------------------


def test_older_commit_does_not_replace_a_newer_one(site: Site, history_of_three: Path) -> None:
    older, newer, newest = (git(history_of_three, "rev-parse", name) for name in ("HEAD~2", "HEAD~1", "HEAD"))
    site.use_git_of(history_of_three)
    site.set_deployed(newer, newest)
    done = site.deploy(older)
    assert done.returncode == 0
    assert f"Nothing deployed: {newest} is newer than {older} and was deployed before (deployed)" in done.stdout
    assert len(site.statuses) == 2
    assert site.deploy(newest).returncode == 0  # redeploying the same commit is allowed
    assert len(site.statuses) == 3


@pytest.mark.parametrize("went_back", [False, True])
def test_older_commit_is_not_deployed_even_if_the_newer_one_failed(
    site: Site, history_of_three: Path, went_back: bool
) -> None:
    older, newer = (git(history_of_three, "rev-parse", reference) for reference in ("HEAD~1", "HEAD"))
    site.use_git_of(history_of_three)
    revisions = [revision(1, "one", "deployed", age=60), revision(2, newer, "failed", age=9)]
    if went_back:
        revisions.append(revision(3, "one", "deployed", age=8))
    site.write(revisions=revisions, held=None, serves="one")
    done = site.deploy(older)
    assert (done.returncode, len(site.statuses)) == (0, len(revisions))
    assert f"{newer} is newer than {older} and was deployed before (failed)" in done.stdout


def git(repository: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=T", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, *arguments], cwd=repository, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def history_of_three(tmp_path: Path) -> Path:
    repository = tmp_path / "repository"
    repository.mkdir()
    git(repository, "init", "--quiet")
    for message in ("one", "two", "three"):
        git(repository, "commit", "--quiet", "--allow-empty", "--message", message)
    return repository


# --- concurrent deploys ---------------------------------------------------------------


def test_second_deploy_waits_for_the_first_and_names_it(site: Site) -> None:
    site.set_deployed("one")
    first = site.begin_slow_upgrade()
    with site.start("deploy", IMAGE_TAG="three", SETTLE_AGE="60s") as second:
        assert second.stdout is not None
        assert second.stdout.readline().startswith("Waiting for deploy of slow-2 by ")
        assert site.statuses == [("one", "deployed"), ("slow-2", "pending-upgrade")]
        first.send_signal(signal.SIGTERM)
        first.communicate(timeout=30)
        assert second.wait(timeout=60) == 0
        second.communicate()
    assert site.statuses == [("one", "superseded"), ("slow-2", "failed"), ("three", "deployed")]
    assert "holderIdentity" not in site.lease


def test_lock_timeout_changes_nothing_and_names_the_holder(site: Site) -> None:
    site.set_deployed("one")
    first = site.begin_slow_upgrade()
    before = site.state
    done = site.deploy("three", LOCK_TIMEOUT="2s")
    assert done.returncode == 2
    assert re.search(r"deploy of slow-2 by .* still holds the lock after 2 s. Nothing was changed.", done.stderr)
    assert site.state == before
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=30)


def test_github_run_is_named_by_its_url(site: Site) -> None:
    site.set_deployed("one")
    site.set_lease({"holderIdentity": "deploy of x by https://github.example/you/kit/actions/runs/7 (attempt 2) [1]"})
    errors = site.deploy("two", LOCK_TIMEOUT="1s").stderr
    assert "https://github.example/you/kit/actions/runs/7 (attempt 2)" in errors
    site.set_lease({})
    on_github = {"GITHUB_RUN_ID": "8", "GITHUB_SERVER_URL": "https://github.example", "GITHUB_REPOSITORY": "you/kit"}
    with site.start("deploy", IMAGE_TAG="slow-2", **on_github) as process:
        until(lambda: ("slow-2", "pending-upgrade") in site.statuses, "the upgrade is pending")
        assert site.lease["holderIdentity"].startswith(
            "deploy of slow-2 by https://github.example/you/kit/actions/runs/8 (attempt 1) ["
        )
        process.send_signal(signal.SIGTERM)


def test_lock_is_renewed_while_helm_runs(site: Site) -> None:
    site.set_deployed("one")
    with site.start("deploy", IMAGE_TAG="slow-2", LEASE_DURATION="30s") as process:
        until(lambda: ("slow-2", "pending-upgrade") in site.statuses, "the upgrade is pending")
        first_renewal = site.lease["renewTime"]
        until(lambda: site.lease["renewTime"] > first_renewal, "the Lease is renewed")
        assert site.lease["acquireTime"] <= first_renewal
        process.send_signal(signal.SIGTERM)


def test_deployer_that_lost_its_lock_stops_without_further_changes(site: Site) -> None:
    site.set_deployed("one")
    with site.start("deploy", IMAGE_TAG="slow-2", LEASE_DURATION="6s") as process:
        until(lambda: ("slow-2", "pending-upgrade") in site.statuses, "the upgrade is pending")
        # It was taken over, as after the machine was suspended for minutes.
        site.set_lease({"holderIdentity": "rollback by another"}, version="999")
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "rollback by another took over the lock, so this deployer stopped. To recover the release" in errors
    assert "Failed: rollback by another took over the lock" in site.summary
    assert site.statuses == [
        ("one", "deployed"),
        ("slow-2", "failed"),
    ]  # its Helm was stopped, and nothing was rolled back
    assert "helm rollback" not in site.calls
    assert site.lease == {"holderIdentity": "rollback by another"}


def test_role_without_lease_permissions_is_reported_with_the_fix(site: Site) -> None:
    site.write(**site.state, api="forbids")
    done = site.deploy("one")
    assert done.returncode == 2
    assert "kubectl --namespace NAMESPACE apply --filename platform/deployer/role.yaml" in done.stderr
    assert site.statuses == []


def test_helm_run_outside_of_the_script_is_not_rolled_back(site: Site) -> None:
    """It started after the deploy's check, so Helm rejects the deploy: the deployed commit did not fail."""
    site.set_deployed("one")
    site.write(**site.state, intruder="theirs")
    done = site.deploy("two")
    assert done.returncode == 2
    assert "Helm is running outside of this script: revision 2 of theirs is pending-upgrade." in done.stderr
    assert "helm rollback" not in site.calls
    assert site.statuses == [("one", "deployed"), ("theirs", "pending-upgrade")]


def rollback_that_waited(
    site: Site, *words: str, revisions: list[dict[str, Any]], **state: Any
) -> subprocess.CompletedProcess[str]:
    """A rollback from slow-2, whose deploy ends while it waits and leaves these revisions."""
    pending = revision(len(site.state["revisions"]) + 1, "slow-2", "pending-upgrade", age=1)
    site.write(**site.state | {"revisions": [*site.state["revisions"], pending]})
    site.set_lease({"holderIdentity": "deploy of slow-2 by another [1]", "leaseDurationSeconds": 60})
    with site.start("rollback", *words, SETTLE_AGE="60s") as process:
        read_until(process, "Waiting for deploy of slow-2 by ")
        site.write(**site.state | {"revisions": revisions} | state)
        site.set_lease({})
        output, errors = process.communicate(timeout=60)
    return subprocess.CompletedProcess(words, process.returncode, output, errors)


def after_slow_2(
    *following: dict[str, Any], earlier: tuple[str, ...] = ("one",), status: str = "failed"
) -> list[dict[str, Any]]:
    """The history in which slow-2 failed."""
    ran = [revision(number, tag, "superseded", age=60) for number, tag in enumerate(earlier, 1)]
    return [*ran, revision(len(ran) + 1, "slow-2", status, age=1), *following]


def test_rollback_stops_a_running_deploy_and_leaves_its_commit(site: Site) -> None:
    site.set_deployed("zero", "one")
    with site.start("deploy", IMAGE_TAG="slow-2", LEASE_DURATION="12s") as deploy:
        until(lambda: ("slow-2", "pending-upgrade") in site.statuses, "the upgrade is pending")
        rollback = site.run("rollback")
        _, errors = deploy.communicate(timeout=30)
    assert rollback.returncode == 0, rollback.stderr
    assert "Requesting deploy of slow-2 by " in rollback.stdout
    assert deploy.returncode == 1
    assert re.search("rollback from slow-2 by .* requested a stop, so this deployer stopped", errors)
    assert site.statuses[-2:] == [("slow-2", "failed"), ("one", "deployed")]
    assert list(site.state["held"]) == ["slow-2"]
    # The stop request does not affect the next deploy.
    assert site.deploy("three").returncode == 0


def test_waiting_rollback_takes_precedence_over_waiting_deploys(site: Site) -> None:
    site.set_deployed("one", "two")
    stop_request = {"task-platform/stop-for": "rollback from two by another [1]"}
    site.set_lease({"leaseDurationSeconds": 60}, **stop_request)
    rejected = site.deploy("three", LOCK_TIMEOUT="1s")
    assert rejected.returncode == 2
    assert "rollback from two by another [1] still holds the lock after 1 s" in rejected.stderr
    assert site.run("rollback").returncode == 0
    assert site.deploy("three").returncode == 0
    # A killed waiting rollback expires like a killed holder.
    site.set_lease({"leaseDurationSeconds": 1}, **stop_request)
    assert site.deploy("four").returncode == 0


@pytest.mark.parametrize("holder", ["rollback from two by another [1]", "settle by another [1]"])
def test_rollback_stops_only_deploys(site: Site, holder: str) -> None:
    site.set_deployed("one", "two")
    site.set_lease({"holderIdentity": holder, "leaseDurationSeconds": 60})
    done = site.run("rollback", LOCK_TIMEOUT="1s")
    assert done.returncode == 2
    assert "Requesting" not in done.stdout
    assert site.lease == {"holderIdentity": holder, "leaseDurationSeconds": 60}


@pytest.mark.parametrize(("tag", "named"), [("one", "one"), ("", "no commit")])
def test_rollback_during_an_automatic_rollback_goes_no_further(site: Site, tag: str, named: str) -> None:
    """The rollback was meant for slow-2, which its deploy has already left, so `one` stays and slow-2 is held."""
    site.set_deployed("zero", tag)
    ended = after_slow_2(revision(4, tag, "deployed", age=0), earlier=("zero", tag))
    done = rollback_that_waited(site, revisions=ended)
    assert done.returncode == 0, done.stderr
    assert f"Nothing to roll back: slow-2 was rolled back while this waited, and {named} serves." in done.stdout
    assert "slow-2 is held until: make unhold COMMIT=slow-2." in site.summary
    assert list(site.state["held"]) == ["slow-2"]
    assert site.state["serves"] == tag
    assert "helm rollback" not in site.calls


@pytest.mark.parametrize(("status", "unconfirmed"), [("failed", {}), ("deployed", {"4": "one"})])
def test_rollback_completes_an_automatic_rollback_that_failed(
    site: Site, status: str, unconfirmed: dict[str, str]
) -> None:
    site.set_deployed("zero", "one")
    ended = after_slow_2(revision(4, "one", status, age=0), earlier=("zero", "one"))
    done = rollback_that_waited(site, revisions=ended, serves="slow-2", unconfirmed=unconfirmed)
    assert done.returncode == 0, done.stderr
    assert "and one serves" in done.stdout
    assert site.state["serves"] == "one"
    assert list(site.state["held"]) == ["slow-2"]
    assert site.calls.index("kubectl describe pods") < site.calls.index("helm rollback task-api 2")


@pytest.mark.parametrize("status", ["failed", "superseded"])
def test_rollback_never_completes_an_automatic_rollback_at_the_commit_to_leave(site: Site, status: str) -> None:
    """Others were pruned. It may have run, if its pods reported another commit."""
    site.set_deployed("one")
    _, *remaining = after_slow_2(revision(3, "one", "failed", age=0), status=status)
    done = rollback_that_waited(site, revisions=remaining)
    assert "helm rollback" not in site.calls
    assert done.returncode == 1
    assert "slow-2 is held, but its rollback did not complete. Complete it: make deploy-settle" in done.stderr
    assert list(site.state["held"]) == ["slow-2"]


@pytest.mark.parametrize("words", [(), ("1",)])
def test_rollback_is_rejected_if_another_commit_was_deployed_while_it_waited(
    site: Site, words: tuple[str, ...]
) -> None:
    site.set_deployed("one")
    three = revision(3, "three", "deployed", age=0)
    done = rollback_that_waited(site, *words, revisions=after_slow_2(three), serves="three")
    assert done.returncode == 2
    assert "While this waited for the lock, slow-2 was followed by three. Nothing was changed." in done.stderr
    assert "To roll back three: make rollback" in done.stderr
    assert site.state["held"] is None
    assert site.state["serves"] == "three"


@pytest.mark.parametrize(("status", "unconfirmed"), [("failed", {}), ("deployed", {"3": "three"})])
def test_rollback_is_rejected_if_another_deploy_did_not_complete_while_it_waited(
    site: Site, status: str, unconfirmed: dict[str, str]
) -> None:
    site.set_deployed("one")
    three = revision(3, "three", status, age=0)
    done = rollback_that_waited(site, revisions=after_slow_2(three), unconfirmed=unconfirmed)
    assert done.returncode == 1
    assert "slow-2 was followed by three, whose deploy did not complete. Complete it: make deploy-settle" in done.stderr
    assert site.state["held"] is None


def test_rollback_is_rejected_if_the_release_was_uninstalled_while_it_waited(site: Site) -> None:
    site.set_deployed("one")
    done = rollback_that_waited(site, revisions=[], serves=None)
    assert done.returncode == 2
    assert "While this waited for the lock, the release was uninstalled. Nothing was changed." in done.stderr
    assert site.state["held"] is None


def test_rollback_waits_for_a_helm_that_outlives_its_script(site: Site) -> None:
    """Two of them at a time would mix their changes."""
    running = revision(2, "two", "pending-upgrade", age=0)
    site.write(revisions=[revision(1, "one", "deployed", age=60), running], held=None, serves="one")
    with site.start("rollback", SETTLE_AGE="60s") as process:
        read_until(process, "another deploy may be running")
        assert "helm rollback" not in site.calls
        site.write(
            **site.state | {"revisions": [revision(1, "one", "deployed", age=60), running | {"status": "failed"}]}
        )
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 0, errors
    assert site.statuses == [("one", "superseded"), ("two", "failed"), ("one", "deployed")]


def test_invalid_rollback_stops_no_deploy(site: Site) -> None:
    site.set_deployed("one")
    with site.begin_slow_upgrade() as first:
        done = site.run("rollback", "99")
        assert done.returncode == 2
        assert "Revision 99 never ran" in done.stderr
        assert site.statuses[-1] == ("slow-2", "pending-upgrade")
        assert "Requesting" not in done.stdout
        first.send_signal(signal.SIGTERM)


def test_lock_is_released_despite_a_new_stop_request(site: Site) -> None:
    site.set_deployed("one")
    with site.begin_slow_upgrade() as first:
        site.set_lease(site.lease, version="999", **{"task-platform/stop-for": "rollback by another"})
        first.send_signal(signal.SIGTERM)
        first.communicate(timeout=30)
    assert "holderIdentity" not in site.lease


# --- after an interrupted deploy -------------------------------------------------------


def test_settle_rolls_back_a_cancelled_deploy(site: Site) -> None:
    site.set_deployed("one")
    process = site.begin_slow_upgrade()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    done = site.run("settle")
    assert done.returncode == 0, done.stderr
    assert "Revision 2 (slow-2) is unverified (status: failed). Rolled back to revision 1: one serves." in site.summary
    assert site.statuses[-1] == ("one", "deployed")
    before = len(site.calls)
    again = site.run("settle")
    assert again.returncode == 0
    assert "Revision 3 (one) is deployed and verified: nothing to recover" in again.stdout
    assert "port-forward" not in site.calls[before:]


def test_settle_verifies_a_deployed_revision_that_was_not_verified(site: Site) -> None:
    site.set_deployed("one", "two")
    site.write(**site.state | {"unconfirmed": {"2": "two"}})
    done = site.run("settle")
    assert done.returncode == 0, done.stderr
    assert "Revision 2 (two) was deployed, but not verified. Now it is: its pods serve the commit." in site.summary
    assert site.state["unconfirmed"] == {}
    assert site.statuses == [("one", "superseded"), ("two", "deployed")]


def test_settle_rolls_back_a_revision_that_fails_verification(site: Site) -> None:
    site.set_deployed("one", "two")
    site.write(**site.state | {"unconfirmed": {"2": "two"}, "serves": "something-else"})
    done = site.run("settle", SMOKE_TIMEOUT="1s")
    assert done.returncode == 0, done.stderr
    assert "Verifying commit two failed after 1 s" in done.stderr
    assert "Revision 2 (two) is unverified (status: deployed). Rolled back to revision 1" in site.summary


def test_settle_removes_a_cancelled_first_deploy(site: Site) -> None:
    process = site.start("deploy", IMAGE_TAG="slow-1")
    until(lambda: ("slow-1", "pending-install") in site.statuses, "the install is pending")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert site.run("settle").returncode == 0
    assert site.statuses == []
    again = site.run("settle")
    assert again.returncode == 0
    assert "There is no release task-api in this namespace: nothing to recover." in again.stdout


def test_settle_completes_a_rollback_that_ended_after_holding_the_commit(site: Site) -> None:
    site.set_deployed("one", "two")
    site.write(**site.state | {"held": {"two": "rolled back"}})
    done = site.run("settle")
    assert done.returncode == 0, done.stderr
    assert "Revision 2 (two) is held. Rolled back to revision 1: one serves." in site.summary


@pytest.mark.parametrize(("first", "status"), [(11, "failed"), (11, "pending-upgrade"), (2, "failed")])
def test_release_whose_good_revisions_were_pruned_is_not_uninstalled(site: Site, first: int, status: str) -> None:
    revisions = [revision(first, "bad", "failed", age=99), revision(first + 1, "bad", status, age=99)]
    site.write(revisions=revisions, held=None, serves="one")
    for words in (("settle",), ("deploy",)):
        done = site.run(*words, IMAGE_TAG="bad-13")
        assert done.returncode == 1
        assert "older ones were pruned, so the release was not uninstalled" in done.stderr
    assert "helm uninstall" not in site.calls


@pytest.mark.parametrize(
    ("first", "statuses"),
    [
        (1, ["pending-install"]),
        (1, ["failed", "pending-upgrade"]),
        (1, ["superseded", "uninstalling"]),
        (11, ["superseded", "failed", "uninstalling"]),
    ],
)
def test_deploy_installs_from_scratch_after_an_interrupted_install_or_uninstall(
    site: Site, first: int, statuses: list[str]
) -> None:
    revisions = [revision(number, "zero", status, age=60) for number, status in enumerate(statuses, first)]
    site.write(revisions=revisions, held=None, serves="zero")
    done = site.deploy("one")
    assert done.returncode == 0, done.stderr
    assert site.statuses == [("one", "deployed")]
    assert site.calls.index("kubectl describe pods") < site.calls.index("helm uninstall task-api")


def test_target_of_a_rollback_does_not_count_as_verified(site: Site) -> None:
    """The deploy that rolled back was interrupted before it could deploy and verify anything itself."""
    revisions = [revision(1, "one", "deployed", age=99), revision(2, "two", "pending-upgrade", age=60)]
    site.write(revisions=revisions, held={"three": "rolled back"}, serves="one")
    assert site.deploy("three").returncode == 2  # held, which is checked after the rollback
    assert site.state["unconfirmed"] == {"3": "one"}
    assert "Revision 3 (one) was deployed, but not verified. Now it is" in site.run("settle").stdout


def test_future_timestamp_does_not_block_recovery(site: Site) -> None:
    revisions = [revision(1, "one", "deployed", age=99), revision(2, "two", "pending-upgrade", age=-3600)]
    site.write(revisions=revisions, held=None, serves="one")
    assert site.run("settle").returncode == 0
    assert site.statuses[-1] == ("one", "deployed")


# --- soak time ------------------------------------------------------------------------


def test_deploy_keeps_checking_during_the_soak_time(site: Site) -> None:
    done = site.deploy("one", SOAK_TIME="2s")
    assert done.returncode == 0, done.stderr
    assert "Soaking for 2 s" in done.stdout
    assert site.state["unconfirmed"] == {}


def test_container_restart_during_the_soak_time_fails_the_deploy(site: Site) -> None:
    site.set_deployed("one")
    with site.start("deploy", IMAGE_TAG="two", SOAK_TIME="60s") as process:
        read_until(process, "Soaking")
        assert site.state["unconfirmed"] == {"2": "two"}
        site.write(**site.state | {"restarts": 1})
        _, errors = process.communicate(timeout=90)
    assert process.returncode == 1
    assert re.search(r"A container of task-api-1 restarted within the first \d+ s of soak time.", errors)
    assert site.statuses == [("one", "superseded"), ("two", "superseded"), ("one", "deployed")]


# --- Helm versions --------------------------------------------------------------------


@pytest.mark.parametrize(("helm", "flags"), [("v3.12.3", []), ("v3.22.0", []), ("v4.3.1", ["--server-side=false"])])
def test_every_helm_uses_client_side_apply(site: Site, helm: str, flags: list[str]) -> None:
    site.write(**site.state, helm=helm)
    site.deploy("one")
    site.deploy("two")
    site.run("rollback")
    changes = [call.split() for call in site.calls.splitlines() if call.startswith(("helm upgrade", "helm rollback"))]
    assert len(changes) == 3
    for call in changes:
        assert [argument for argument in call if "server-side" in argument or "conflicts" in argument] == flags


BY_HAND = {
    "Deployment": """Apply failed with 3 conflicts: conflicts with "kubectl-set" using apps/v1:
- .spec.template.spec.containers[name="api"].image
conflicts with "kube-controller-manager" with subresource "scale" using apps/v1:
- .spec.replicas
conflicts with "helm" using apps/v1:
- .spec.minReadySeconds
Please review the fields above--they currently have other managers. Here
""",
    "ServiceMonitor": (
        'Apply failed with 1 conflict: conflict with "kubectl-edit" using monitoring.coreos.com/v1: .spec.jobLabel'
    ),
}


def test_manually_changed_fields_are_reported_before_they_are_reverted(site: Site) -> None:
    site.set_deployed("one")
    site.write(**site.state, conflicts=BY_HAND)
    done = site.deploy("two")
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("reverted: ")] == [
        'reverted: Deployment task-api .spec.template.spec.containers[name="api"].image (kubectl-set)',
        "reverted: ServiceMonitor task-api .spec.jobLabel (kubectl-edit)",
    ]
    applied = [call for call in site.calls.splitlines() if call.startswith("kubectl apply")]
    # Of the two, only the custom resource would not be reverted by Helm.
    assert [call.rpartition(" ")[2] for call in applied] == ["--dry-run=server"] * 2 + ["--force-conflicts"]
    assert site.calls.index(applied[-1]) < site.calls.index("helm upgrade", site.calls.index(applied[0]))


def test_multi_line_description_is_one_line_in_the_history(site: Site) -> None:
    """Like Helm 4's after a conflict."""
    conflict = 'Upgrade "task-api" failed: conflict occurred while applying\n- .spec.replicas\n\tand another'
    site.write(revisions=[{**revision(1, "one", "failed", age=5), "description": conflict}], held=None, serves="one")
    assert [line.split("  ")[-1] for line in site.run("history").stdout.splitlines()] == [" ".join(conflict.split())]


def test_failed_revision_marked_superseded_counts_as_never_run(site: Site) -> None:
    """Helm marks it when the API server rejects a rollback."""
    site.set_deployed("one")
    site.write(**site.state, rollback="fails")
    site.deploy("bad-2")
    assert ("bad-2", "superseded") in site.statuses
    site.write(**site.state | {"rollback": ""})
    done = site.run("rollback", "2")
    assert done.returncode == 2
    assert "Revision 2 never ran" in done.stderr
    assert "all at commit one" in site.run("smoke").stdout


# --- rollback -------------------------------------------------------------------------


def test_rollback_returns_to_the_last_other_image_and_holds_the_current_one(site: Site) -> None:
    site.set_deployed("one", "two", "two")
    done = site.run("rollback")
    assert done.returncode == 0, done.stderr
    assert site.statuses[-1] == ("one", "deployed")
    assert list(site.state["held"]) == ["two"]
    assert "two is held until: make unhold COMMIT=two" in site.summary

    rejected = site.deploy("two")
    assert rejected.returncode == 2
    assert "two is held: rolled back on " in rejected.stderr
    assert "make unhold COMMIT=two" in rejected.stderr
    assert site.deploy("three").returncode == 0  # other commits are not held

    assert site.run("unhold", "two").returncode == 0
    assert site.deploy("two").returncode == 0


def test_second_rollback_goes_further_back_and_skips_held_commits(site: Site) -> None:
    site.set_deployed("one", "two", "three")
    assert [site.run("rollback").returncode for _ in range(3)] == [0, 0, 2]
    assert site.statuses[-1] == ("one", "deployed")
    assert list(site.state["held"]) == ["three", "two"]
    assert "was verified and is not held. See: make history" in site.run("rollback").stderr


def test_rollback_skips_unverified_revisions(site: Site) -> None:
    site.set_deployed("one")
    site.deploy("liar-2", SMOKE_TIMEOUT="1s")
    assert "liar-2 (unverified)" in site.run("history").stdout
    done = site.run("rollback")
    assert done.returncode == 2
    assert "no other revision that ran, was verified" in done.stderr
    site.deploy("three")
    assert site.run("rollback").returncode == 0
    assert site.state["serves"] == "one"
    # A successful revision is verified, and a pruned one is forgotten.
    assert site.state["unconfirmed"] == {"2": "liar-2"}
    site.write(**site.state | {"revisions": site.state["revisions"][2:]})
    site.deploy("four")
    assert site.state["unconfirmed"] == {}


def test_release_without_a_commit_in_its_values_can_be_left_and_returned_to(site: Site) -> None:
    revisions = [revision(1, "one", "superseded", age=9), revision(2, "", "deployed", age=5)]
    site.write(revisions=revisions, held=None, serves="0.1.0")
    done = site.run("rollback")
    assert done.returncode == 0, done.stderr
    assert site.state["held"] is None
    assert site.run("rollback", "2").returncode == 0
    assert site.statuses[-1] == ("", "deployed")


def test_rollback_prints_diagnostics_first(site: Site) -> None:
    site.set_deployed("one", "two")
    site.run("rollback")
    assert site.calls.index("kubectl describe pods") < site.calls.index("helm rollback task-api 1")


def test_rollback_to_a_given_revision_lifts_its_hold(site: Site) -> None:
    site.set_deployed("one", "two", "three")
    assert site.run("rollback", "1").returncode == 0
    assert site.state["serves"] == "one"
    assert site.run("rollback", "3").returncode == 0
    assert site.state["serves"] == "three"
    assert list(site.state["held"]) == ["one"]


@pytest.mark.parametrize(("number", "choice"), [("2", "1, 3"), ("9", "1, 3")])
def test_rollback_to_a_revision_that_never_ran_is_rejected_with_the_available_ones(
    site: Site, number: str, choice: str
) -> None:
    site.set_deployed("one")
    site.deploy("bad-2")
    done = site.run("rollback", number)
    assert done.returncode == 2
    assert f"Available: {choice} (make history)" in done.stderr


def test_rollback_after_a_cancelled_deploy_returns_to_what_ran_before(site: Site) -> None:
    site.set_deployed("one")
    process = site.begin_slow_upgrade()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert site.run("rollback").returncode == 0
    assert site.statuses[-1] == ("one", "deployed")
    assert list(site.state["held"]) == ["slow-2"]


def test_rollback_of_a_failed_redeploy_returns_to_the_commits_first_revision(site: Site) -> None:
    revisions = [revision(1, "one", "deployed", age=60), revision(2, "one", "failed", age=50)]
    site.write(revisions=revisions, held=None, serves="one", unconfirmed={})
    done = site.run("rollback")
    assert done.returncode == 0, done.stderr
    assert site.statuses[-1] == ("one", "deployed")
    assert "helm rollback task-api 1 " in site.calls


def test_rollback_with_a_single_image_is_rejected(site: Site) -> None:
    assert "no release task-api in this namespace" in site.run("rollback").stderr
    site.deploy("one")
    done = site.run("rollback")
    assert done.returncode == 2
    assert "no other revision that ran" in done.stderr


def test_history_shows_images_and_holds(site: Site) -> None:
    site.set_deployed("one", "two")
    site.run("rollback")
    lines = site.run("history").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["3", "2", "1", "held"]
    assert "two (held)" in lines[1]


def test_smoke_verifies_the_deployed_or_the_given_commit(site: Site) -> None:
    site.set_deployed("zero", "zero", "one")
    assert "2 pods healthy, all at commit one" in site.run("smoke").stdout
    assert "2 pods healthy, all at commit one" in site.run("smoke", "one").stdout
    done = site.run("smoke", "zero", SMOKE_TIMEOUT="1s")
    assert done.returncode == 1
    assert "Failed: Verifying commit zero failed after 1 s" in site.summary


def test_smoke_without_a_release_is_rejected(site: Site) -> None:
    site.write(revisions=[revision(1, "one", "failed", age=9)], held=None, serves="one")
    done = site.run("smoke")
    assert done.returncode == 2
    assert "There is no deployed release task-api in this namespace." in done.stderr


def test_commit_that_is_not_held_cannot_be_released(site: Site) -> None:
    site.set_deployed("one", "two")
    site.run("rollback")
    done = site.run("unhold", "tow")
    assert done.returncode == 2
    assert "tow is not held. See: make history" in done.stderr
    assert "Refused: tow is not held." in site.summary
    assert list(site.state["held"]) == ["two"]


@pytest.mark.parametrize("missing", ["helm", "kubectl"])
def test_missing_tool_is_reported_before_anything_is_run(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setattr(shutil, "which", lambda tool: None if tool == missing else f"/bin/{tool}")
    with pytest.raises(Refused, match=f"{missing} is required but was not found"):
        run_command(Settings.from_env("task-api", ""), ["history"])


def test_unknown_command_prints_usage(site: Site) -> None:
    done = site.run("destroy")
    assert done.returncode == 2
    assert "scripts/deploy.sh rollback [REVISION]" in done.stderr
