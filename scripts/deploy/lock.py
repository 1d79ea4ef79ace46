"""One deployer at a time: the Lease RELEASE-deploy in the namespace is the lock.

Helm has none that is enough: `helm upgrade` refuses where a revision is pending, which its caller cannot tell from a
failed upgrade of its own, and `helm rollback` does not look (Helm 3.22). So deploy, rollback and settle take the Lease
first, and Helm is never asked by two.

The protocol is that of Kubernetes' leader election (client-go, tools/leaderelection). The holder renews. Whoever waits
takes the Lease over after leaseDurationSeconds without a renewal, by its own clock, so that clocks need not agree. Each
write names the resourceVersion that it is based on, so of two that take it over at once one is refused. A holder that
could not renew for two thirds of that time stops what it does, before anybody else may begin.

A rollback does not wait for a deploy to end: an annotation of the Lease asks the deploy to stop, which it sees when it
next renews; and then it is the rollback's turn, whoever else waits.
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

from scripts.deploy.processes import ANSWER_LIMIT, Failed, Refused, run, stop_for_lost_lock, wait
from scripts.deploy.settings import Settings

RENEWALS = 6
"""How often the Lease is renewed within its duration."""
POLL_EVERY = 2
"""Seconds between two looks at a lock that another holds."""
REPORT_EVERY = 10
"""Seconds between two lines about a lock that is waited for."""


DEPLOY = "deploy of "
"""How the name of a holder begins that a rollback may ask to stop."""
STOP = "task-platform/stop-for"
"""The annotation that asks for it; its value is who asks."""
FINISH = "To finish what is there, verified or back to what ran before: make deploy-settle"


@contextmanager
def exclusive(settings: Settings, purpose: str, *, stops_deploys: bool = False) -> Iterator[None]:
    """Holds the lock of the release. Waits while another holds it; a deploy is asked to stop, if that is wanted.

    Raises Refused, where nothing was changed, when that takes longer than the settings allow, and Failed where the
    cluster cannot be asked. Whatever is run inside raises LockLost once the lock cannot be kept.
    """
    lock = Lock(settings, f"{purpose} by {deployer()}", stops_deploys)
    lock.acquire()
    renewing = threading.Thread(target=lock.keep_or_stop, daemon=True)
    renewing.start()
    try:
        yield
    finally:
        lock.released.set()
        renewing.join()
        lock.release()


def deployer() -> str:
    """Who this is, for others who wait: the run on GitHub, or who is at which machine."""
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
    """The Lease as this process sees it. `acquire`, `keep_or_stop` and `release` are called in this order."""

    def __init__(self, settings: Settings, holder: str, stops_deploys: bool) -> None:
        self.released = threading.Event()
        self._name = f"{settings.release}-deploy"
        self._patience = settings.lock_timeout
        self._duration = settings.lease_duration
        self._holder = f"{holder} [{secrets.token_hex(4)}]"  # two attempts of one process are two holders
        self._stops_deploys = stops_deploys
        self._version = ""

    def acquire(self) -> None:
        """Returns when this process holds the lock; raises Refused after the time that is allowed for it."""
        started = time.monotonic()
        reported = float("-inf")
        seen, unchanged_since = "", started
        while True:
            lease = self._read()
            now = time.monotonic()
            holder = self._ahead(lease)
            if lease is None:
                taken = self._create()
            elif not holder:
                taken = self._take(lease)
            else:
                if lease["metadata"]["resourceVersion"] != seen:
                    seen, unchanged_since = lease["metadata"]["resourceVersion"], now
                dead = now - unchanged_since > lease["spec"].get("leaseDurationSeconds", self._duration)
                if dead:
                    print(f"{holder} gives no sign of life any more: taking over.", flush=True)
                taken = dead and self._take(lease)
                if self._stops_deploys and not dead:
                    self._ask_to_stop(lease)
            if taken:
                return
            if not holder:
                continue  # another was quicker: see who it is
            if now - started > self._patience:
                raise Refused(
                    f"{holder} is still at it after {self._patience} s. Nothing was changed. Look how far it is "
                    f"(kubectl get lease {self._name} --output yaml; make history), then run this again."
                )
            if now - started - reported >= REPORT_EVERY:
                reported = now - started
                print(f"Waiting for {holder}: {now - started:.0f} s", flush=True)
            wait(POLL_EVERY)

    def keep_or_stop(self) -> None:
        """Renews the Lease until it is released. Where that cannot be done, whatever the reason, stops the deploy."""
        try:
            self._keep()
        except (OSError, ValueError, KeyError, TypeError) as error:  # no process, no memory, an answer that is none
            stop_for_lost_lock(f"The lock could not be renewed ({error!r}), so this one stopped. {FINISH}")

    def _keep(self) -> None:
        interval = self._duration / RENEWALS
        tolerated = self._duration * 2 / 3
        deadline = time.monotonic() + tolerated
        while not self.released.wait(interval):
            begun = time.monotonic()
            if self._renew(limit=min(interval, deadline - begun)):
                deadline = begun + tolerated
                continue
            reason = self._reason_to_stop(limit=min(interval, deadline - time.monotonic()))
            if reason:
                stop_for_lost_lock(f"{reason}, so this one stopped. {FINISH}")
                return
            if time.monotonic() >= deadline:
                stop_for_lost_lock(
                    f"The lock could not be renewed for {tolerated:.0f} s. Another may deploy by now, so this one "
                    f"stopped. {FINISH}"
                )
                return

    def release(self) -> None:
        """Frees the Lease, also where a rollback has just asked for it. Where that fails it runs out by itself."""
        free = {"holderIdentity": None, "acquireTime": None, "renewTime": None}
        done = self._patch(self._version, free)
        if done is not None and done.returncode != 0:
            self._reason_to_stop(ANSWER_LIMIT)  # which takes note of the version, where this is still the holder
            self._patch(self._version, free)

    def _ahead(self, lease: dict[str, Any] | None) -> str | None:
        """Who comes before this process: the holder; or else, before a deploy, a rollback that asked the last one to
        stop. Among many deploys that wait it would not be the next one otherwise."""
        if lease is None:
            return None
        holder: str | None = lease["spec"].get("holderIdentity")
        return holder or (None if self._stops_deploys else annotations_of(lease).get(STOP))

    # --- requests ---------------------------------------------------------------------

    def _read(self) -> dict[str, Any] | None:
        """The Lease, or None where there is none. Raises Failed, and Cancelled after a signal."""
        done = run("kubectl", "get", "lease", self._name, "--ignore-not-found", "--output", "json")
        if done.returncode != 0:
            raise self._failure(done.stderr)
        found: dict[str, Any] | None = json.loads(done.stdout) if done.stdout.strip() else None
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
        done = _kubectl("create", "--filename", "-", "--output", "json", given=json.dumps(lease))
        return self._adopt(done, refusals=("AlreadyExists", "already exists"))

    def _take(self, lease: dict[str, Any]) -> bool:
        now = _timestamp()
        changes = {
            "holderIdentity": self._holder,
            "leaseDurationSeconds": self._duration,
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": lease["spec"].get("leaseTransitions", 0) + 1,
        }
        done = self._patch(lease["metadata"]["resourceVersion"], changes, {STOP: None})
        return self._adopt(done, refusals=("Conflict", "the object has been modified"))

    def _renew(self, limit: float) -> bool:
        done = self._patch(self._version, {"renewTime": _timestamp()}, limit=limit)
        if done is None or done.returncode != 0:
            return False
        self._version = json.loads(done.stdout)["metadata"]["resourceVersion"]
        return True

    def _reason_to_stop(self, limit: float) -> str:
        """Who else holds the Lease, or wants it; nothing where that cannot be found out, or nobody does: then the
        answer to a renewal was lost, and this goes on from what is there."""
        done = _kubectl("get", "lease", self._name, "--output", "json", limit=limit)
        if done is None or done.returncode != 0:
            return ""
        lease = json.loads(done.stdout)
        holder = lease["spec"].get("holderIdentity") or "Somebody else"
        if holder != self._holder:
            return f"{holder} took the lock"
        self._version = lease["metadata"]["resourceVersion"]
        asking = annotations_of(lease).get(STOP)
        return f"{asking} asked for that" if asking else ""

    def _ask_to_stop(self, lease: dict[str, Any]) -> None:
        """Asks a deploy, once. Where the Lease has just changed, the next look is early enough."""
        holder = lease["spec"]["holderIdentity"]
        if holder.startswith(DEPLOY) and STOP not in annotations_of(lease):
            print(f"Asking {holder} to stop", flush=True)
            self._patch(lease["metadata"]["resourceVersion"], {}, {STOP: self._holder})

    def _patch(
        self,
        version: str,
        changes: dict[str, Any],
        annotations: dict[str, str | None] | None = None,
        *,
        limit: float = ANSWER_LIMIT,
    ) -> subprocess.CompletedProcess[str] | None:
        """With a resourceVersion: refused where the Lease has changed since."""
        metadata = {"resourceVersion": version, "annotations": annotations or {}}
        patch = json.dumps({"metadata": metadata, "spec": changes})
        return _kubectl("patch", "lease", self._name, "--type=merge", "--patch", patch, "--output", "json", limit=limit)

    def _adopt(self, done: subprocess.CompletedProcess[str] | None, refusals: tuple[str, ...]) -> bool:
        """Whether this process has the lock now."""
        if done is None:
            raise Failed(f"The lock could not be taken: no answer within {ANSWER_LIMIT} s. Is the API server well?")
        if done.returncode == 0:
            self._version = json.loads(done.stdout)["metadata"]["resourceVersion"]
            return True
        if any(refusal in done.stderr for refusal in refusals):
            return False
        raise self._failure(done.stderr)

    def _failure(self, errors: str) -> Failed | Refused:
        if "forbidden" in errors.lower():
            return Refused(
                f"The lock, the Lease {self._name}, may not be used: {errors.strip()}\n"
                "The deployer's role has a rule for it. As an administrator, once for each namespace: "
                "kubectl --namespace NAMESPACE apply --filename platform/deployer/role.yaml"
            )
        return Failed(
            f"The lock, the Lease {self._name}, could not be asked for: {errors.strip()}\n"
            "Does the kubeconfig lead to a cluster that answers, and is its token still valid? "
            "(make kubeconfig-ci makes a new one)"
        )


def annotations_of(lease: dict[str, Any]) -> dict[str, str]:
    """Those of the Lease, which has none where it was never given one."""
    found: dict[str, str] = lease["metadata"].get("annotations") or {}
    return found


def _timestamp() -> str:
    """Now, as Kubernetes' MicroTime."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _kubectl(
    *arguments: str, given: str | None = None, limit: float = ANSWER_LIMIT
) -> subprocess.CompletedProcess[str] | None:
    """The outcome, or None where there is no answer in time. Whatever signal comes: a lock that was taken must be
    known, renewed while Helm ends, and released. In a session of its own, so that Ctrl-C does not reach it."""
    try:
        return subprocess.run(
            ["kubectl", *arguments],
            input=given,
            capture_output=True,
            text=True,
            timeout=max(limit, 0.1),
            check=False,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        return None
