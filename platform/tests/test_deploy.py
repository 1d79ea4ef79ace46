"""scripts/deploy.sh with a helm and a kubectl that keep a release in a file (fake_cluster.py), and real signals."""

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
from scripts.deploy.kubeconfig import kubeconfig
from scripts.deploy.processes import Failed, run
from scripts.deploy.settings import Settings


class Site:
    """A cluster in a file, and the script with everything set to deploy there."""

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
        """As a whole: a helm or kubectl may be reading it."""
        made = self.file.with_suffix(".new")
        made.write_text(json.dumps(state))
        made.replace(self.file)

    @property
    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.file.read_text())
        return found

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

    def ran(self, *tags: str) -> None:
        """Leaves what one deploy after the other leaves that went well."""
        revisions = [revision(number, tag, "superseded", age=60) for number, tag in enumerate(tags, 1)]
        revisions[-1]["status"] = "deployed"
        self.write(revisions=revisions, held=None, serves=tags[-1], unconfirmed={})

    def asks_git_in(self, repository: Path) -> None:
        """By a git of its own: the script takes no GIT_DIR from outside."""
        git = self.folder / "bin/git"
        git.write_text(f'#!/bin/sh\nexec "{shutil.which("git")}" --git-dir="{repository}/.git" "$@"\n')
        git.chmod(0o755)

    def kill(self, process: subprocess.Popen[str]) -> None:
        """The script and its helm, as when a runner is lost; and a minute passes for whoever waits for its lock."""
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=10)
        self.set_lease(self.lease | {"leaseDurationSeconds": 1})

    @property
    def lease(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.file.with_suffix(".leases") / "task-api-deploy").read_text())["spec"]
        return found

    def set_lease(self, spec: dict[str, Any], version: str = "100", **annotations: str) -> None:
        folder = self.file.with_suffix(".leases")
        folder.mkdir(exist_ok=True)
        metadata = {"name": "task-api-deploy", "resourceVersion": version, "annotations": annotations}
        lease = {"metadata": metadata, "spec": spec}
        made = folder / "new"
        made.write_text(json.dumps(lease))
        made.replace(folder / "task-api-deploy")

    def begin_slow_upgrade(self) -> subprocess.Popen[str]:
        process = self.start("deploy", IMAGE_TAG="slow-2")
        until(lambda: ("slow-2", "pending-upgrade") in self.statuses, "the upgrade is pending")
        return process


def until(look: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not look():
        assert time.monotonic() < deadline, f"not within 30 s: {what}"
        time.sleep(0.05)


def read_until(process: subprocess.Popen[str], words: str) -> None:
    """Reads what it prints up to the line with these words."""
    assert process.stdout is not None
    for line in process.stdout:
        if words in line:
            return
    pytest.fail(f"it ended without a line with {words!r}")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    with fake_cluster(site.file, tmp_path / "bin"):
        yield site


# --- what it deploys ------------------------------------------------------------------


def test_a_deploy_installs_then_upgrades_and_every_pod_says_the_commit(site: Site) -> None:
    digest = "sha256:" + "0" * 64
    first = site.deploy("one", IMAGE_DIGEST=digest)
    assert first.returncode == 0, first.stderr
    assert "2 pods healthy, all at commit one" in first.stdout
    assert f"--set-string image.tag=one --set-string image.digest={digest}" in site.calls
    assert "--history-max 10 --wait --timeout 120s" in site.calls
    assert site.deploy("two").returncode == 0
    assert site.statuses == [("one", "superseded"), ("two", "deployed")]
    assert "Deployed docker.io/you/task-api:two. Previously: one, revision 1." in site.summary


def test_that_is_what_the_other_tests_begin_with(site: Site) -> None:
    def left() -> dict[str, Any]:
        state = site.state
        for kept in state["revisions"]:
            del kept["updated"], kept["description"]
        return state

    site.deploy("one")
    site.deploy("two")
    by_deploys = left()
    site.ran("one", "two")
    assert left() == by_deploys


def digests(folder: Path, **services: str) -> str:
    """A folder as the pipeline's build jobs leave it."""
    (folder / "digests").mkdir()
    for name, letter in services.items():
        (folder / "digests" / name).write_text(f"sha256:{letter * 64}\n")
    return str(folder / "digests")


def test_every_service_that_was_pushed_is_deployed_by_its_own_digest(site: Site, tmp_path: Path) -> None:
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


def test_after_a_deploy_that_failed_no_other_service_is_deployed(site: Site, tmp_path: Path) -> None:
    folder = digests(tmp_path, parcels="2", orders="1")
    done = site.deploy("bad", IMAGE_DIGESTS=folder, IMAGE_REPOSITORY="docker.io/you/{0}")
    assert done.returncode == 1
    assert "helm upgrade --install orders" in site.calls
    assert "parcels" not in site.calls


def test_one_repository_for_two_services_is_refused_and_so_is_a_folder_without_any(site: Site, tmp_path: Path) -> None:
    done = site.deploy("one", IMAGE_DIGESTS=digests(tmp_path, orders="1", parcels="2"))
    assert done.returncode == 2
    assert "one repository for 2 services. Use {0} as placeholder for the name" in done.stderr
    (tmp_path / "none").mkdir()
    done = site.deploy("one", IMAGE_DIGESTS=str(tmp_path / "none"))
    assert done.returncode == 2
    assert "Was an image pushed?" in done.stderr
    assert not site.state["revisions"]


@pytest.mark.parametrize(
    ("environment", "said"),
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
        # A secret that is not there is empty on GitHub. KUBECONFIG of the machine is not asked in its place.
        ({"IMAGE_TAG": "one", "KUBE_CONFIG": ""}, "KUBE_CONFIG is empty"),
        ({"IMAGE_TAG": "one", "KUBE_CONFIG": "IAo="}, "KUBE_CONFIG is empty"),
        ({"IMAGE_TAG": "one", "HELM_KUBECONTEXT": "other"}, "HELM_KUBECONTEXT is set"),
        ({"IMAGE_TAG": "one", "HELM_NAMESPACE": "other"}, "HELM_NAMESPACE is set"),
        ({"IMAGE_TAG": "one", "HELM_DRIVER": "configmap"}, "HELM_DRIVER is set"),
        ({"IMAGE_TAG": "one", "DEPLOY_TIMEOUT": "soon"}, "DEPLOY_TIMEOUT=soon is not a duration"),
    ],
)
def test_what_cannot_be_deployed_is_refused_in_a_sentence(site: Site, environment: dict[str, str], said: str) -> None:
    done = site.run("deploy", **environment)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert said in done.stderr
    # No tool was asked for anything but for what the kubeconfig says.
    assert set(site.calls.splitlines()) <= {"kubectl config view --minify --output json"}


