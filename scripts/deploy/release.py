"""The release as Helm has it: its revisions, what a killed deploy left of them, and the way back."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from scripts.deploy.cluster import diagnose
from scripts.deploy.processes import ANSWER_LIMIT, Failed, must, run, wait
from scripts.deploy.records import change, kept
from scripts.deploy.settings import Settings

IN_PROGRESS = ("pending-install", "pending-upgrade", "pending-rollback", "uninstalling")
RAN = ("deployed", "superseded")
NEVER_RAN = re.compile(r'(Upgrade|Release|Rollback) ".*" failed: |Preparing upgrade$|Initial install underway$')


@dataclasses.dataclass(frozen=True)
class Revision:
    """As Helm lists it; `told` adds the rest."""

    number: int
    status: str
    updated: datetime
    description: str
    tag: str = ""
    held: bool = False
    confirmed: bool = True

    @property
    def ran(self) -> bool:
        """Whether its pods were ready once. When the API server refuses a rollback, Helm calls the revision before it
        superseded, even one that had failed or was left pending (3.22 and 4.3). Its description still says so."""
        return self.status in RAN and not NEVER_RAN.match(self.description)


def history(settings: Settings) -> list[Revision]:
    """The revisions that Helm keeps, oldest first; none where there is no release. Raises Failed."""
    done = run("helm", "history", settings.release, "--output", "json")
    if done.returncode != 0:
        if "release: not found" in done.stderr:
            return []
        raise Failed(
            f"The cluster could not be asked for the release {settings.release}: {done.stderr.strip()}\n"
            "Does the kubeconfig lead there, and is its token still valid? (make kubeconfig-ci makes a new one)"
        )
    return [
        Revision(
            number=entry["revision"],
            status=entry["status"],
            updated=datetime.fromisoformat(entry["updated"]),
            description=entry["description"],
        )
        for entry in json.loads(done.stdout)
    ]


def told(settings: Settings, revisions: list[Revision]) -> list[Revision]:
    """With the tag of each, whether that is held, and whether its pods said that they are it."""
    held, unconfirmed = kept(settings, "held"), kept(settings, "unconfirmed")

    def tell(revision: Revision) -> Revision:
        number = str(revision.number)
        values = json.loads(must("helm", "get", "values", settings.release, "--revision", number, "--output", "json"))
        tag = str(((values or {}).get("image") or {}).get("tag", ""))
        # Numbers begin again after an uninstall: the tag says whether the same revision is meant.
        confirmed = unconfirmed.get(number) != tag
        return dataclasses.replace(revision, tag=tag, held=tag in held, confirmed=confirmed)

    return [tell(revision) for revision in revisions]


def last_good(revisions: list[Revision]) -> Revision | None:
    """Where to go when something went wrong. One that is held or was never confirmed only where there is no better one:
    it ran, and nothing is worse."""
    ran = [revision for revision in revisions if revision.ran]
    return max(ran, key=lambda r: (not r.held, r.confirmed, r.status == "deployed", r.number), default=None)


@contextmanager
def on_trial(settings: Settings, tag: str) -> Iterator[None]:
    """The revision that is made meanwhile counts as unconfirmed, until this ends well or no revision was made."""
    numbers = [revision.number for revision in history(settings)]
    number = max(numbers, default=0) + 1
    gone = [known for known in kept(settings, "unconfirmed") if int(known) not in numbers]
    change(settings, "unconfirmed", {**dict.fromkeys(gone), str(number): tag})
    try:
        yield
    except Failed:
        if number not in [revision.number for revision in history(settings)]:
            change(settings, "unconfirmed", {str(number): None})
        raise
    change(settings, "unconfirmed", {str(number): None})


def left_behind(settings: Settings) -> Revision | None:
    """The revision that an ended deploy left pending. Waits while it could still be at work."""
    said = float("-inf")
    seen: dict[int, float] = {}  # since when, by this machine's clock: that of who wrote it may be ahead
    while True:
        revisions = history(settings)
        if not revisions or revisions[-1].status not in IN_PROGRESS:
            return None
        pending = revisions[-1]
        now = time.monotonic()
        age = max((datetime.now(UTC) - pending.updated).total_seconds(), now - seen.setdefault(pending.number, now))
        if age >= settings.settle_age:
            return pending
        # A deploy at work and one that was killed look the same: wait until it has changed, or cannot be alive.
        if time.monotonic() - said >= 10:
            said = time.monotonic()
            print(
                f"Revision {pending.number} has been {pending.status} for {age:.0f} s: somebody may be at work. "
                f"At {settings.settle_age} s it counts as left behind.",
                flush=True,
            )
        wait(1)


def recover(settings: Settings) -> None:
    """Ends what a killed deploy left pending, so that Helm accepts the next one: goes back to the last good revision,
    or removes a release without one."""
    pending = left_behind(settings)
    if pending is None:
        return
    good = last_good(told(settings, history(settings)))
    diagnose(settings)
    if pending.status in ("pending-install", "uninstalling") or good is None:
        refuse_to_remove_what_ran(settings)
        print(f"Revision {pending.number} was left {pending.status}, with nothing to go back to: removed.", flush=True)
        uninstall(settings)
    else:
        print(f"Revision {pending.number} was left {pending.status}: back to revision {good.number}.", flush=True)
        # Nobody asks its pods here: a deploy follows, or settle asks.
        change(settings, "unconfirmed", {str(pending.number + 1): good.tag})
        roll_back_to(settings, good.number)


def refuse_to_remove_what_ran(settings: Settings) -> None:
    """Raises Failed where older revisions are not kept any more: one of them may be what serves, though none that is
    kept ever ran. Helm prunes the oldest first, and spares but one that is `deployed`."""
    kept_revisions = history(settings)
    if kept_revisions and kept_revisions[0].number > 1:
        raise Failed(
            "No revision that is kept ever ran, and older ones are not kept any more, so nothing was removed. "
            "Mend what is above, and deploy again."
        )


def uninstall(settings: Settings) -> None:
    """Removes the release. Raises Failed."""
    must(
        *("helm", "uninstall", settings.release, "--wait", "--timeout", f"{settings.timeout}s"),
        limit=settings.timeout + ANSWER_LIMIT,
    )


def roll_back_to(settings: Settings, revision: int) -> None:
    """Helm's rollback to a revision by its number. Shows the pods and raises Failed where it does not end well."""
    done = run(
        *("scripts/helm.sh", "rollback", settings.release, str(revision)),
        *("--wait", "--timeout", f"{settings.timeout}s", "--history-max", "10"),
        show=True,
        limit=settings.timeout + ANSWER_LIMIT,
    )
    if done.returncode != 0:
        diagnose(settings)
        raise Failed(f"The rollback to revision {revision} failed. See above; then: make history, make deploy-settle")
