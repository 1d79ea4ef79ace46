"""scripts/deploy.sh with a helm and a kubectl that keep a release in a file (fake_cluster.py), and real signals."""

from __future__ import annotations

import base64
import json
import os
import re
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
from manifests import REPOSITORY

FAKE = REPOSITORY / "platform/tests/fake_cluster.py"


class Site:
    """A cluster in a file, and the script with everything set to deploy there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "cluster.json"
        (folder / "bin").mkdir()
        for tool in ("helm", "kubectl"):
            link = folder / "bin" / tool
            link.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{folder}/bin/fake/{tool}" "$@"\n')
            link.chmod(0o755)
        (folder / "bin/fake").mkdir()
        for tool in ("helm", "kubectl"):
            (folder / "bin/fake" / tool).symlink_to(FAKE)
        self.write(revisions=[], held=None, serves=None)
        self.environment = {
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "PYTHON": sys.executable,
            "FAKE_CLUSTER": str(self.file),
            "KUBECONFIG": "/nowhere",
            "IMAGE_REPOSITORY": "docker.io/you/task-api",
            "GITHUB_STEP_SUMMARY": str(folder / "summary"),
            "SETTLE_AGE": "2s",
        }

    def write(self, **state: Any) -> None:
        self.file.write_text(json.dumps(state))

    @property
    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.file.read_text())
        return found

    @property
    def statuses(self) -> list[tuple[str, str]]:
        return [(revision["tag"], revision["status"]) for revision in self.state["revisions"]]

    @property
    def calls(self) -> str:
        return self.file.with_suffix(".calls").read_text()

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

    def begin_slow_upgrade(self) -> subprocess.Popen[str]:
        process = self.start("deploy", IMAGE_TAG="slow-2")
        until(lambda: ("slow-2", "pending-upgrade") in self.statuses, "the upgrade is pending")
        return process


def until(look: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not look():
        assert time.monotonic() < deadline, f"not within 30 s: {what}"
        time.sleep(0.05)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


# --- what it deploys ------------------------------------------------------------------


def test_a_deploy_installs_then_upgrades_and_every_pod_says_the_commit(site: Site) -> None:
    digest = "sha256:" + "0" * 64
    first = site.deploy("one", IMAGE_DIGEST=digest)
    assert first.returncode == 0, first.stderr
    assert "2 pods answer, and each says that it is one" in first.stdout
    assert f"--set-string image.tag=one --set-string image.digest={digest}" in site.calls
    assert "--history-max 10 --wait --timeout 120s" in site.calls
    assert site.deploy("two").returncode == 0
    assert site.statuses == [("one", "superseded"), ("two", "deployed")]
    assert "Deployed docker.io/you/task-api:two. Before it ran one, revision 1." in site.summary


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
    assert "one repository for 2 services. Put {0} where their names belong" in done.stderr
    (tmp_path / "none").mkdir()
    done = site.deploy("one", IMAGE_DIGESTS=str(tmp_path / "none"))
    assert done.returncode == 2
    assert "Was anything pushed?" in done.stderr
    assert not site.state["revisions"]


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"IMAGE_TAG": "latest"}, "IMAGE_TAG=latest is refused"),
        ({}, "IMAGE_TAG is not set"),
        ({"IMAGE_TAG": "one", "IMAGE_REPOSITORY": ""}, "IMAGE_REPOSITORY is not set"),
        ({"IMAGE_TAG": "one", "IMAGE_DIGEST": "sha256:12"}, "is not a digest"),
        ({"IMAGE_TAG": "one", "PRODUCTION_URL": "file:///etc"}, "PRODUCTION_URL=file:///etc is no address"),
        ({"IMAGE_TAG": "one", "KUBECONFIG": ""}, "Which cluster?"),
        ({"IMAGE_TAG": "one", "KUBE_CONFIG": "apiVersion: v1"}, "KUBE_CONFIG is not base64"),
        ({"IMAGE_TAG": "one", "DEPLOY_TIMEOUT": "soon"}, "DEPLOY_TIMEOUT=soon is not a time"),
    ],
)
def test_what_cannot_be_deployed_is_refused_in_a_sentence(site: Site, environment: dict[str, str], said: str) -> None:
    done = site.run("deploy", **environment)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert said in done.stderr
    assert site.statuses == []


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
    site.deploy("one")
    done = site.deploy("bad-2")
    assert done.returncode == 1
    assert site.statuses == [("one", "superseded"), ("bad-2", "failed"), ("one", "deployed")]
    assert site.calls.index("kubectl describe pods") < site.calls.index("helm rollback task-api 1")
    assert "each says that it is one" in done.stdout
    assert "Helm could not deploy bad-2 within 120 s." in done.stderr
    assert "Rolled back to revision 1: one serves" in site.summary
    # Nobody chose to leave it: after a flake the same run can be tried again.
    assert site.state["held"] is None


def test_a_first_deploy_that_fails_leaves_nothing(site: Site) -> None:
    done = site.deploy("bad-1")
    assert done.returncode == 1
    assert "nothing to go back to" in done.stderr
    assert "helm uninstall task-api --wait --timeout 120s" in site.calls
    assert site.statuses == []
    assert site.deploy("one").returncode == 0


def test_a_first_deploy_of_values_that_cannot_work_removes_nothing(site: Site) -> None:
    done = site.deploy("wrong-1")
    assert done.returncode == 1
    assert "Helm refused it before anything was made" in done.stderr
    assert "uninstall" not in site.calls + done.stderr
    assert site.deploy("one").returncode == 0


def test_pods_that_say_another_commit_fail_the_deploy(site: Site) -> None:
    site.deploy("one")
    done = site.deploy("liar-2", SMOKE_TIMEOUT="2s")
    assert done.returncode == 1
    assert "The service is not liar-2 after 2 s" in done.stderr
    assert "says that it is something-else" in done.stderr
    assert site.statuses == [("one", "superseded"), ("liar-2", "superseded"), ("one", "deployed")]


@pytest.mark.parametrize(
    ("tag", "said"), [("list-2", "TypeError"), ("cut-2", "IncompleteRead"), ("noise-2", "BadStatusLine")]
)
def test_pods_that_answer_something_else_fail_the_deploy_like_any_other(site: Site, tag: str, said: str) -> None:
    site.deploy("one")
    done = site.deploy(tag, SMOKE_TIMEOUT="1s")
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert f"/health: {said}" in done.stderr
    assert site.statuses[-1] == ("one", "deployed")


def test_the_public_address_has_to_say_the_commit_too(site: Site, public: str) -> None:
    site.deploy("one")
    done = site.deploy("two", PRODUCTION_URL=public, SMOKE_TIMEOUT="1s")
    assert f"{public}/health says that it is one" in done.stderr
    assert site.statuses == [("one", "superseded"), ("two", "superseded"), ("one", "deployed")]
    assert site.run("smoke", PRODUCTION_URL=f"{public}/").returncode == 0


@pytest.fixture
def public() -> Iterator[str]:
    """A server that says it is `one`, whatever is deployed."""

    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
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
    site.deploy("one")
    site.write(**site.state, rollback="fails")
    done = site.deploy("bad-2")
    assert done.returncode == 1
    assert "The rollback to revision 1 failed, too. See above; then: make history, make rollback" in done.stderr
    assert "serves" not in done.stderr
    assert "helm rollback task-api 1 --wait --timeout 120s --history-max 10" in site.calls


def test_diagnostics_fold_on_github(site: Site) -> None:
    site.deploy("one")
    done = site.deploy("bad-2", GITHUB_ACTIONS="true")
    assert done.stdout.count("::group::") == done.stdout.count("::endgroup::") == 5


# --- what ends before its time --------------------------------------------------------


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_cancelled_deploy_leaves_the_release_failed_and_not_pending(site: Site, signum: signal.Signals) -> None:
    site.deploy("one")
    process = site.begin_slow_upgrade()
    process.send_signal(signum)  # to the script alone, as the runner does
    _, errors = process.communicate(timeout=7)  # before the runner's next, harder signal
    assert process.returncode == 128 + signum
    assert "Cancelled" in errors
    assert "Cancelled" in site.summary
    assert site.statuses == [("one", "deployed"), ("slow-2", "failed")]
    assert site.deploy("three").returncode == 0


def test_the_next_deploy_recovers_from_a_kill(site: Site) -> None:
    site.deploy("one")
    process = site.begin_slow_upgrade()
    os.killpg(process.pid, signal.SIGKILL)  # the script and its helm, as when a runner is lost
    process.communicate(timeout=10)
    assert site.statuses[-1] == ("slow-2", "pending-upgrade")
    done = site.deploy("three")
    assert done.returncode == 0, done.stderr
    assert "somebody may be at work" in done.stdout
    assert "Revision 2 was left pending-upgrade: back to revision 1." in done.stdout
    assert [status for _, status in site.statuses] == ["superseded", "pending-upgrade", "superseded", "deployed"]


def test_a_helm_that_goes_on_without_its_script_is_waited_for(site: Site) -> None:
    site.deploy("one")
    process = site.begin_slow_upgrade()
    process.kill()  # the script alone
    process.wait(timeout=10)
    with site.start("deploy", IMAGE_TAG="three", SETTLE_AGE="60s") as following:
        assert following.stdout is not None
        assert "somebody may be at work" in following.stdout.readline()
        os.killpg(process.pid, signal.SIGTERM)  # what is left of the group: helm, which ends by itself
        assert following.wait(timeout=30) == 0
        assert "was left" not in following.stdout.read()
    process.communicate(timeout=10)
    assert site.statuses == [("one", "superseded"), ("slow-2", "failed"), ("three", "deployed")]


def test_a_first_install_that_was_killed_is_removed(site: Site) -> None:
    process = site.start("deploy", IMAGE_TAG="slow-1")
    until(lambda: ("slow-1", "pending-install") in site.statuses, "the install is pending")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=10)
    done = site.run("settle")
    assert done.returncode == 0, done.stderr
    assert site.statuses == []


def test_a_cancel_is_heard_while_a_pod_does_not_answer(site: Site) -> None:
    site.deploy("one")
    site.write(**site.state, forward="hangs")
    with site.start("smoke") as process:
        until(lambda: site.calls.endswith("--address 127.0.0.1\n"), "a pod is asked")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=5) == 130
        process.communicate()


@pytest.mark.parametrize("words", [(), ("1",)])
def test_a_killed_rollback_is_gone_on_with_and_not_undone(site: Site, words: tuple[str, ...]) -> None:
    site.deploy("one")
    site.deploy("two")
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
    site.deploy("one")
    site.write(**site.state, rollback="slow")
    process = site.start("deploy", IMAGE_TAG="liar-2", SMOKE_TIMEOUT="1s")
    until(lambda: ("one", "pending-rollback") in site.statuses, "the rollback is pending")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=10)
    site.write(**site.state | {"rollback": ""})
    before = len(site.calls)
    done = site.run("settle")
    assert "Revision 3 was left pending-rollback: back to revision 1." in done.stdout
    calls = site.calls[before:]
    assert calls.index("kubectl describe pods") < calls.index("helm rollback task-api 1")
    assert site.state["serves"] == "one"


def test_what_is_held_is_better_than_nothing(site: Site) -> None:
    """A release that runs is not removed for being held."""
    revisions = [revision(1, "one", "deployed", age=99), revision(2, "two", "pending-upgrade", age=60)]
    site.write(revisions=revisions, held={"one": "rolled back"}, serves="one")
    assert "back to revision 1" in site.run("settle").stdout
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
    assert ("At 150 s it counts as left behind" in first) is not settled


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
    site.environment["GIT_DIR"] = str(history_of_two / ".git")
    assert site.deploy(newer).returncode == 0
    done = site.deploy(older)
    assert done.returncode == 0
    assert f"Nothing deployed: {newer} is newer than {older} and was here before (deployed)" in done.stdout
    assert site.statuses == [(newer, "deployed")]
    assert site.deploy(newer).returncode == 0  # the same again is no step back
    assert len(site.statuses) == 2


def test_not_even_where_the_newer_one_did_not_stay(site: Site, history_of_two: Path) -> None:
    older, newer = (git(history_of_two, "rev-parse", reference) for reference in ("HEAD~1", "HEAD"))
    site.environment["GIT_DIR"] = str(history_of_two / ".git")
    cancelled = revision(2, newer, "failed", age=9)
    site.write(revisions=[revision(1, "one", "deployed", age=60), cancelled], held=None, serves="one")
    done = site.deploy(older)
    assert (done.returncode, len(site.statuses)) == (0, 2)
    assert f"{newer} is newer than {older} and was here before (failed)" in done.stdout


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


# --- going back -----------------------------------------------------------------------


def test_a_rollback_returns_to_the_last_other_image_and_holds_what_it_left(site: Site) -> None:
    for tag in ("one", "two", "two"):
        site.deploy(tag)
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
    for tag in ("one", "two", "three"):
        site.deploy(tag)
    assert [site.run("rollback").returncode for _ in range(3)] == [0, 0, 2]
    assert site.statuses[-1] == ("one", "deployed")
    assert list(site.state["held"]) == ["three", "two"]
    assert "was confirmed and is not held. See: make history" in site.run("rollback").stderr


def test_what_no_pod_confirmed_is_not_gone_back_to(site: Site) -> None:
    site.deploy("one")
    site.deploy("liar-2", SMOKE_TIMEOUT="1s")
    assert "liar-2 (unconfirmed)" in site.run("history").stdout
    done = site.run("rollback")
    assert done.returncode == 2
    assert "no other revision that ever ran, was confirmed" in done.stderr
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
    site.deploy("one")
    site.deploy("two")
    site.run("rollback")
    assert site.calls.index("kubectl describe pods") < site.calls.index("helm rollback task-api 1")


def test_a_rollback_returns_to_the_revision_asked_for_and_lifts_its_hold(site: Site) -> None:
    for tag in ("one", "two", "three"):
        site.deploy(tag)
    assert site.run("rollback", "1").returncode == 0
    assert site.state["serves"] == "one"
    assert site.run("rollback", "3").returncode == 0
    assert site.state["serves"] == "three"
    assert list(site.state["held"]) == ["one"]


@pytest.mark.parametrize(("number", "choice"), [("2", "1, 3"), ("9", "1, 3")])
def test_a_rollback_to_what_never_ran_is_refused_with_the_choice(site: Site, number: str, choice: str) -> None:
    site.deploy("one")
    site.deploy("bad-2")
    done = site.run("rollback", number)
    assert done.returncode == 2
    assert f"There is: {choice} (make history)" in done.stderr


def test_after_a_cancelled_deploy_a_rollback_returns_to_what_ran_before(site: Site) -> None:
    site.deploy("one")
    process = site.begin_slow_upgrade()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert site.run("rollback").returncode == 0
    assert site.statuses[-1] == ("one", "deployed")
    assert list(site.state["held"]) == ["slow-2"]


def test_with_one_image_there_is_nothing_to_go_back_to(site: Site) -> None:
    assert "no release task-api here" in site.run("rollback").stderr
    site.deploy("one")
    done = site.run("rollback")
    assert done.returncode == 2
    assert "no other revision that ever ran" in done.stderr


def test_history_shows_images_and_what_is_held(site: Site) -> None:
    site.deploy("one")
    site.deploy("two")
    site.run("rollback")
    lines = site.run("history").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["3", "2", "1", "held"]
    assert "two (held)" in lines[1]


def test_smoke_asks_for_the_deployed_commit_or_the_one_named(site: Site) -> None:
    site.deploy("one")
    assert "each says that it is one" in site.run("smoke").stdout
    assert "each says that it is one" in site.run("smoke", "one").stdout


def test_an_unknown_word_is_answered_with_the_words_that_there_are(site: Site) -> None:
    done = site.run("destroy")
    assert done.returncode == 2
    assert "scripts/deploy.sh rollback [REVISION]" in done.stderr
