"""Deploy, roll back, show the history."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

from scripts.commits import is_older
from scripts.deploy.cluster import diagnose
from scripts.deploy.processes import Failed, Refused, run
from scripts.deploy.records import change, kept
from scripts.deploy.release import (
    RAN,
    Revision,
    history,
    last_good,
    left_behind,
    on_trial,
    roll_back_to,
    settle,
    told,
    uninstall,
)
from scripts.deploy.settings import Settings
from scripts.deploy.smoke import smoke
from scripts.deploy.summary import summarize


def deploy(settings: Settings) -> None:
    """Deploys the commit that the settings name, unless it is held or older than what was here; goes back if it fails.

    Raises Refused, where nothing was done, or Failed, after the way back.
    """
    settings.check_image()
    settle(settings)
    reason = kept(settings, "held").get(settings.tag)
    if reason:
        raise Refused(
            f"{settings.tag} is held: {reason}\n"
            "If it may be deployed again all the same: make unhold COMMIT="
            f"{settings.tag}, then run this again. Usually the way on is a new commit."
        )
    revisions = told(settings, history(settings))
    # With each, not only with what runs: a newer one that was cancelled, failed or went back was here before, too.
    newer = [r for r in revisions if r.tag and is_older(settings.tag, than=r.tag)]
    if newer:
        known = newer[-1]
        summarize(f"Nothing deployed: {known.tag} is newer than {settings.tag} and was here before ({known.status}).")
        return
    before = last_good(revisions)
    try:
        with on_trial(settings, settings.tag):
            upgrade(settings)
            smoke(settings, settings.tag)
    except Failed as failure:
        print(failure, file=sys.stderr, flush=True)
        diagnose(settings)
        raise Failed(f"{failure}\n{go_back(settings, before)}") from failure
    summarize(f"Deployed {settings.repository}:{settings.tag} {settings.digest}".rstrip() + came_from(before))


def upgrade(settings: Settings) -> None:
    """Helm's upgrade to the image that the settings name. Raises Failed."""
    values = [argument for file in settings.values for argument in ("--values", file)]
    done = run(
        *("helm", "upgrade", "--install", settings.release, f"platform/helm/{settings.release}", *values),
        *("--set", f"image.repository={settings.repository}", "--set-string", f"image.tag={settings.tag}"),
        *("--set-string", f"image.digest={settings.digest}"),
        *("--history-max", "10", "--wait", "--timeout", f"{settings.timeout}s"),
        show=True,
    )
    if done.returncode != 0:
        raise Failed(f"Helm could not deploy {settings.tag} within {settings.timeout} s.")


def came_from(before: Revision | None) -> str:
    """The end of a summary: what ran before."""
    return f". Before it ran {before.tag}, revision {before.number}." if before else ". It is the first deploy."


def go_back(settings: Settings, before: Revision | None) -> str:
    """Undoes a failed deploy and says how; without a revision to go back to, the release is removed."""
    if not history(settings):
        return "Helm refused it before anything was made. Mend what it says above, and deploy again."
    if before is None:
        # Helm needs a revision that once ran; without one the next deploy begins from nothing.
        uninstall(settings)
        return "It was the first deploy, so there is nothing to go back to: the release was removed."
    return_to(settings, before)
    return f"Rolled back to revision {before.number}: {before.tag} serves. What failed is above; mend it and push."


def return_to(settings: Settings, target: Revision) -> None:
    """Goes back, and asks every pod for the commit. Raises Failed."""
    with on_trial(settings, target.tag):
        roll_back_to(settings, target.number)
        smoke(settings, target.tag)


def rollback(settings: Settings, number: int | None) -> None:
    """Goes back to a revision, or where none is named to the last other image, and holds the commit that it leaves.

    Raises Refused, where nothing was done, or Failed.
    """
    # What was left pending is not settled first: that would be one more way back, with all its pods, before this one.
    left_behind(settings)
    revisions = told(settings, history(settings))
    if not revisions:
        raise Refused(f"There is no release {settings.release} here. Is it the right cluster and namespace?")
    left = revisions[-1]
    target = choose(revisions, number)
    leaves_a_commit = left.tag not in ("", target.tag)
    if leaves_a_commit:
        today = datetime.now(UTC).date().isoformat()
        # First: whatever becomes of the rollback, nobody deploys again what people ran from.
        change(settings, "held", {left.tag: f"rolled back on {today} from revision {left.number}"})
    if target.held:
        change(settings, "held", {target.tag: None})
    diagnose(settings)
    return_to(settings, target)
    summarize(
        f"Rolled back to revision {target.number}: {target.tag} serves. "
        + (f"{left.tag} is held until: make unhold COMMIT={left.tag}. " if leaves_a_commit else "")
        + "Revert its change, or else the next push brings it back. Data that it migrated stays as it is."
    )


def choose(revisions: list[Revision], number: int | None) -> Revision:
    """The revision asked for, or else the newest of another image than the last that was confirmed and is not held."""
    ran = [revision for revision in revisions if revision.status in RAN]
    if number is None:
        left = revisions[-1]
        other = [r for r in ran if r is not left and (r.tag != left.tag or left.status not in RAN)]
        candidates = [r for r in other if r.confirmed and not r.held]
        if not candidates:
            raise Refused(
                "There is no other revision that ever ran, was confirmed and is not held. "
                "See: make history. One of those, all the same: make rollback REVISION=n"
            )
        return candidates[-1]
    for revision in ran:
        if revision.number == number:
            return revision
    choice = ", ".join(str(revision.number) for revision in ran) or "none"
    raise Refused(f"Revision {number} never ran, or is not kept any more. There is: {choice} (make history)")


def show_history(settings: Settings) -> None:
    """Prints the revisions, newest first, and what is held."""
    revisions = told(settings, history(settings))
    if not revisions:
        print(f"There is no release {settings.release} here.")
    for revision in reversed(revisions):
        marks = (" (held)" if revision.held else "") + ("" if revision.confirmed else " (unconfirmed)")
        when = revision.updated.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
        print(f"{revision.number:>4}  {when}  {revision.status:<16} {revision.tag}{marks}  {revision.description}")
    for commit, reason in kept(settings, "held").items():
        print(f"held  {commit}  {reason}")
