"""The commands deploy, settle, rollback and history."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

from scripts.commits import is_older
from scripts.deploy.cluster import diagnose
from scripts.deploy.lock import DEPLOY_PREFIX, deploy_lock
from scripts.deploy.processes import QUERY_TIMEOUT, Failed, Refused, run
from scripts.deploy.records import read_records, update_records
from scripts.deploy.release import (
    Revision,
    helm_rollback,
    history,
    last_good,
    recover,
    refuse_if_history_was_pruned,
    stale_pending_revision,
    uninstall,
    unverified_until_success,
    with_details,
)
from scripts.deploy.settings import Settings
from scripts.deploy.smoke import smoke, soak
from scripts.deploy.summary import summarize


def deploy(settings: Settings) -> None:
    """Deploys the commit of the settings, unless it is held or older than one deployed before; rolls back on failure.

    Raises Refused, if nothing was done, or Failed, after the rollback.
    """
    settings.check_image()
    with deploy_lock(settings, f"{DEPLOY_PREFIX}{settings.tag}"):
        recover(settings)
        reason = read_records(settings, "held").get(settings.tag)
        if reason:
            raise Refused(
                f"{settings.tag} is held: {reason}\n"
                f"Usually the fix is a new commit. To deploy this one anyway: make unhold COMMIT={settings.tag}, "
                "then run the same command again."
            )
        revisions = with_details(settings, history(settings))
        # With each, not only the current one: a newer one that was cancelled, failed or rolled back was deployed here,
        # too.
        newer = [r for r in revisions if r.tag and is_older(settings.tag, than=r.tag)]
        if newer:
            latest = newer[-1]
            summarize(
                f"Nothing deployed: {latest.tag} is newer than {settings.tag} and was deployed before "
                f"({latest.status})."
            )
            return
        before = last_good(revisions)
        try:
            with unverified_until_success(settings, settings.tag):
                upgrade(settings)
                smoke(settings, settings.tag)
                soak(settings, settings.tag)
        except Failed as failure:
            print(failure, file=sys.stderr, flush=True)
            refuse_unless_revision_created(settings, revisions)
            diagnose(settings)
            # The upgrade may have pruned some.
            remaining = {revision.number for revision in history(settings)}
            before = last_good([revision for revision in revisions if revision.number in remaining])
            raise Failed(f"{failure}\n{undo_deploy(settings, before)}") from failure
        summarize(
            f"Deployed {settings.repository}:{settings.tag} {settings.digest}".rstrip() + describe_previous(before)
        )


def upgrade(settings: Settings) -> None:
    """`helm upgrade` to the image of the settings. Raises Failed."""
    values = [argument for file in settings.values for argument in ("--values", file)]
    result = run(
        *("scripts/helm.sh", "upgrade", "--install", settings.release, f"platform/helm/{settings.release}", *values),
        *("--set", f"image.repository={settings.repository}", "--set-string", f"image.tag={settings.tag}"),
        *("--set-string", f"image.digest={settings.digest}"),
        *("--history-max", "10", "--wait", "--timeout", f"{settings.timeout}s"),
        show=True,
        timeout=settings.timeout + QUERY_TIMEOUT,
    )
    if result.returncode != 0:
        raise Failed(f"Helm failed to deploy {settings.tag} within {settings.timeout} s.")


def refuse_unless_revision_created(settings: Settings, before: list[Revision]) -> None:
    """Raises Refused if Helm created no revision of this commit: then there is nothing to undo, and any revision
    created concurrently belongs to a Helm that runs without the lock."""
    numbers = [revision.number for revision in before]
    created = with_details(settings, [revision for revision in history(settings) if revision.number not in numbers])
    if any(revision.tag == settings.tag for revision in created):
        return
    if created:
        other = created[-1]
        raise Refused(
            f"Helm is running outside of this script: revision {other.number} of {other.tag or 'no commit'} is "
            f"{other.status}. Helm rejected this deploy; nothing was changed. See: make history"
        )
    raise Refused("Helm rejected the release before creating anything. Fix the error above and redeploy.")


def describe_previous(before: Revision | None) -> str:
    """The end of a summary: what was deployed before."""
    return f". Previously: {before.tag}, revision {before.number}." if before else ". This is the first deploy."


def undo_deploy(settings: Settings, before: Revision | None) -> str:
    """Undoes a failed deploy and returns a message; uninstalls the release if there is no revision to roll back to."""
    if before is None:
        refuse_if_history_was_pruned(settings)
        # Helm can only roll back to a revision that once ran; without one the next deploy installs from scratch.
        uninstall(settings)
        return "It was the first deploy, so there is no revision to roll back to: the release was uninstalled."
    rollback_and_verify(settings, before)
    return f"Rolled back to revision {before.number}: {before.tag} serves. Fix the error above and push."


def rollback_and_verify(settings: Settings, target: Revision) -> None:
    """Rolls back, and verifies the commit on every pod. Raises Failed."""
    with unverified_until_success(settings, target.tag):
        helm_rollback(settings, target.number)
        smoke(settings, target.tag)


def settle(settings: Settings) -> None:
    """Recovers from an interrupted deploy or rollback: verifies a revision whose pods were not verified; if they do not
    serve its commit, or Helm did not complete, rolls back to the last good revision. Prints the outcome.

    Raises Failed.
    """
    with deploy_lock(settings, "settle"):
        pending = stale_pending_revision(settings)
        revisions = with_details(settings, history(settings))
        if not revisions:
            print(f"There is no release {settings.release} in this namespace: nothing to recover.", flush=True)
            return
        newest = revisions[-1]
        name = f"Revision {newest.number} ({newest.tag or 'no commit'})"
        good = last_good([revision for revision in revisions if revision is not newest])
        # A rollback that was interrupted after holding the commit and before leaving it.
        abandoned = newest.held and good is not None and not good.held
        if pending is None and newest.ran and not abandoned:
            if newest.verified:
                print(f"{name} is deployed and verified: nothing to recover.", flush=True)
                return
            try:
                smoke(settings, newest.tag)
            except Failed as failure:
                print(failure, file=sys.stderr, flush=True)
            else:
                update_records(settings, "unconfirmed", {str(newest.number): None})
                summarize(f"{name} was deployed, but not verified. Now it is: its pods serve the commit.")
                return
        diagnose(settings)
        if newest.status == "uninstalling":
            good = None
        state = "is held" if abandoned else f"is unverified (status: {newest.status})"
        summarize(f"{name} {state}. {undo_deploy(settings, good)}")


def rollback(settings: Settings, number: int | None) -> None:
    """Rolls back to a revision (default: the last one with another image), and holds the current commit.

    Raises Refused, if nothing was done, or Failed.
    """
    snapshot = with_details(settings, history(settings))
    if not snapshot:
        raise Refused(
            f"There is no release {settings.release} in this namespace. Is it the right cluster and namespace?"
        )
    choose_target(snapshot, number)  # an invalid request must not stop a deploy
    with deploy_lock(settings, f"rollback from {snapshot[-1].tag or 'no commit'}", stops_deploys=True):
        # A pending revision is not recovered first: that would be another rollback, with all its pods, before this one.
        stale_pending_revision(settings)
        revisions = with_details(settings, history(settings))
        if already_rolled_back(settings, snapshot, revisions, number):
            return
        current = revisions[-1]
        target = choose_target(revisions, number)
        holds_commit = current.tag not in ("", target.tag)
        if holds_commit:
            # First: however the rollback ends, this commit must not be deployed again.
            hold(settings, current)
        if target.held:
            update_records(settings, "held", {target.tag: None})
        diagnose(settings)
        rollback_and_verify(settings, target)
        summarize(
            f"Rolled back to revision {target.number}: {target.tag} serves. "
            + (f"{current.tag} is held until: make unhold COMMIT={current.tag}. " if holds_commit else "")
            + "Revert the commit, or the next push redeploys it. Data that it migrated was not rolled back."
        )


def hold(settings: Settings, current: Revision) -> None:
    """Blocks the commit from being deployed again until it is released with unhold."""
    today = datetime.now(UTC).date().isoformat()
    update_records(settings, "held", {current.tag: f"rolled back on {today} from revision {current.number}"})


def already_rolled_back(
    settings: Settings, snapshot: list[Revision], revisions: list[Revision], number: int | None
) -> bool:
    """Whether the commit to leave was replaced while this waited for the lock, because its deploy failed and rolled
    back. Then it is held, as requested. Raises Refused if another commit was deployed in the meantime, which the
    requester of the rollback has not seen."""
    left = snapshot[-1]
    if not revisions:
        raise Refused("While this waited for the lock, the release was uninstalled. Nothing was changed.")
    newest = revisions[-1]
    if newest.tag == left.tag:
        return False
    now = newest.tag or "no commit"
    complete = newest.ran and newest.verified
    if number is None and left.tag and newest.tag in {revision.tag for revision in snapshot[:-1]}:
        hold(settings, left)
        if not complete:  # the rollback did not complete: this one does
            good = last_good([revision for revision in revisions if revision.tag != left.tag])
            if good is None:
                raise Failed(f"{left.tag} is held, but its rollback did not complete. Complete it: make deploy-settle")
            diagnose(settings)
            rollback_and_verify(settings, good)
            now = good.tag or "no commit"
        summarize(
            f"Nothing to roll back: {left.tag} was rolled back while this waited, and {now} serves. "
            f"{left.tag} is held until: make unhold COMMIT={left.tag}."
        )
        return True
    followed = f"While this waited for the lock, {left.tag or 'no commit'} was followed by {now}"
    if not complete:
        raise Failed(
            f"{followed}, whose deploy did not complete. "
            "Complete it: make deploy-settle. Then check make history, and if still needed: make rollback"
        )
    raise Refused(f"{followed}. Nothing was changed. See: make history. To roll back {now}: make rollback")


def choose_target(revisions: list[Revision], number: int | None) -> Revision:
    """The requested revision, or else the newest verified one with another image than the current revision that is not
    held."""
    ran = [revision for revision in revisions if revision.ran]
    if number is None:
        current = revisions[-1]
        other = [r for r in ran if r is not current and (r.tag != current.tag or not current.ran)]
        candidates = [r for r in other if r.verified and not r.held]
        if not candidates:
            raise Refused(
                "There is no other revision that ran, was verified and is not held. "
                "See: make history. To roll back to one of those anyway: make rollback REVISION=n"
            )
        return candidates[-1]
    for revision in ran:
        if revision.number == number:
            return revision
    options = ", ".join(str(revision.number) for revision in ran) or "none"
    raise Refused(f"Revision {number} never ran, or was pruned. Available: {options} (make history)")


def show_history(settings: Settings) -> None:
    """Prints the revisions, newest first, and the held commits."""
    revisions = with_details(settings, history(settings))
    if not revisions:
        print(f"There is no release {settings.release} in this namespace.")
    for revision in reversed(revisions):
        marks = (" (held)" if revision.held else "") + ("" if revision.verified else " (unverified)")
        when = revision.updated.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
        description = " ".join(revision.description.split())  # that of a failed one may span many lines
        print(f"{revision.number:>4}  {when}  {revision.status:<16} {revision.tag}{marks}  {description}")
    for commit, reason in read_records(settings, "held").items():
        print(f"held  {commit}  {reason}")
