"""A mutex for deploys: the Lease RELEASE-deploy in the namespace.

Helm's own check is not enough: `helm upgrade` fails if a revision is pending, which its caller cannot tell from a
failed upgrade, and `helm rollback` does not check at all (Helm 3.22). So deploy, rollback and settle acquire the Lease
first, and never run Helm concurrently.

The protocol is Kubernetes' leader election (client-go, tools/leaderelection). The holder renews the Lease. A waiter
takes it over after leaseDurationSeconds without a renewal, measured with its own clock, so that clocks need not be in
sync. Each write carries the resourceVersion that it is based on, so of two concurrent takeovers one is rejected. A
holder that cannot renew for two thirds of the duration stops before another may start.

A rollback does not wait for a deploy to complete: an annotation on the Lease requests the deploy to stop, which it sees
at its next renewal; the rollback then comes first, before any waiting deploy.
"""

from __future__ import annotations

import getpass
import json
import os
import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from scripts.deploy.processes import KILL_AFTER, QUERY_TIMEOUT, Failed, Refused, run, stop_for_lost_lock, wait
from scripts.deploy.settings import Settings

RENEWALS = 6
"""Renewals per lease duration."""
POLL_EVERY = 2
"""Seconds between two reads of a lock that another process holds."""
REPORT_EVERY = 10
"""Seconds between two progress lines while waiting for the lock."""


DEPLOY_PREFIX = "deploy of "
"""Prefix of the holder identity of a deploy, which a rollback may stop."""
STOP_ANNOTATION = "task-platform/stop-for"
"""The annotation that requests it; its value is the requester."""
RECOVERY_STEP = "To recover the release (verify it, or roll back): make deploy-settle"


@contextmanager
def deploy_lock(settings: Settings, purpose: str, *, stops_deploys: bool = False) -> Iterator[None]:
    """Holds the lock of the release. Waits while another process holds it; `stops_deploys` requests a deploy to stop.

    Raises Refused, with nothing changed, if that takes longer than the settings allow, and Failed if the cluster does
    not respond. Commands run inside raise LockLost once the lock cannot be renewed.
    """
    lock = Lock(settings, f"{purpose} by {deployer()}", stops_deploys)
    lock.acquire()
    renewing = threading.Thread(target=lock.renew_until_released)
    renewing.start()
    try:
        yield
    finally:
        lock.released.set()
        renewing.join()
        lock.release()


def deployer() -> str:
    """This process' identity, shown to waiters: the GitHub run, or user and host."""
    run_id = os.environ.get("GITHUB_RUN_ID")
    if run_id:
        repository = f"{os.environ.get('GITHUB_SERVER_URL', '')}/{os.environ.get('GITHUB_REPOSITORY', '')}"
        return f"{repository}/actions/runs/{run_id} (attempt {os.environ.get('GITHUB_RUN_ATTEMPT', '1')})"
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in a container (OSError from Python 3.13 on)
        user = f"user {os.getuid()}"
    return f"{user}@{socket.gethostname()} (process {os.getpid()})"


