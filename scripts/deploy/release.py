"""The release as Helm has it: its revisions, what a killed deploy left of them, and the way back."""

from __future__ import annotations

import dataclasses
import json
import time
from datetime import UTC, datetime

from scripts.deploy.cluster import diagnose
from scripts.deploy.processes import Failed, must, run, wait
from scripts.deploy.settings import Settings

IN_PROGRESS = ("pending-install", "pending-upgrade", "pending-rollback", "uninstalling")
GOOD = ("deployed", "superseded")


@dataclasses.dataclass(frozen=True)
class Revision:
    number: int
    status: str
    updated: datetime
    description: str
    tag: str = ""


def history(settings: Settings) -> list[Revision]:
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


def with_tag(settings: Settings, revision: Revision) -> Revision:
    values = json.loads(
        must("helm", "get", "values", settings.release, "--revision", str(revision.number), "--output", "json")
    )
    return dataclasses.replace(revision, tag=str(((values or {}).get("image") or {}).get("tag", "")))


def last_good(revisions: list[Revision]) -> Revision | None:
    """What runs, or ran before something went wrong: the deployed revision, or else the newest superseded one."""
    good = [r for r in revisions if r.status == "deployed"] or [r for r in revisions if r.status == "superseded"]
    return good[-1] if good else None


def settle(settings: Settings) -> None:
    told = float("-inf")
    while True:
        revisions = history(settings)
        if not revisions or revisions[-1].status not in IN_PROGRESS:
            return
        pending = revisions[-1]
        age = (datetime.now(UTC) - pending.updated).total_seconds()
        if age >= settings.settle_age:
            break
        # A deploy at work and one that was killed look the same: wait until it has changed, or cannot be alive.
        if time.monotonic() - told >= 10:
            told = time.monotonic()
            print(
                f"Revision {pending.number} has been {pending.status} for {age:.0f} s: somebody may be at work. "
                f"At {settings.settle_age} s it counts as left behind.",
                flush=True,
            )
        wait(1)
    good = last_good(revisions)
    if good is None or pending.status in ("pending-install", "uninstalling"):
        print(f"Revision {pending.number} was left {pending.status}, with nothing to go back to: removed.", flush=True)
        must("helm", "uninstall", settings.release, "--wait", "--timeout", f"{settings.timeout}s")
    else:
        print(f"Revision {pending.number} was left {pending.status}: back to revision {good.number}.", flush=True)
        roll_back_to(settings, good.number)


def roll_back_to(settings: Settings, revision: int) -> None:
    command = ["helm", "rollback", settings.release, str(revision), "--wait", "--timeout", f"{settings.timeout}s"]
    if run(*command, "--history-max", "10", show=True).returncode != 0:
        diagnose(settings)
        raise Failed(f"The rollback to revision {revision} failed, too. See above; then: make history, make rollback")
