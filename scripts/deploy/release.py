"""The Helm release: its revisions, recovery from an interrupted deploy, and rollback."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from scripts.deploy.cluster import diagnose
from scripts.deploy.processes import QUERY_TIMEOUT, Failed, check_output, run, wait
from scripts.deploy.records import read_records, update_records
from scripts.deploy.settings import Settings

IN_PROGRESS = ("pending-install", "pending-upgrade", "pending-rollback", "uninstalling")
RAN = ("deployed", "superseded")
NEVER_RAN = re.compile(r'(Upgrade|Release|Rollback) ".*" failed: |Preparing upgrade$|Initial install underway$')


@dataclasses.dataclass(frozen=True)
class Revision:
    """A revision as listed by Helm; `with_details` adds the rest."""

    number: int
    status: str
    updated: datetime
    description: str
    tag: str = ""
    held: bool = False
    verified: bool = True

    @property
    def ran(self) -> bool:
        """Whether its pods were ever ready. If the API server rejects a rollback, Helm marks the preceding revision as
        superseded, even one that had failed or was pending (3.22 and 4.3). Its description still tells."""
        return self.status in RAN and not NEVER_RAN.match(self.description)


def history(settings: Settings) -> list[Revision]:
    """The revisions that Helm keeps, oldest first; empty if there is no release. Raises Failed."""
    result = run("helm", "history", settings.release, "--output", "json")
    if result.returncode != 0:
        if "release: not found" in result.stderr:
            return []
        raise Failed(
            f"Reading the history of the release {settings.release} failed: {result.stderr.strip()}\n"
            "Is the cluster of the kubeconfig reachable, and is its token still valid? (make kubeconfig-ci creates "
            "a new one)"
        )
    return [
        Revision(
            number=entry["revision"],
            status=entry["status"],
            updated=datetime.fromisoformat(entry["updated"]),
            description=entry["description"],
        )
        for entry in json.loads(result.stdout)
    ]


def with_details(settings: Settings, revisions: list[Revision]) -> list[Revision]:
    """Adds each revision's tag, whether that is held, and whether its pods were verified."""
    held, unconfirmed = read_records(settings, "held"), read_records(settings, "unconfirmed")

    def details_of(revision: Revision) -> Revision:
        number = str(revision.number)
        values = json.loads(
            check_output("helm", "get", "values", settings.release, "--revision", number, "--output", "json")
        )
        tag = str(((values or {}).get("image") or {}).get("tag", ""))
        # Numbers start over after an uninstall: the tag shows whether this is the same revision.
        verified = unconfirmed.get(number) != tag
        return dataclasses.replace(revision, tag=tag, held=tag in held, verified=verified)

    return [details_of(revision) for revision in revisions]


def last_good(revisions: list[Revision]) -> Revision | None:
    """The rollback target after a failure. A held or unverified revision only if there is no better one: it did run,
    and no release at all would be worse."""
    ran = [revision for revision in revisions if revision.ran]
    return max(ran, key=lambda r: (not r.held, r.verified, r.status == "deployed", r.number), default=None)


@contextmanager
def unverified_until_success(settings: Settings, tag: str) -> Iterator[None]:
    """Records the revision created inside as unverified, until the block succeeds or no revision was created."""
    numbers = [revision.number for revision in history(settings)]
    number = max(numbers, default=0) + 1
    pruned = [recorded for recorded in read_records(settings, "unconfirmed") if int(recorded) not in numbers]
    update_records(settings, "unconfirmed", {**dict.fromkeys(pruned), str(number): tag})
    try:
        yield
    except Failed:
        if number not in [revision.number for revision in history(settings)]:
            update_records(settings, "unconfirmed", {str(number): None})
        raise
    update_records(settings, "unconfirmed", {str(number): None})


def stale_pending_revision(settings: Settings) -> Revision | None:
    """The revision that an interrupted deploy left pending. Waits while that deploy may still be running."""
    reported = float("-inf")
    first_seen: dict[int, float] = {}  # by this machine's clock: that of the writer may be ahead
    while True:
        revisions = history(settings)
        if not revisions or revisions[-1].status not in IN_PROGRESS:
            return None
        pending = revisions[-1]
        now = time.monotonic()
        age = max(
            (datetime.now(UTC) - pending.updated).total_seconds(), now - first_seen.setdefault(pending.number, now)
        )
        if age >= settings.settle_age:
            return pending
        # A running deploy and a killed one look the same: wait until the status changes or the deploy cannot be alive.
        if time.monotonic() - reported >= 10:
            reported = time.monotonic()
            print(
                f"Revision {pending.number} has been {pending.status} for {age:.0f} s: another deploy may be running. "
                f"After {settings.settle_age} s it counts as stale.",
                flush=True,
            )
        wait(1)


def recover(settings: Settings) -> None:
    """Resolves a pending revision of a killed deploy, so that Helm accepts the next one: rolls back to the last good
    revision, or uninstalls a release that has none."""
    pending = stale_pending_revision(settings)
    if pending is None:
        return
    good = last_good(with_details(settings, history(settings)))
    diagnose(settings)
    if pending.status in ("pending-install", "uninstalling") or good is None:
        refuse_if_history_was_pruned(settings)
        print(
            f"Revision {pending.number} is stuck in {pending.status}: uninstalling, no revision to roll back to",
            flush=True,
        )
        uninstall(settings)
    else:
        print(
            f"Revision {pending.number} is stuck in {pending.status}: rolling back to revision {good.number}",
            flush=True,
        )
        # Its pods are not verified here: a deploy follows, or settle verifies them.
        update_records(settings, "unconfirmed", {str(pending.number + 1): good.tag})
        helm_rollback(settings, good.number)


def refuse_if_history_was_pruned(settings: Settings) -> None:
    """Raises Failed if older revisions were pruned: one of them may be the one that serves, though none in the history
    ever ran. Helm prunes the oldest first, and spares only one that is `deployed`. An interrupted uninstall is
    completed in any case: it was to remove all of them."""
    revisions = history(settings)
    if revisions and revisions[0].number > 1 and revisions[-1].status != "uninstalling":
        raise Failed(
            "No revision in the history ever ran, and older ones were pruned, so the release was not uninstalled. "
            "Fix the error above and redeploy."
        )


def uninstall(settings: Settings) -> None:
    """Uninstalls the release. Raises Failed."""
    check_output(
        *("helm", "uninstall", settings.release, "--wait", "--timeout", f"{settings.timeout}s"),
        timeout=settings.timeout + QUERY_TIMEOUT,
    )


def helm_rollback(settings: Settings, revision: int) -> None:
    """Runs `helm rollback` to a revision. Prints diagnostics and raises Failed if it fails."""
    result = run(
        *("scripts/helm.sh", "rollback", settings.release, str(revision)),
        *("--wait", "--timeout", f"{settings.timeout}s", "--history-max", "10"),
        show=True,
        timeout=settings.timeout + QUERY_TIMEOUT,
    )
    if result.returncode != 0:
        diagnose(settings)
        raise Failed(f"The rollback to revision {revision} failed, see above. Next: make history, make deploy-settle")
