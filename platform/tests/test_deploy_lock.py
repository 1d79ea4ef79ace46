"""The protocol of the deploy lock (scripts/deploy/lock.py) in simulated time: only waiting and slow requests advance
the clock, and one Lease in memory is the cluster."""

from __future__ import annotations

import dataclasses
import getpass
import json
import subprocess
import threading
from collections.abc import Callable
from typing import Any

import pytest
from scripts.deploy import lock as lock_module
from scripts.deploy.lock import STOP_ANNOTATION, Lock, deploy_lock, deployer
from scripts.deploy.processes import Failed, Refused
from scripts.deploy.settings import Settings

START = 1000.0
REFUSED = "The connection to the server was refused"


class Cluster:
    """The Lease, the clock, and the API server's faults."""

    def __init__(self) -> None:
        self.now = START
        self.lease: dict[str, Any] | None = None
        self.requests: list[tuple[float, str]] = []
        """Seconds since the start, and verb."""
        self.fault: Callable[[str], str] = lambda _: ""
        """By verb: refused, hangs, lost (the response, after the change), garbled, or an error message."""
        self.latency = 0.0
        self.before: Callable[[str], None] = lambda _: None
        """Called before each request: what others do."""
        self.timeouts: list[float] = []

    @property
    def seconds(self) -> float:
        return self.now - START

    @property
    def spec(self) -> dict[str, Any]:
        assert self.lease is not None
        spec: dict[str, Any] = self.lease["spec"]
        return spec

    def hold(self, holder: str | None, duration: int | None = 60, *, stop_for: str = "") -> None:
        """Another process holds the Lease, or renews it: each call is a change."""
        version = int(self.lease["metadata"]["resourceVersion"]) + 1 if self.lease else 1
        spec = {"holderIdentity": holder, "leaseDurationSeconds": duration, "leaseTransitions": 3}
        metadata: dict[str, Any] = {"resourceVersion": str(version)}
        if stop_for:
            metadata["annotations"] = {STOP_ANNOTATION: stop_for}
        self.lease = {"metadata": metadata, "spec": {key: value for key, value in spec.items() if value is not None}}

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def read(self, *command: str) -> subprocess.CompletedProcess[str]:
        """As processes.run."""
        return self.kubectl(
            list(command), timeout=60, capture_output=True, text=True, check=False, start_new_session=True
        )

    def kubectl(
        self,
        command: list[str],
        *,
        timeout: float,
        capture_output: bool,
        text: bool,
        check: bool,
        start_new_session: bool,
        input: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """As subprocess.run."""
        assert (capture_output, text, check) == (True, True, False)
        assert start_new_session, "Ctrl-C would reach it"
        assert timeout > 0, "it would be killed immediately"
        verb = command[1]
        self.requests.append((self.seconds, verb))
        assert len(self.requests) < 1000, "it does not wait between two requests"
        self.timeouts.append(timeout)
        self.before(verb)
        fault = self.fault(verb)
        if fault == "hangs":
            self.now += timeout
            raise subprocess.TimeoutExpired(command, timeout)
        if fault and fault not in ("lost", "garbled"):
            return subprocess.CompletedProcess(command, 1, "", REFUSED if fault == "refused" else fault)
        self.now += self.latency
        code, output = self._respond(verb, command, input)
        if fault == "lost":
            return subprocess.CompletedProcess(command, 1, "", "error: unexpected EOF")
        if fault == "garbled":
            return subprocess.CompletedProcess(command, 0, "{}", "")
        return subprocess.CompletedProcess(command, code, *((output, "") if code == 0 else ("", output)))

    def _respond(self, verb: str, command: list[str], document: str | None) -> tuple[int, str]:
        if verb == "get":
            if self.lease is None:
                return (0, "") if "--ignore-not-found" in command else (1, "Error from server (NotFound)")
            return 0, json.dumps(self.lease)
        if verb == "create":
            if self.lease is not None:
                return 1, "Error from server (AlreadyExists): leases already exists"
            assert document is not None
            lease = json.loads(document)
            assert (lease["kind"], lease["metadata"]["name"]) == ("Lease", "task-api-deploy")
            self.lease = {"metadata": {"resourceVersion": "1"}, "spec": lease["spec"]}
            return 0, json.dumps(self.lease)
        change = json.loads(command[command.index("--patch") + 1])
        assert self.lease is not None
        metadata = self.lease["metadata"]
        if change["metadata"]["resourceVersion"] != metadata["resourceVersion"]:
            return 1, "Error from server (Conflict): the object has been modified"
        annotations = metadata.get("annotations", {}) | change["metadata"]["annotations"]
        self.lease = {
            "metadata": {
                "resourceVersion": str(int(metadata["resourceVersion"]) + 1),
                "annotations": {key: value for key, value in annotations.items() if value is not None},
            },
            "spec": {key: value for key, value in (self.lease["spec"] | change["spec"]).items() if value is not None},
        }
        return 0, json.dumps(self.lease)


class SimulatedEvent(threading.Event):
    """Whether the lock is released: once the simulated time is over."""

    def __init__(self, cluster: Cluster, until: float) -> None:
        super().__init__()
        self._cluster, self._until = cluster, until

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        assert timeout > 0
        self._cluster.now += timeout
        return self._cluster.seconds > self._until


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    cluster = Cluster()

    class Programs:
        run = staticmethod(cluster.kubectl)
        TimeoutExpired = subprocess.TimeoutExpired

    class Clock:
        monotonic = staticmethod(lambda: cluster.now)

    monkeypatch.setattr(lock_module, "subprocess", Programs)
    monkeypatch.setattr(lock_module, "time", Clock)
    monkeypatch.setattr(lock_module, "run", cluster.read)
    monkeypatch.setattr(lock_module, "wait", cluster.wait)
    return cluster


@pytest.fixture
def stops(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The reasons for which this deployer was stopped, each with the time."""
    reasons: list[str] = []
    monkeypatch.setattr(
        lock_module,
        "stop_for_lost_lock",
        lambda reason, kill_after: reasons.append(f"{cluster.seconds:.1f} s: {reason} (killed after {kill_after} s)"),
    )
    return reasons


def settings(lock_timeout: int = 600, lease_duration: int = 60) -> Settings:
    defaults = Settings.from_env("task-api", "")
    return dataclasses.replace(defaults, lock_timeout=lock_timeout, lease_duration=lease_duration)


def a_lock(
    holder: str = "deploy of mine", *, stops_deploys: bool = False, lock_timeout: int = 600, lease_duration: int = 60
) -> Lock:
    return Lock(settings(lock_timeout, lease_duration), holder, stops_deploys)


def held_lock(cluster: Cluster, seconds: float, lease_duration: int = 60) -> Lock:
    """Acquired now, and released after these seconds of renewals."""
    lock = a_lock(lease_duration=lease_duration)
    lock.acquire()
    lock.released = SimulatedEvent(cluster, seconds)
    cluster.requests.clear()
    cluster.timeouts.clear()
    return lock


# --- acquiring ------------------------------------------------------------------------


def test_first_deploy_creates_the_lease(cluster: Cluster) -> None:
    a_lock().acquire()
    spec = cluster.spec
    assert spec["holderIdentity"].startswith("deploy of mine [")
    assert (spec["leaseDurationSeconds"], spec["leaseTransitions"]) == (60, 0)
    assert spec["acquireTime"] == spec["renewTime"]
    assert cluster.seconds == 0


def test_free_lease_is_taken_and_counts_the_transition(cluster: Cluster) -> None:
    cluster.hold(None)
    a_lock().acquire()
    assert cluster.spec["holderIdentity"].startswith("deploy of mine [")
    assert cluster.spec["leaseTransitions"] == 4
    cluster.hold(None)
    del cluster.spec["leaseTransitions"]  # as in a Lease that was created by hand
    a_lock().acquire()
    assert cluster.spec["leaseTransitions"] == 1


def test_waiting_is_reported_every_ten_seconds_until_the_lock_is_free(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    def others(verb: str) -> None:
        if verb == "get":
            cluster.hold("deploy of theirs" if cluster.seconds < 25 else None)

    cluster.before = others
    a_lock().acquire()
    assert capsys.readouterr().out.splitlines() == [f"Waiting for deploy of theirs: {n} s" for n in (0, 10, 20)]
    assert cluster.seconds == 26


@pytest.mark.parametrize(("duration", "taken_after"), [(30, 32), (None, 62)])
def test_lease_without_renewals_is_taken_over_after_its_own_duration(
    cluster: Cluster, capsys: pytest.CaptureFixture[str], duration: int | None, taken_after: float
) -> None:
    """Not before: its holder may still run. Without a duration that of the settings applies."""
    cluster.hold("deploy of theirs", duration)
    a_lock().acquire()
    assert cluster.seconds == taken_after
    assert capsys.readouterr().out.count("The lock of deploy of theirs has expired: taking over.") == 1


def test_each_renewal_starts_the_duration_again(cluster: Cluster) -> None:
    cluster.hold("deploy of theirs")

    def others(verb: str) -> None:
        if verb == "get" and cluster.seconds == 40:
            cluster.hold("deploy of theirs")

    cluster.before = others
    a_lock().acquire()
    assert cluster.seconds == 40 + 62


def test_waiting_ends_after_the_timeout_of_the_settings(cluster: Cluster) -> None:
    cluster.before = lambda _: cluster.hold("deploy of theirs")
    with pytest.raises(Refused, match="deploy of theirs still holds the lock after 10 s"):
        a_lock(lock_timeout=10).acquire()
    assert cluster.seconds == 12
    assert {verb for _, verb in cluster.requests} == {"get"}


def test_of_two_deploys_that_find_no_lease_the_slower_one_waits(cluster: Cluster) -> None:
    def others(verb: str) -> None:
        if verb == "create":
            cluster.hold("deploy of theirs")

    cluster.before = others
    with pytest.raises(Refused, match="deploy of theirs still holds the lock"):
        a_lock(lock_timeout=4).acquire()
    # It looks at once who was faster.
    assert cluster.requests[:3] == [(0, "get"), (0, "create"), (0, "get")]


@pytest.mark.parametrize("holder", [None, "deploy of the dead"])
def test_of_two_deploys_that_take_a_lease_the_slower_one_waits(cluster: Cluster, holder: str | None) -> None:
    cluster.hold(holder, 1)

    def others(verb: str) -> None:
        if verb == "patch":
            cluster.hold("deploy of theirs")

    cluster.before = others
    with pytest.raises(Refused, match="deploy of theirs still holds the lock"):
        a_lock(lock_timeout=8).acquire()
    assert cluster.spec["holderIdentity"] == "deploy of theirs"
    assert [verb for _, verb in cluster.requests].count("patch") == 1


@pytest.mark.parametrize("found", [True, False])
@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        ("refused", Failed, "could not be read or written: The connection to the server was refused\nIs the cluster"),
        ("leases is forbidden", Refused, "platform/deployer/role.yaml"),
        ("Error from server (Forbidden)", Refused, "platform/deployer/role.yaml"),
    ],
)
@pytest.mark.parametrize("verb", ["get", "write"])
def test_errors_of_the_api_server_end_the_deploy(
    cluster: Cluster, verb: str, fault: str, error: type[Exception], message: str, *, found: bool
) -> None:
    if found:
        cluster.hold(None)
    cluster.fault = lambda called: fault if (called == "get") == (verb == "get") else ""
    with pytest.raises(error, match=message):
        a_lock().acquire()
    assert cluster.seconds == 0


def test_no_response_to_the_acquisition_ends_the_deploy(cluster: Cluster) -> None:
    cluster.fault = lambda verb: "hangs" if verb == "create" else ""
    with pytest.raises(Failed, match=r"no response within 60 s\. Is the API server healthy"):
        a_lock().acquire()
    assert cluster.seconds == 60


# --- stopping a deploy ----------------------------------------------------------------


def test_rollback_requests_a_deploy_to_stop_once(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.hold("deploy of theirs")
    with pytest.raises(Refused):
        a_lock("rollback from x", stops_deploys=True, lock_timeout=8).acquire()
    assert cluster.lease is not None
    assert cluster.lease["metadata"]["annotations"][STOP_ANNOTATION].startswith("rollback from x [")
    assert [verb for _, verb in cluster.requests].count("patch") == 1
    assert capsys.readouterr().out.count("Requesting deploy of theirs to stop") == 1
    assert cluster.spec["holderIdentity"] == "deploy of theirs"


@pytest.mark.parametrize("purpose", ["deploy of mine", "settle"])
def test_only_a_rollback_stops_a_deploy(cluster: Cluster, purpose: str) -> None:
    cluster.hold("deploy of theirs")
    with pytest.raises(Refused), deploy_lock(settings(lock_timeout=8), purpose):
        pytest.fail("it was acquired")
    assert {verb for _, verb in cluster.requests} == {"get"}


def test_expired_deploy_is_taken_over_by_a_rollback_without_a_request(cluster: Cluster) -> None:
    cluster.hold("deploy of theirs", 1, stop_for="rollback of another")
    a_lock("rollback from x", stops_deploys=True).acquire()
    assert [verb for _, verb in cluster.requests] == ["get", "get", "patch"]
    assert cluster.lease is not None
    assert cluster.lease["metadata"]["annotations"] == {}


def test_rollback_that_requested_a_stop_comes_before_waiting_deploys(cluster: Cluster) -> None:
    cluster.hold(None, stop_for="rollback of another")
    with pytest.raises(Refused, match="rollback of another still holds the lock after 8 s"):
        a_lock(lock_timeout=8).acquire()
    a_lock("rollback from x", stops_deploys=True).acquire()
    assert cluster.spec["holderIdentity"].startswith("rollback from x [")


# --- renewing -------------------------------------------------------------------------


def test_lease_is_renewed_six_times_per_duration_until_it_is_released(cluster: Cluster, stops: list[str]) -> None:
    lock = held_lock(cluster, seconds=65)
    acquired = cluster.spec["renewTime"]
    lock.renew_until_released()
    assert cluster.requests == [(seconds, "patch") for seconds in (10, 20, 30, 40, 50, 60)]
    assert cluster.timeouts == [10] * 6
    assert cluster.spec["renewTime"] > acquired
    assert not stops


@pytest.mark.parametrize("fault", ["refused", "hangs"])
def test_deployer_stops_after_two_thirds_of_the_duration_without_a_renewal(
    cluster: Cluster, stops: list[str], fault: str
) -> None:
    lock = held_lock(cluster, seconds=600)
    cluster.fault = lambda _: fault
    lock.renew_until_released()
    (stop,) = stops
    assert (
        "s: The lock could not be renewed for 40 s. Another deploy may have started, so this deployer stopped" in stop
    )
    assert 40 <= cluster.seconds < 41
    assert max(cluster.timeouts) <= 10


@pytest.mark.parametrize(("lease_duration", "kill_after"), [(12, 3.0), (30, 7.5), (40, 10), (60, 10)])
def test_a_command_of_a_deployer_without_a_lock_is_killed_before_another_may_begin(
    cluster: Cluster, stops: list[str], lease_duration: int, kill_after: float
) -> None:
    lock = held_lock(cluster, seconds=600, lease_duration=lease_duration)
    cluster.fault = lambda _: "refused"
    lock.renew_until_released()
    assert stops[0].endswith(f"(killed after {kill_after} s)")
    assert cluster.seconds + kill_after < lease_duration


@pytest.mark.parametrize("fault", ["refused", "hangs"])
def test_duration_starts_when_the_last_successful_renewal_was_sent(
    cluster: Cluster, stops: list[str], fault: str
) -> None:
    """Another deployer's clock starts when that renewal is written, which may be long before its response."""
    lock = held_lock(cluster, seconds=600)
    cluster.latency = 7
    cluster.fault = lambda _: fault if cluster.seconds > 20 else ""
    lock.renew_until_released()  # sent after 10 seconds, its response came after 17
    (stop,) = stops
    assert "could not be renewed for 40 s" in stop
    assert 50 <= cluster.seconds < 51


def test_renewal_after_failed_ones_starts_the_duration_again(cluster: Cluster, stops: list[str]) -> None:
    lock = held_lock(cluster, seconds=600)
    cluster.fault = lambda _: "" if cluster.seconds == 30 else "refused"
    lock.renew_until_released()
    assert len(stops) == 1
    assert cluster.seconds == 70


def test_lost_response_to_a_renewal_does_not_stop_the_deploy(cluster: Cluster, stops: list[str]) -> None:
    lock = held_lock(cluster, seconds=100)
    cluster.fault = lambda verb: "lost" if verb == "patch" and cluster.seconds == 20 else ""
    lock.renew_until_released()
    assert cluster.requests[:4] == [(10, "patch"), (20, "patch"), (20, "get"), (30, "patch")]
    assert [verb for _, verb in cluster.requests].count("get") == 1
    assert not stops


@pytest.mark.parametrize(
    ("holder", "reason"), [("rollback of another", "rollback of another took"), (None, "Another process took")]
)
def test_deployer_stops_as_soon_as_another_holds_the_lease(
    cluster: Cluster, stops: list[str], holder: str | None, reason: str
) -> None:
    lock = held_lock(cluster, seconds=600)
    cluster.hold(holder, stop_for="a third one")
    lock.renew_until_released()
    (stop,) = stops
    assert stop.startswith(f"10.0 s: {reason} over the lock, so this deployer stopped. To recover the release")


def test_requested_stop_is_seen_at_the_next_renewal(cluster: Cluster, stops: list[str]) -> None:
    lock = held_lock(cluster, seconds=600)
    holder = cluster.spec["holderIdentity"]
    cluster.hold(holder, stop_for="rollback of another")
    lock.renew_until_released()
    assert len(stops) == 1
    assert stops[0].startswith("10.0 s: rollback of another requested a stop, so this deployer stopped. To recover")
    lock.release()  # by the version that the request to stop wrote
    assert "holderIdentity" not in cluster.spec


@pytest.mark.parametrize("verb", ["patch", "get"])
def test_malformed_response_stops_the_deploy(cluster: Cluster, stops: list[str], verb: str) -> None:
    """A renewal thread that ended silently would leave a deploy running without its lock."""
    lock = held_lock(cluster, seconds=600)
    if verb == "get":
        cluster.hold("another")
    cluster.fault = lambda called: "garbled" if called == verb else ""
    lock.renew_until_released()
    assert len(stops) == 1
    assert stops[0].startswith("10.0 s: The lock could not be renewed (KeyError(")


@pytest.mark.parametrize("error", [OSError("no memory"), ValueError("no JSON"), TypeError("no object")])
def test_renewal_that_cannot_run_stops_the_deploy(cluster: Cluster, stops: list[str], error: Exception) -> None:
    lock = held_lock(cluster, seconds=600)

    def fail(_: str) -> str:
        raise error

    cluster.fault = fail
    lock.renew_until_released()
    assert len(stops) == 1
    assert f"The lock could not be renewed ({error!r}), so this deployer stopped. To recover" in stops[0]


# --- releasing ------------------------------------------------------------------------


def test_released_lease_has_no_holder_and_keeps_its_transitions(cluster: Cluster) -> None:
    lock = held_lock(cluster, seconds=600)
    lock.release()
    assert cluster.spec == {"leaseDurationSeconds": 60, "leaseTransitions": 0}


def test_lease_of_another_is_not_released(cluster: Cluster) -> None:
    lock = held_lock(cluster, seconds=600)
    cluster.hold("deploy of theirs")
    lock.release()
    assert cluster.spec["holderIdentity"] == "deploy of theirs"


def test_release_without_a_response_is_left_to_the_expiry(cluster: Cluster) -> None:
    lock = held_lock(cluster, seconds=600)
    cluster.fault = lambda _: "hangs"
    lock.release()
    assert cluster.requests == [(0, "patch")]


def test_lock_is_released_despite_a_new_stop_request(cluster: Cluster) -> None:
    lock = held_lock(cluster, seconds=600)
    cluster.hold(cluster.spec["holderIdentity"], stop_for="rollback of another")
    lock.release()
    assert "holderIdentity" not in cluster.spec


def test_lock_is_released_after_the_renewal_in_progress(cluster: Cluster) -> None:
    """Otherwise the release is based on the version before the renewal, and is rejected."""
    renewing, releasing = threading.Event(), threading.Event()
    order = []

    def others(verb: str) -> None:
        if verb == "patch" and not renewing.is_set():
            renewing.set()
            releasing.wait(0.2)  # for a release that does not wait
            order.append("renewal")
        elif verb == "patch":
            order.append("release")
            releasing.set()

    cluster.before = others
    with deploy_lock(settings(lease_duration=1), "deploy of mine"):
        assert renewing.wait(10)
        assert cluster.spec["holderIdentity"].startswith(f"deploy of mine by {deployer()} [")
    assert order == ["renewal", "release"]
    assert "holderIdentity" not in cluster.spec


def test_failed_deploy_releases_the_lock(cluster: Cluster) -> None:
    with pytest.raises(Failed), deploy_lock(settings(), "deploy of mine"):
        raise Failed
    assert "holderIdentity" not in cluster.spec


# --- identity -------------------------------------------------------------------------


def test_two_attempts_of_one_process_are_different_holders(cluster: Cluster) -> None:
    a_lock().acquire()
    first = cluster.spec["holderIdentity"]
    with pytest.raises(Refused, match=r"deploy of mine \[.* still holds the lock"):
        a_lock(lock_timeout=2).acquire()
    cluster.hold(None)
    a_lock().acquire()
    assert cluster.spec["holderIdentity"] != first


@pytest.mark.parametrize("error", [KeyError("uid not found"), OSError("no username")])
def test_deployer_without_a_user_name_is_named_by_its_user_id(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail() -> str:
        raise error

    monkeypatch.delenv("GITHUB_RUN_ID", raising=False)
    monkeypatch.setattr(getpass, "getuser", fail)
    monkeypatch.setattr("os.getuid", lambda: 1234)
    monkeypatch.setattr("os.getpid", lambda: 77)
    monkeypatch.setattr("socket.gethostname", lambda: "laptop")
    assert deployer() == "user 1234@laptop (process 77)"


def test_deployer_on_a_laptop_is_named_by_user_and_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_RUN_ID", raising=False)
    monkeypatch.setattr(getpass, "getuser", lambda: "ada")
    monkeypatch.setattr("os.getpid", lambda: 77)
    monkeypatch.setattr("socket.gethostname", lambda: "laptop")
    assert deployer() == "ada@laptop (process 77)"


@pytest.mark.parametrize(("attempt", "named"), [("3", 3), (None, 1)])
def test_deployer_on_github_is_named_by_its_run(
    monkeypatch: pytest.MonkeyPatch, attempt: str | None, named: int
) -> None:
    monkeypatch.setenv("GITHUB_RUN_ID", "8")
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://github.example")
    monkeypatch.setenv("GITHUB_REPOSITORY", "you/kit")
    monkeypatch.delenv("GITHUB_RUN_ATTEMPT", raising=False)
    if attempt:
        monkeypatch.setenv("GITHUB_RUN_ATTEMPT", attempt)
    assert deployer() == f"https://github.example/you/kit/actions/runs/8 (attempt {named})"