class Lock:
    """The Lease as seen by this process. Call `acquire`, `renew_until_released` and `release` in this order."""

    def __init__(self, settings: Settings, holder: str, stops_deploys: bool) -> None:
        self.released = threading.Event()
        self._name = f"{settings.release}-deploy"
        self._wait_timeout = settings.lock_timeout
        self._duration = settings.lease_duration
        self._holder = f"{holder} [{secrets.token_hex(4)}]"  # two attempts of one process are different holders
        self._stops_deploys = stops_deploys
        self._version: str  # of the Lease, since this process acquired it

    def acquire(self) -> None:
        """Returns once this process holds the lock; raises Refused after the wait timeout."""
        started = time.monotonic()
        reported = float("-inf")
        seen, unchanged_since = "", started
        while True:
            lease = self._read()
            now = time.monotonic()
            holder = self._blocking_holder(lease)
            if lease is None:
                acquired = self._create()
            elif not holder:
                acquired = self._take(lease)
            else:
                if lease["metadata"]["resourceVersion"] != seen:
                    seen, unchanged_since = lease["metadata"]["resourceVersion"], now
                dead = now - unchanged_since > lease["spec"].get("leaseDurationSeconds", self._duration)
                if dead:
                    print(f"The lock of {holder} has expired: taking over.", flush=True)
                acquired = dead and self._take(lease)
                if self._stops_deploys and not dead:
                    self._request_stop(lease)
            if acquired:
                return
            if not holder:
                continue  # another process was faster: find out which
            if now - started > self._wait_timeout:
                raise Refused(
                    f"{holder} still holds the lock after {self._wait_timeout} s. Nothing was changed. Check its "
                    "progress "
                    f"(kubectl get lease {self._name} --output yaml; make history), then run the same command again."
                )
            if now - started - reported >= REPORT_EVERY:
                reported = now - started
                print(f"Waiting for {holder}: {now - started:.0f} s", flush=True)
            wait(POLL_EVERY)

    def renew_until_released(self) -> None:
        """Renews the Lease until it is released. If that fails for any reason, stops the deploy."""
        try:
            self._renew_loop()
        except (OSError, ValueError, KeyError, TypeError) as error:  # cannot fork, out of memory, malformed response
            self._stop(f"The lock could not be renewed ({error!r})")

    def _renew_loop(self) -> None:
        interval = self._duration / RENEWALS
        renew_deadline = self._duration * 2 / 3
        deadline = time.monotonic() + renew_deadline
        while not self.released.wait(min(interval, deadline - time.monotonic())):
            started = time.monotonic()
            if self._renew(timeout=min(interval, deadline - started)):
                deadline = started + renew_deadline
                continue
            reason = self._reason_to_stop(timeout=min(interval, deadline - time.monotonic()))
            if reason:
                self._stop(reason)
                return
            if time.monotonic() >= deadline:
                self._stop(f"The lock could not be renewed for {renew_deadline:.0f} s. Another deploy may have started")
                return

    def _stop(self, reason: str) -> None:
        """Stops the deploy: without a renewal for two thirds of the duration, it ends before the Lease expires."""
        stop_for_lost_lock(
            f"{reason}, so this deployer stopped. {RECOVERY_STEP}", kill_after=min(KILL_AFTER, self._duration / 4)
        )

    def release(self) -> None:
        """Releases the Lease, even if a rollback has just requested a stop. If that fails, the Lease expires."""
        free = {"holderIdentity": None, "acquireTime": None, "renewTime": None}
        result = self._patch(self._version, free)
        if result is not None and result.returncode != 0:
            self._reason_to_stop(QUERY_TIMEOUT)  # updates the version if this process still holds the Lease
            self._patch(self._version, free)

    def _blocking_holder(self, lease: dict[str, Any] | None) -> str | None:
        """Whose turn it is instead of this process': the holder's; or, for a deploy, that of a rollback that
        requested the last holder to stop. With many waiting deploys it would not come next otherwise."""
        if lease is None:
            return None
        holder: str | None = lease["spec"].get("holderIdentity")
        return holder or (None if self._stops_deploys else annotations_of(lease).get(STOP_ANNOTATION))

    # --- requests ---------------------------------------------------------------------

    def _read(self) -> dict[str, Any] | None:
        """The Lease, or None if it does not exist. Raises Failed, and Cancelled after a signal."""
        result = run("kubectl", "get", "lease", self._name, "--ignore-not-found", "--output", "json")
        if result.returncode != 0:
            raise self._failure(result.stderr)
        found: dict[str, Any] | None = json.loads(result.stdout) if result.stdout.strip() else None
        return found

    def _create(self) -> bool:
        now = _timestamp()
        spec = {
            "holderIdentity": self._holder,
            "leaseDurationSeconds": self._duration,
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": 0,
        }
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name},
            "spec": spec,
        }
        result = _kubectl("create", "--filename", "-", "--output", "json", stdin=json.dumps(lease))
        return self._acquired(result, conflicts=("AlreadyExists", "already exists"))

    def _take(self, lease: dict[str, Any]) -> bool:
        now = _timestamp()
        changes = {
            "holderIdentity": self._holder,
            "leaseDurationSeconds": self._duration,
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": lease["spec"].get("leaseTransitions", 0) + 1,
        }
        result = self._patch(lease["metadata"]["resourceVersion"], changes, {STOP_ANNOTATION: None})
        return self._acquired(result, conflicts=("Conflict", "the object has been modified"))

    def _renew(self, timeout: float) -> bool:
        result = self._patch(self._version, {"renewTime": _timestamp()}, timeout=timeout)
        if result is None or result.returncode != 0:
            return False
        self._version = json.loads(result.stdout)["metadata"]["resourceVersion"]
        return True

    def _reason_to_stop(self, timeout: float) -> str:
        """Who else holds the Lease, or requested a stop. Empty if that cannot be determined, or neither is the case:
        then the response to a renewal was lost, and this continues with the current version."""
        result = _kubectl("get", "lease", self._name, "--output", "json", timeout=timeout)
        if result is None or result.returncode != 0:
            return ""
        lease = json.loads(result.stdout)
        holder = lease["spec"].get("holderIdentity") or "Another process"
        if holder != self._holder:
            return f"{holder} took over the lock"
        self._version = lease["metadata"]["resourceVersion"]
        requester = annotations_of(lease).get(STOP_ANNOTATION)
        return f"{requester} requested a stop" if requester else ""

    def _request_stop(self, lease: dict[str, Any]) -> None:
        """Requests a deploy to stop, once. If the Lease has just changed, the next poll is early enough."""
        holder = lease["spec"]["holderIdentity"]
        if holder.startswith(DEPLOY_PREFIX) and STOP_ANNOTATION not in annotations_of(lease):
            print(f"Requesting {holder} to stop", flush=True)
            self._patch(lease["metadata"]["resourceVersion"], {}, {STOP_ANNOTATION: self._holder})

    def _patch(
        self,
        version: str,
        changes: dict[str, Any],
        annotations: dict[str, str | None] | None = None,
        *,
        timeout: float = QUERY_TIMEOUT,
    ) -> subprocess.CompletedProcess[str] | None:
        """With a resourceVersion: rejected if the Lease has changed since."""
        metadata = {"resourceVersion": version, "annotations": annotations or {}}
        patch = json.dumps({"metadata": metadata, "spec": changes})
        return _kubectl(
            "patch", "lease", self._name, "--type=merge", "--patch", patch, "--output", "json", timeout=timeout
        )

    def _acquired(self, result: subprocess.CompletedProcess[str] | None, conflicts: tuple[str, ...]) -> bool:
        """Whether this process holds the lock now."""
        if result is None:
            raise Failed(
                f"The lock could not be acquired: no response within {QUERY_TIMEOUT} s. Is the API server healthy?"
            )
        if result.returncode == 0:
            self._version = json.loads(result.stdout)["metadata"]["resourceVersion"]
            return True
        if any(conflict in result.stderr for conflict in conflicts):
            return False
        raise self._failure(result.stderr)

    def _failure(self, errors: str) -> Failed | Refused:
        if "forbidden" in errors.lower():
            return Refused(
                f"No permission for the lock, the Lease {self._name}: {errors.strip()}\n"
                "The deployer's role grants it. As an administrator, once per namespace: "
                "kubectl --namespace NAMESPACE apply --filename platform/deployer/role.yaml"
            )
        return Failed(
            f"The lock, the Lease {self._name}, could not be read or written: {errors.strip()}\n"
            "Is the cluster of the kubeconfig reachable, and is its token still valid? "
            "(make kubeconfig-ci creates a new one)"
        )


def annotations_of(lease: dict[str, Any]) -> dict[str, str]:
    """The Lease's annotations, which are absent if it never had any."""
    found: dict[str, str] = lease["metadata"].get("annotations") or {}
    return found


def _timestamp() -> str:
    """The current time as Kubernetes' MicroTime."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _kubectl(
    *arguments: str, stdin: str | None = None, timeout: float = QUERY_TIMEOUT
) -> subprocess.CompletedProcess[str] | None:
    """The result, or None on timeout. Ignores signals: a lock that was acquired must be known, renewed while Helm
    terminates, and released. Runs in a separate session, so that Ctrl-C does not reach it."""
    try:
        return subprocess.run(
            ["kubectl", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=max(timeout, 0.1),
            check=False,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        return None