@pytest.mark.parametrize(
    ("server", "said"), [("", "current-context must exist"), (None, "the cluster of its current context has no server")]
)
def test_a_kubeconfig_that_leads_nowhere_is_refused_before_the_cluster_is_asked(
    site: Site, server: str | None, said: str
) -> None:
    site.write(**site.state, server=server)
    done = site.deploy("one", KUBERNETES_SERVICE_HOST="10.0.0.1", KUBERNETES_SERVICE_PORT="443")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert said in done.stderr
    assert [call.split()[:3] for call in site.calls.splitlines()] == [["kubectl", "config", "view"]]


def test_no_tool_can_take_the_cluster_of_the_pod_that_it_runs_in(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    of_a_pod = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443", "KUBERC": "on"}
    for name, value in {**site.environment, **of_a_pod}.items():
        monkeypatch.setenv(name, value)
    with kubeconfig():
        assert {name: os.environ.get(name) for name in of_a_pod} == {**dict.fromkeys(of_a_pod), "KUBERC": "off"}


def test_a_command_that_does_not_end_is_reported_every_ten_seconds_and_given_up(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As kubectl with an API server that accepts and never answers: e2e/test_deploy.py has one."""
    with pytest.raises(Failed, match=r"sleep 600 timed out after 10 s\. Does the API server respond\?"):
        run("sleep", "600", timeout=10.2)
    assert capsys.readouterr().out == "sleep 600: still running after 10 s\n"


def test_the_kubeconfig_is_gone_when_the_deploy_ends(site: Site) -> None:
    kubeconfig = base64.b64encode(b"apiVersion: v1\nkind: Config\n").decode()
    # As a shell wraps it: base64 breaks lines.
    wrapped = "\n".join(re.findall(".{1,20}", kubeconfig))
    temporary = site.folder / "tmp"
    temporary.mkdir()
    assert site.deploy("one", KUBE_CONFIG=wrapped, KUBECONFIG="", TMPDIR=str(temporary)).returncode == 0
    assert list(temporary.iterdir()) == []


# --- what fails -----------------------------------------------------------------------


def test_a_bad_image_goes_back_by_itself_and_says_why_before(site: Site) -> None:
    site.ran("one")
    done = site.deploy("bad-2")
    assert done.returncode == 1
    assert site.statuses == [("one", "superseded"), ("bad-2", "failed"), ("one", "deployed")]
    assert site.calls.index("kubectl describe pods") < site.calls.index("helm rollback task-api 1")
    assert "all at commit one" in done.stdout
    assert "Helm failed to deploy bad-2 within 120 s." in done.stderr
    assert "Rolled back to revision 1: one serves" in site.summary
    # Nobody chose to leave it: after a flake the same run can be tried again.
    assert site.state["held"] is None


def test_a_first_deploy_that_fails_leaves_nothing(site: Site) -> None:
    done = site.deploy("bad-1")
    assert done.returncode == 1
    assert "no revision to roll back to" in done.stderr
    assert "helm uninstall task-api --wait --timeout 120s" in site.calls
    assert site.statuses == []
    assert site.deploy("one").returncode == 0


def test_a_first_deploy_of_values_that_cannot_work_removes_nothing(site: Site) -> None:
    done = site.deploy("wrong-1")
    assert done.returncode == 2
    assert "Helm rejected the release before creating anything" in done.stderr
    assert "uninstall" not in site.calls + done.stderr
    assert site.state["unconfirmed"] == {}
    assert site.deploy("one").returncode == 0


def test_pods_that_say_another_commit_fail_the_deploy(site: Site) -> None:
    site.ran("one")
    done = site.deploy("liar-2", SMOKE_TIMEOUT="2s")
    assert done.returncode == 1
    assert "Verifying commit liar-2 failed after 2 s" in done.stderr
    assert "reports commit something-else" in done.stderr
    assert site.statuses == [("one", "superseded"), ("liar-2", "superseded"), ("one", "deployed")]


@pytest.mark.parametrize(
    ("tag", "said"), [("list-2", "TypeError"), ("cut-2", "IncompleteRead"), ("noise-2", "BadStatusLine")]
)
def test_pods_that_answer_something_else_fail_the_deploy_like_any_other(site: Site, tag: str, said: str) -> None:
    site.ran("one")
    done = site.deploy(tag, SMOKE_TIMEOUT="1s")
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert f"/health: {said}" in done.stderr
    assert site.statuses[-1] == ("one", "deployed")


def test_the_public_address_has_to_say_the_commit_too(site: Site, public: str) -> None:
    site.ran("one")
    done = site.deploy("two", PRODUCTION_URL=public, SMOKE_TIMEOUT="1s")
    assert f"{public}/health reports commit one" in done.stderr
    assert site.statuses == [("one", "superseded"), ("two", "superseded"), ("one", "deployed")]
    assert site.run("smoke", PRODUCTION_URL=f"{public}/").returncode == 0


@pytest.fixture
def public() -> Iterator[str]:
    """A server that says it is `one`, whatever is deployed."""

    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/health":
                self.send_error(404)
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"revision": "one"}')

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Health) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_rollback_that_fails_fails_the_deploy_with_what_to_do(site: Site) -> None:
    site.ran("one")
    site.write(**site.state, rollback="fails")
    done = site.deploy("bad-2")
    assert done.returncode == 1
    assert "The rollback to revision 1 failed, see above. Next: make history, make deploy-settle" in done.stderr
    assert "serves" not in done.stderr
    assert "helm rollback task-api 1 --wait --timeout 120s --history-max 10" in site.calls


def test_diagnostics_fold_on_github(site: Site) -> None:
    site.ran("one")
    done = site.deploy("bad-2", GITHUB_ACTIONS="true")
    assert done.stdout.count("::group::") == done.stdout.count("::endgroup::") == 5


def test_a_question_without_an_answer_hides_none_of_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def hang(*_: str, **__: object) -> None:
        raise Failed("no answer within 15 s")

    monkeypatch.setattr(cluster, "run", hang)
    cluster.diagnose(Settings.from_env("task-api", ""))
    assert capsys.readouterr().out.count("no answer within 15 s") == 5


# --- what ends before its time --------------------------------------------------------


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_cancelled_deploy_leaves_the_release_failed_and_not_pending(site: Site, signum: signal.Signals) -> None:
    site.ran("one")
    process = site.begin_slow_upgrade()
    process.send_signal(signum)  # to the script alone, as the runner does
    _, errors = process.communicate(timeout=7)  # before the runner's next, harder signal
    assert process.returncode == 128 + signum
    assert "Cancelled" in errors
    assert "Cancelled" in site.summary
    assert site.statuses == [("one", "deployed"), ("slow-2", "failed")]
    assert site.deploy("three").returncode == 0


def test_the_next_deploy_recovers_from_a_kill(site: Site) -> None:
    site.ran("one")
    process = site.begin_slow_upgrade()
    site.kill(process)
    assert site.statuses[-1] == ("slow-2", "pending-upgrade")
    done = site.deploy("three", SETTLE_AGE="10s")
    assert done.returncode == 0, done.stderr
    assert "has expired: taking over" in done.stdout
    assert "another deploy may be running" in done.stdout
    assert "Revision 2 is stuck in pending-upgrade: rolling back to revision 1" in done.stdout
    assert [status for _, status in site.statuses] == ["superseded", "pending-upgrade", "superseded", "deployed"]


def test_a_helm_that_goes_on_without_its_script_is_waited_for(site: Site) -> None:
    site.ran("one")
    process = site.begin_slow_upgrade()
    process.kill()  # the script alone
    process.wait(timeout=10)
    site.set_lease(site.lease | {"leaseDurationSeconds": 1})
    with site.start("deploy", IMAGE_TAG="three", SETTLE_AGE="60s") as following:
        read_until(following, "another deploy may be running")
        os.killpg(process.pid, signal.SIGTERM)  # what is left of the group: helm, which ends by itself
        output, errors = following.communicate(timeout=30)
        assert following.returncode == 0, errors
        assert "is stuck" not in output
    process.communicate(timeout=10)
    assert site.statuses == [("one", "superseded"), ("slow-2", "failed"), ("three", "deployed")]


def test_a_first_install_that_was_killed_is_removed(site: Site) -> None:
    process = site.start("deploy", IMAGE_TAG="slow-1")
    until(lambda: ("slow-1", "pending-install") in site.statuses, "the install is pending")
    site.kill(process)
    done = site.run("settle")
    assert done.returncode == 0, done.stderr
    assert site.statuses == []


def test_a_cancel_is_heard_while_a_pod_does_not_answer(site: Site) -> None:
    site.ran("one")
    site.write(**site.state, forward="hangs")
    with site.start("smoke") as process:
        until(lambda: site.calls.endswith("--address 127.0.0.1\n"), "a pod is asked")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=5) == 130
        process.communicate()


@pytest.mark.parametrize("words", [(), ("1",)])
def test_a_killed_rollback_is_gone_on_with_and_not_undone(site: Site, words: tuple[str, ...]) -> None:
    site.ran("one", "two")
    site.write(**site.state, rollback="slow")
    process = site.start("rollback", *words)
    until(lambda: ("one", "pending-rollback") in site.statuses, "the rollback is pending")
    process.send_signal(signal.SIGTERM)  # Helm's rollback hears none: it ends there and then
    process.communicate(timeout=10)
    assert process.returncode == 143
    assert site.statuses[-1] == ("one", "pending-rollback")
    site.write(**site.state | {"rollback": ""})
    done = site.run("rollback", *words) if words else site.run("settle")
    assert done.returncode == 0, done.stderr
    assert site.state["serves"] == "one"
    assert list(site.state["held"]) == ["two"]
    # Straight there: no way back to something else before.
    assert re.findall("helm rollback task-api .", site.calls) == ["helm rollback task-api 1"] * 2


def test_a_way_back_that_was_killed_does_not_end_at_what_it_left(site: Site) -> None:
    site.ran("one")
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


def test_what_is_held_is_better_than_nothing(site: Site) -> None:
    """A release that runs is not removed for being held."""
    revisions = [revision(1, "one", "deployed", age=99), revision(2, "two", "pending-upgrade", age=60)]
    site.write(revisions=revisions, held={"one": "rolled back"}, serves="one")
    assert "Rolled back to revision 1" in site.run("settle").stdout
    assert site.statuses[-1] == ("one", "deployed")


@pytest.mark.parametrize(("age", "settled"), [(140, False), (160, True)])
def test_by_default_a_pending_revision_is_left_alone_for_longer_than_a_deploy_takes(
    site: Site, age: float, settled: bool
) -> None:
    del site.environment["SETTLE_AGE"]
    pending = revision(2, "two", "pending-upgrade", age=age)
    site.write(revisions=[revision(1, "one", "deployed", age=200), pending], held=None, serves="one")
    with site.start("settle") as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.terminate()
        process.communicate(timeout=30)
    assert ("After 150 s it counts as stale" in first) is not settled


def test_settling_waits_with_a_line_every_ten_seconds_and_can_be_cancelled(site: Site) -> None:
    pending = revision(2, "two", "pending-rollback", age=0)
    site.write(revisions=[revision(1, "one", "deployed", age=60), pending], held=None, serves="one")
    with site.start("settle", SETTLE_AGE="600s") as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(2)]
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=5) == 130
        process.communicate()
    first, second = (int(re.findall(r"Revision 2 has been pending-rollback for (\d+) s", line)[0]) for line in lines)
    assert second >= first + 10


def revision(number: int, tag: str, status: str, *, age: float) -> dict[str, Any]:
    updated = (datetime.now(UTC) - timedelta(seconds=age)).isoformat()
    return {"revision": number, "updated": updated, "status": status, "description": "", "tag": tag}


# --- who overtakes whom ---------------------------------------------------------------


def test_an_older_commit_does_not_overtake_a_newer_one(site: Site, history_of_two: Path) -> None:
    older, newer = (git(history_of_two, "rev-parse", reference) for reference in ("HEAD~1", "HEAD"))
    site.asks_git_in(history_of_two)
    assert site.deploy(newer).returncode == 0
    done = site.deploy(older)
    assert done.returncode == 0
    assert f"Nothing deployed: {newer} is newer than {older} and was deployed before (deployed)" in done.stdout
    assert site.statuses == [(newer, "deployed")]
    assert site.deploy(newer).returncode == 0  # the same again is no step back
    assert len(site.statuses) == 2


@pytest.mark.parametrize("went_back", [False, True])
def test_not_even_where_the_newer_one_did_not_stay(site: Site, history_of_two: Path, went_back: bool) -> None:
    older, newer = (git(history_of_two, "rev-parse", reference) for reference in ("HEAD~1", "HEAD"))
    site.asks_git_in(history_of_two)
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
def history_of_two(tmp_path: Path) -> Path:
    repository = tmp_path / "repository"
    repository.mkdir()
    git(repository, "init", "--quiet")
    for message in ("one", "two"):
        git(repository, "commit", "--quiet", "--allow-empty", "--message", message)
    return repository


# --- two at once ----------------------------------------------------------------------


def test_the_second_of_two_deploys_waits_for_the_first_and_says_for_whom(site: Site) -> None:
    site.ran("one")
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


def test_who_waited_for_too_long_changes_nothing_and_says_who_is_deploying(site: Site) -> None:
    site.ran("one")
    first = site.begin_slow_upgrade()
    before = site.state
    done = site.deploy("three", LOCK_TIMEOUT="2s")
    assert done.returncode == 2
    assert re.search(r"deploy of slow-2 by .* still holds the lock after 2 s. Nothing was changed.", done.stderr)
    assert site.state == before
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=30)


def test_a_run_on_github_is_named_by_its_address(site: Site) -> None:
    site.ran("one")
    site.set_lease({"holderIdentity": "deploy of x by https://github.example/you/kit/actions/runs/7 (attempt 2) [1]"})
    said = site.deploy("two", LOCK_TIMEOUT="1s").stderr
    assert "https://github.example/you/kit/actions/runs/7 (attempt 2)" in said
    site.set_lease({})
    on_github = {"GITHUB_RUN_ID": "8", "GITHUB_SERVER_URL": "https://github.example", "GITHUB_REPOSITORY": "you/kit"}
    with site.start("deploy", IMAGE_TAG="slow-2", **on_github) as process:
        until(lambda: ("slow-2", "pending-upgrade") in site.statuses, "the upgrade is pending")
        assert site.lease["holderIdentity"].startswith(
            "deploy of slow-2 by https://github.example/you/kit/actions/runs/8 (attempt 1) ["
        )
        process.send_signal(signal.SIGTERM)


def test_a_lock_is_renewed_while_helm_is_at_work_and_not_taken_over(site: Site) -> None:
    site.ran("one")
    with site.start("deploy", IMAGE_TAG="slow-2", LEASE_DURATION="30s") as process:
        until(lambda: ("slow-2", "pending-upgrade") in site.statuses, "the upgrade is pending")
        begun = site.lease["renewTime"]
        until(lambda: site.lease["renewTime"] > begun, "the Lease is renewed")
        assert site.lease["acquireTime"] <= begun
        process.send_signal(signal.SIGTERM)


def test_a_deployer_that_lost_its_lock_stops_and_changes_nothing_more(site: Site) -> None:
    site.ran("one")
    with site.start("deploy", IMAGE_TAG="slow-2", LEASE_DURATION="6s") as process:
        until(lambda: ("slow-2", "pending-upgrade") in site.statuses, "the upgrade is pending")
        # Somebody took it over, as when this machine slept for minutes.
        site.set_lease({"holderIdentity": "rollback by another"}, version="999")
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "rollback by another took over the lock, so this deployer stopped. To recover the release" in errors
    assert site.statuses == [
        ("one", "deployed"),
        ("slow-2", "failed"),
    ]  # its Helm was stopped, and it went back nowhere
    assert "helm rollback" not in site.calls
    assert site.lease == {"holderIdentity": "rollback by another"}


def test_a_role_without_the_lock_is_refused_with_the_command_that_grants_it(site: Site) -> None:
    site.write(**site.state, api="forbids")
    done = site.deploy("one")
    assert done.returncode == 2
    assert "kubectl --namespace NAMESPACE apply --filename platform/deployer/role.yaml" in done.stderr
    assert site.statuses == []


def test_a_helm_that_somebody_calls_by_hand_is_not_rolled_back(site: Site) -> None:
    """It began after the deploy had looked, so Helm refuses the deploy: that is no failure of what was deployed."""
    site.ran("one")
    site.write(**site.state, intruder="theirs")
    done = site.deploy("two")
    assert done.returncode == 2
    assert "Helm is running outside of this script: revision 2 of theirs is pending-upgrade." in done.stderr
    assert "helm rollback" not in site.calls
    assert site.statuses == [("one", "deployed"), ("theirs", "pending-upgrade")]


def waiting_rollback(site: Site, *words: str) -> subprocess.Popen[str]:
    """One that has seen slow-2 being deployed, and waits for that deploy to end."""
    process = site.start("rollback", *words, SETTLE_AGE="60s")
    read_until(process, "Waiting for deploy of slow-2 by ")
    return process


def rollback_that_waited(
    site: Site, *words: str, follows: list[dict[str, Any]], serves: str
) -> subprocess.CompletedProcess[str]:
    """A rollback from slow-2, whose deploy is killed while that waits for it: slow-2 has failed, and these follow."""
    first = site.begin_slow_upgrade()
    with waiting_rollback(site, *words) as process:
        os.killpg(first.pid, signal.SIGKILL)
        first.communicate(timeout=10)
        *ran, slow = site.state["revisions"]
        ended = [*ran, slow | {"status": "failed"}, *follows]
        site.write(**site.state | {"revisions": ended, "serves": serves})
        site.set_lease({})
        output, errors = process.communicate(timeout=60)
    return subprocess.CompletedProcess(words, process.returncode, output, errors)


def test_a_rollback_asks_a_deploy_to_stop_and_leaves_its_commit(site: Site) -> None:
    site.ran("zero", "one")
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
    # What interrupts it is not left behind for the next deploy.
    assert site.deploy("three").returncode == 0


def test_a_rollback_that_waits_comes_before_deploys_that_wait(site: Site) -> None:
    site.ran("one", "two")
    asked = {"task-platform/stop-for": "rollback from two by another [1]"}
    site.set_lease({"leaseDurationSeconds": 60}, **asked)
    refused = site.deploy("three", LOCK_TIMEOUT="1s")
    assert refused.returncode == 2
    assert "rollback from two by another [1] still holds the lock after 1 s" in refused.stderr
    assert site.run("rollback").returncode == 0
    assert site.deploy("three").returncode == 0
    # One that was killed while it waited is waited for no longer than a holder that was.
    site.set_lease({"leaseDurationSeconds": 1}, **asked)
    assert site.deploy("four").returncode == 0


@pytest.mark.parametrize("holder", ["rollback from two by another [1]", "settle by another [1]"])
def test_a_rollback_asks_nobody_else_to_stop(site: Site, holder: str) -> None:
    site.ran("one", "two")
    site.set_lease({"holderIdentity": holder, "leaseDurationSeconds": 60})
    done = site.run("rollback", LOCK_TIMEOUT="1s")
    assert done.returncode == 2
    assert "Requesting" not in done.stdout
    assert site.lease == {"holderIdentity": holder, "leaseDurationSeconds": 60}


def test_a_rollback_beside_a_deploy_that_goes_back_by_itself_goes_no_further(site: Site) -> None:
    """Whoever asked wanted to leave slow-2. Its deploy has left it already, so `one` stays and slow-2 is held."""
    site.ran("zero", "one")
    done = rollback_that_waited(site, follows=[revision(4, "one", "deployed", age=0)], serves="one")
    assert done.returncode == 0, done.stderr
    assert "Nothing to roll back: slow-2 was rolled back while this waited, and one serves." in done.stdout
    assert list(site.state["held"]) == ["slow-2"]
    assert site.state["serves"] == "one"


def test_a_rollback_that_finds_a_way_back_that_did_not_end_goes_it(site: Site) -> None:
    site.ran("zero", "one")
    done = rollback_that_waited(site, follows=[revision(4, "one", "failed", age=0)], serves="slow-2")
    assert done.returncode == 0, done.stderr
    assert "one serves" in done.stdout
    assert site.state["serves"] == "one"
    assert list(site.state["held"]) == ["slow-2"]


@pytest.mark.parametrize("words", [(), ("1",)])
def test_a_rollback_that_finds_another_commit_than_it_was_asked_to_leave_is_refused(
    site: Site, words: tuple[str, ...]
) -> None:
    site.ran("one")
    done = rollback_that_waited(site, *words, follows=[revision(3, "three", "deployed", age=0)], serves="three")
    assert done.returncode == 2
    assert "While this waited for the lock, slow-2 was followed by three. Nothing was changed." in done.stderr
    assert site.state["held"] is None
    assert site.state["serves"] == "three"


def test_a_rollback_that_is_refused_anyway_stops_no_deploy(site: Site) -> None:
    site.ran("one")
    with site.begin_slow_upgrade() as first:
        done = site.run("rollback", "99")
        assert done.returncode == 2
        assert "Revision 99 never ran" in done.stderr
        assert site.statuses[-1] == ("slow-2", "pending-upgrade")
        assert "Requesting" not in done.stdout
        first.send_signal(signal.SIGTERM)


def test_a_lock_that_a_rollback_has_just_asked_for_is_released_all_the_same(site: Site) -> None:
    site.ran("one")
    with site.begin_slow_upgrade() as first:
        site.set_lease(site.lease, version="999", **{"task-platform/stop-for": "rollback by another"})
        first.send_signal(signal.SIGTERM)
        first.communicate(timeout=30)
    assert "holderIdentity" not in site.lease


# --- what an interrupted deploy leaves -------------------------------------------------


def test_settle_goes_back_from_a_deploy_that_was_cancelled(site: Site) -> None:
    site.ran("one")
    process = site.begin_slow_upgrade()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    done = site.run("settle")
    assert done.returncode == 0, done.stderr
    assert "Revision 2 (slow-2) is unverified (status: failed). Rolled back to revision 1: one serves." in site.summary
    assert site.statuses[-1] == ("one", "deployed")
    assert "Revision 3 (one) is deployed and verified: nothing to recover" in site.run("settle").stdout


def test_settle_verifies_what_was_deployed_when_nobody_could_ask_any_more(site: Site) -> None:
    site.ran("one", "two")
    site.write(**site.state | {"unconfirmed": {"2": "two"}})
    done = site.run("settle")
    assert done.returncode == 0, done.stderr
    assert "Revision 2 (two) was deployed, but not verified. Now it is: its pods serve the commit." in site.summary
    assert site.state["unconfirmed"] == {}
    assert site.statuses == [("one", "superseded"), ("two", "deployed")]


def test_settle_goes_back_from_what_does_not_say_its_commit(site: Site) -> None:
    site.ran("one", "two")
    site.write(**site.state | {"unconfirmed": {"2": "two"}, "serves": "something-else"})
    done = site.run("settle", SMOKE_TIMEOUT="1s")
    assert done.returncode == 0, done.stderr
    assert "Verifying commit two failed after 1 s" in done.stderr
    assert "Revision 2 (two) is unverified (status: deployed). Rolled back to revision 1" in site.summary


def test_settle_of_a_first_deploy_that_was_cancelled_removes_it(site: Site) -> None:
    process = site.start("deploy", IMAGE_TAG="slow-1")
    until(lambda: ("slow-1", "pending-install") in site.statuses, "the install is pending")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert site.run("settle").returncode == 0
    assert site.statuses == []
    assert "There is no release task-api in this namespace: nothing to recover." in site.run("settle").stdout


def test_settle_goes_on_with_a_rollback_that_ended_after_it_had_held_the_commit(site: Site) -> None:
    site.ran("one", "two")
    site.write(**site.state | {"held": {"two": "rolled back"}})
    done = site.run("settle")
    assert done.returncode == 0, done.stderr
    assert "Revision 2 (two) is held. Rolled back to revision 1: one serves." in site.summary


def test_a_release_whose_good_revisions_are_not_kept_any_more_is_not_removed(site: Site) -> None:
    failed = [revision(number, "bad", "failed", age=99) for number in (11, 12)]
    site.write(revisions=failed, held=None, serves="one")
    for words in (("settle",), ("deploy",)):
        done = site.run(*words, IMAGE_TAG="bad-13")
        assert done.returncode == 1
        assert "older ones were pruned, so the release was not uninstalled" in done.stderr
    assert "helm uninstall" not in site.calls


def test_what_the_next_deploy_goes_back_to_is_not_taken_for_verified(site: Site) -> None:
    """The deploy that went back was ended before it could deploy and ask anything itself."""
    revisions = [revision(1, "one", "deployed", age=99), revision(2, "two", "pending-upgrade", age=60)]
    site.write(revisions=revisions, held={"three": "rolled back"}, serves="one")
    assert site.deploy("three").returncode == 2  # held, which it finds out afterwards
    assert site.state["unconfirmed"] == {"3": "one"}
    assert "Revision 3 (one) was deployed, but not verified. Now it is" in site.run("settle").stdout


def test_a_clock_that_is_ahead_holds_nobody_up(site: Site) -> None:
    revisions = [revision(1, "one", "deployed", age=99), revision(2, "two", "pending-upgrade", age=-3600)]
    site.write(revisions=revisions, held=None, serves="one")
    assert site.run("settle").returncode == 0
    assert site.statuses[-1] == ("one", "deployed")


# --- a soak time ----------------------------------------------------------------------


def test_a_deploy_asks_on_for_the_soak_time(site: Site) -> None:
    done = site.deploy("one", SOAK_TIME="2s")
    assert done.returncode == 0, done.stderr
    assert "Soaking for 2 s" in done.stdout
    assert site.state["unconfirmed"] == {}


def test_a_container_that_restarts_within_the_soak_time_fails_the_deploy(site: Site) -> None:
    site.ran("one")
    with site.start("deploy", IMAGE_TAG="two", SOAK_TIME="60s") as process:
        read_until(process, "Soaking")
        assert site.state["unconfirmed"] == {"2": "two"}
        site.write(**site.state | {"restarts": 1})
        _, errors = process.communicate(timeout=90)
    assert process.returncode == 1
    assert re.search(r"A container of task-api-1 restarted within the first \d+ s of soak time.", errors)
    assert site.statuses == [("one", "superseded"), ("two", "superseded"), ("one", "deployed")]


# --- Helm, of each version ------------------------------------------------------------


@pytest.mark.parametrize(("helm", "flags"), [("v3.12.3", []), ("v3.22.0", []), ("v4.3.1", ["--server-side=false"])])
def test_each_helm_patches_on_the_clients_side(site: Site, helm: str, flags: list[str]) -> None:
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


def test_fields_that_others_changed_are_said_before_the_release_takes_them_back(site: Site) -> None:
    site.ran("one")
    site.write(**site.state, conflicts=BY_HAND)
    done = site.deploy("two")
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("reverted: ")] == [
        'reverted: Deployment task-api .spec.template.spec.containers[name="api"].image (kubectl-set)',
        "reverted: ServiceMonitor task-api .spec.jobLabel (kubectl-edit)",
    ]
    applied = [call for call in site.calls.splitlines() if call.startswith("kubectl apply")]
    # Of the two Helm would leave the custom resource as it is.
    assert [call.rpartition(" ")[2] for call in applied] == ["--dry-run=server"] * 2 + ["--force-conflicts"]
    assert site.calls.index(applied[-1]) < site.calls.index("helm upgrade", site.calls.index(applied[0]))


def test_a_description_of_many_lines_is_one_line_of_the_history(site: Site) -> None:
    """As that of Helm 4 after a conflict."""
    conflict = 'Upgrade "task-api" failed: conflict occurred while applying\n- .spec.replicas\n\tand another'
    site.write(revisions=[{**revision(1, "one", "failed", age=5), "description": conflict}], held=None, serves="one")
    assert [line.split("  ")[-1] for line in site.run("history").stdout.splitlines()] == [" ".join(conflict.split())]


def test_a_failed_revision_that_helm_calls_superseded_never_ran(site: Site) -> None:
    """As it does when a rollback is refused by the API server."""
    site.ran("one")
    site.write(**site.state, rollback="fails")
    site.deploy("bad-2")
    assert ("bad-2", "superseded") in site.statuses
    site.write(**site.state | {"rollback": ""})
    done = site.run("rollback", "2")
    assert done.returncode == 2
    assert "Revision 2 never ran" in done.stderr
    assert "all at commit one" in site.run("smoke").stdout


# --- going back -----------------------------------------------------------------------


def test_a_rollback_returns_to_the_last_other_image_and_holds_what_it_left(site: Site) -> None:
    site.ran("one", "two", "two")
    done = site.run("rollback")
    assert done.returncode == 0, done.stderr
    assert site.statuses[-1] == ("one", "deployed")
    assert list(site.state["held"]) == ["two"]
    assert "two is held until: make unhold COMMIT=two" in site.summary

    refused = site.deploy("two")
    assert refused.returncode == 2
    assert "two is held: rolled back on " in refused.stderr
    assert "make unhold COMMIT=two" in refused.stderr
    assert site.deploy("three").returncode == 0  # another commit is free

    assert site.run("unhold", "two").returncode == 0
    assert site.deploy("two").returncode == 0


def test_a_second_rollback_goes_further_back_and_never_to_what_is_held(site: Site) -> None:
    site.ran("one", "two", "three")
    assert [site.run("rollback").returncode for _ in range(3)] == [0, 0, 2]
    assert site.statuses[-1] == ("one", "deployed")
    assert list(site.state["held"]) == ["three", "two"]
    assert "was verified and is not held. See: make history" in site.run("rollback").stderr


def test_what_no_pod_confirmed_is_not_gone_back_to(site: Site) -> None:
    site.ran("one")
    site.deploy("liar-2", SMOKE_TIMEOUT="1s")
    assert "liar-2 (unverified)" in site.run("history").stdout
    done = site.run("rollback")
    assert done.returncode == 2
    assert "no other revision that ran, was verified" in done.stderr
    site.deploy("three")
    assert site.run("rollback").returncode == 0
    assert site.state["serves"] == "one"
    # One that went well is confirmed, and of one that is no longer kept nothing is known.
    assert site.state["unconfirmed"] == {"2": "liar-2"}
    site.write(**site.state | {"revisions": site.state["revisions"][2:]})
    site.deploy("four")
    assert site.state["unconfirmed"] == {}


def test_a_release_whose_values_name_no_commit_can_be_left_and_returned_to(site: Site) -> None:
    revisions = [revision(1, "one", "superseded", age=9), revision(2, "", "deployed", age=5)]
    site.write(revisions=revisions, held=None, serves="0.1.0")
    done = site.run("rollback")
    assert done.returncode == 0, done.stderr
    assert site.state["held"] is None
    assert site.run("rollback", "2").returncode == 0
    assert site.statuses[-1] == ("", "deployed")


def test_a_rollback_shows_what_the_cluster_knows_before_it_is_gone(site: Site) -> None:
    site.ran("one", "two")
    site.run("rollback")
    assert site.calls.index("kubectl describe pods") < site.calls.index("helm rollback task-api 1")


def test_a_rollback_returns_to_the_revision_asked_for_and_lifts_its_hold(site: Site) -> None:
    site.ran("one", "two", "three")
    assert site.run("rollback", "1").returncode == 0
    assert site.state["serves"] == "one"
    assert site.run("rollback", "3").returncode == 0
    assert site.state["serves"] == "three"
    assert list(site.state["held"]) == ["one"]


@pytest.mark.parametrize(("number", "choice"), [("2", "1, 3"), ("9", "1, 3")])
def test_a_rollback_to_what_never_ran_is_refused_with_the_choice(site: Site, number: str, choice: str) -> None:
    site.ran("one")
    site.deploy("bad-2")
    done = site.run("rollback", number)
    assert done.returncode == 2
    assert f"Available: {choice} (make history)" in done.stderr


def test_after_a_cancelled_deploy_a_rollback_returns_to_what_ran_before(site: Site) -> None:
    site.ran("one")
    process = site.begin_slow_upgrade()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert site.run("rollback").returncode == 0
    assert site.statuses[-1] == ("one", "deployed")
    assert list(site.state["held"]) == ["slow-2"]


def test_a_commit_that_failed_when_it_was_deployed_again_is_left_for_its_first_revision(site: Site) -> None:
    revisions = [revision(1, "one", "deployed", age=60), revision(2, "one", "failed", age=50)]
    site.write(revisions=revisions, held=None, serves="one", unconfirmed={})
    done = site.run("rollback")
    assert done.returncode == 0, done.stderr
    assert site.statuses[-1] == ("one", "deployed")
    assert "helm rollback task-api 1 " in site.calls


def test_with_one_image_there_is_nothing_to_go_back_to(site: Site) -> None:
    assert "no release task-api in this namespace" in site.run("rollback").stderr
    site.deploy("one")
    done = site.run("rollback")
    assert done.returncode == 2
    assert "no other revision that ran" in done.stderr


def test_history_shows_images_and_what_is_held(site: Site) -> None:
    site.ran("one", "two")
    site.run("rollback")
    lines = site.run("history").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["3", "2", "1", "held"]
    assert "two (held)" in lines[1]


def test_smoke_asks_for_the_deployed_commit_or_the_one_named(site: Site) -> None:
    site.ran("one")
    assert "all at commit one" in site.run("smoke").stdout
    assert "all at commit one" in site.run("smoke", "one").stdout


def test_an_unknown_word_is_answered_with_the_words_that_there_are(site: Site) -> None:
    done = site.run("destroy")
    assert done.returncode == 2
    assert "scripts/deploy.sh rollback [REVISION]" in done.stderr
