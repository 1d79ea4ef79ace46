"""Deploy, settle, roll back, show the history."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

from scripts.commits import is_older
from scripts.deploy.cluster import diagnose
from scripts.deploy.lock import DEPLOY, exclusive
from scripts.deploy.processes import ANSWER_LIMIT, Failed, Refused, run
from scripts.deploy.records import change, kept
from scripts.deploy.release import (
    Revision,
    history,
    last_good,
    left_behind,
    on_trial,
    recover,
    refuse_to_remove_what_ran,
    roll_back_to,
    told,
    uninstall,
)
from scripts.deploy.settings import Settings
from scripts.deploy.smoke import smoke, soak
from scripts.deploy.summary import summarize


def deploy(settings: Settings) -> None:
    """Deploys the commit that the settings name, unless it is held or older than what was here; goes back if it fails.

    Raises Refused, where nothing was done, or Failed, after the way back.
    """
    settings.check_image()
    with exclusive(settings, f"{DEPLOY}{settings.tag}"):
        recover(settings)
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
            summarize(
                f"Nothing deployed: {known.tag} is newer than {settings.tag} and was here before ({known.status})."
            )
            return
        before = last_good(revisions)
        try:
            with on_trial(settings, settings.tag):
                upgrade(settings)
                smoke(settings, settings.tag)
                soak(settings, settings.tag)
        except Failed as failure:
            print(failure, file=sys.stderr, flush=True)
            refuse_unless_made(settings, revisions)
            diagnose(settings)
            # Of those that are still kept: the upgrade may have pruned one.
            there = {revision.number for revision in history(settings)}
            before = last_good([revision for revision in revisions if revision.number in there])
            raise Failed(f"{failure}\n{go_back(settings, before)}") from failure
        summarize(f"Deployed {settings.repository}:{settings.tag} {settings.digest}".rstrip() + came_from(before))


def upgrade(settings: Settings) -> None:
    """Helm's upgrade to the image that the settings name. Raises Failed."""
    values = [argument for file in settings.values for argument in ("--values", file)]
    done = run(
        *("scripts/helm.sh", "upgrade", "--install", settings.release, f"platform/helm/{settings.release}", *values),
        *("--set", f"image.repository={settings.repository}", "--set-string", f"image.tag={settings.tag}"),
        *("--set-string", f"image.digest={settings.digest}"),
        *("--history-max", "10", "--wait", "--timeout", f"{settings.timeout}s"),
        show=True,
        limit=settings.timeout + ANSWER_LIMIT,
    )
    if done.returncode != 0:
        raise Failed(f"Helm could not deploy {settings.tag} within {settings.timeout} s.")


def refuse_unless_made(settings: Settings, before: list[Revision]) -> None:
    """Raises Refused where Helm made no revision of this commit: there is nothing of it to undo, and what was made
    meanwhile belongs to somebody who calls Helm without the lock."""
    numbers = [revision.number for revision in before]
    made = told(settings, [revision for revision in history(settings) if revision.number not in numbers])
    if any(revision.tag == settings.tag for revision in made):
        return
    if made:
        raise Refused(
            f"Somebody calls Helm by hand: revision {made[-1].number} of {made[-1].tag or 'no commit'} is "
            f"{made[-1].status}. Helm refused this deploy, and nothing was changed. See: make history"
        )
    raise Refused("It was refused before anything was made. Mend what is said above, and deploy again.")


def came_from(before: Revision | None) -> str:
    """The end of a summary: what ran before."""
    return f". Before it ran {before.tag}, revision {before.number}." if before else ". It is the first deploy."


def go_back(settings: Settings, before: Revision | None) -> str:
    """Undoes a failed deploy and says how; without a revision to go back to, the release is removed."""
    if before is None:
        refuse_to_remove_what_ran(settings)
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


def settle(settings: Settings) -> None:
    """Finishes what an interrupted deploy or rollback left: a revision whose pods nobody asked is verified; where they
    do not say its commit, or Helm did not end, the release goes back to the last good one. Says what it found.

    Raises Failed.
    """
    with exclusive(settings, "settle"):
        pending = left_behind(settings)
        revisions = told(settings, history(settings))
        if not revisions:
            print(f"There is no release {settings.release} here: nothing to settle.", flush=True)
            return
        newest = revisions[-1]
        what = f"Revision {newest.number} ({newest.tag or 'no commit'})"
        good = last_good([revision for revision in revisions if revision is not newest])
        # A rollback that ended after it had held what it was to leave, and before it left it.
        abandoned = newest.held and good is not None and not good.held
        if pending is None and newest.ran and not abandoned:
            if newest.confirmed:
                print(f"{what} is deployed, and its pods were asked for the commit: nothing to settle.", flush=True)
                return
            try:
                smoke(settings, newest.tag)
            except Failed as failure:
                print(failure, file=sys.stderr, flush=True)
            else:
                change(settings, "unconfirmed", {str(newest.number): None})
                summarize(f"{what} was deployed, but not verified. Now it is: its pods say the commit.")
                return
        diagnose(settings)
        if newest.status == "uninstalling":
            good = None
        left = "is held" if abandoned else f"was left {newest.status}, not verified"
        summarize(f"{what} {left}. {go_back(settings, good)}")


def rollback(settings: Settings, number: int | None) -> None:
    """Goes back to a revision, or where none is named to the last other image, and holds the commit that it leaves.

    Raises Refused, where nothing was done, or Failed.
    """
    meant = told(settings, history(settings))
    if not meant:
        raise Refused(f"There is no release {settings.release} here. Is it the right cluster and namespace?")
    choose(meant, number)  # what is refused anyway stops no deploy
    with exclusive(settings, f"rollback from {meant[-1].tag or 'no commit'}", stops_deploys=True):
        # What was left pending is not settled first: that would be a way back, with all its pods, before this one.
        left_behind(settings)
        revisions = told(settings, history(settings))
        if left_already(settings, meant, revisions, number):
            return
        left = revisions[-1]
        target = choose(revisions, number)
        leaves_a_commit = left.tag not in ("", target.tag)
        if leaves_a_commit:
            # First: whatever becomes of the rollback, nobody deploys again what people ran from.
            hold(settings, left)
        if target.held:
            change(settings, "held", {target.tag: None})
        diagnose(settings)
        return_to(settings, target)
        summarize(
            f"Rolled back to revision {target.number}: {target.tag} serves. "
            + (f"{left.tag} is held until: make unhold COMMIT={left.tag}. " if leaves_a_commit else "")
            + "Revert its change, or else the next push brings it back. Data that it migrated stays as it is."
        )


def hold(settings: Settings, left: Revision) -> None:
    """Its commit is not deployed again until somebody lifts that."""
    today = datetime.now(UTC).date().isoformat()
    change(settings, "held", {left.tag: f"rolled back on {today} from revision {left.number}"})


def left_already(settings: Settings, meant: list[Revision], revisions: list[Revision], number: int | None) -> bool:
    """Whether the commit that was to be left was left while this waited for the lock: its deploy failed and went back.
    Then it is held, as was asked for. Raises Refused where something else was deployed meanwhile, which whoever asked
    for the rollback has not seen."""
    if revisions and revisions[-1].tag == meant[-1].tag:
        return False
    now = revisions[-1].tag or "no commit" if revisions else "nothing"
    if number is None and now in {revision.tag for revision in meant[:-1]} and meant[-1].tag:
        hold(settings, meant[-1])
        if not (revisions[-1].ran and revisions[-1].confirmed):  # the way back did not end: this goes it
            good = last_good(told(settings, revisions[:-1]))
            if good is None:
                raise Failed(f"{meant[-1].tag} is held, and its way back did not end. Finish it: make deploy-settle")
            diagnose(settings)
            return_to(settings, good)
            now = good.tag
        summarize(
            f"Nothing to roll back: {meant[-1].tag} was left while this waited, and {now} serves. "
            f"{meant[-1].tag} is held until: make unhold COMMIT={meant[-1].tag}."
        )
        return True
    if revisions and not (revisions[-1].ran and revisions[-1].confirmed):
        raise Failed(
            f"While this waited for the lock, {meant[-1].tag} was followed by {now}, whose deploy did not end. "
            "Finish it: make deploy-settle. Then look at make history, and if it is still needed: make rollback"
        )
    raise Refused(
        f"While this waited for the lock, {meant[-1].tag} was followed by {now}. Nothing was changed. "
        "See: make history. If it is the latter that has to go: make rollback"
    )


def choose(revisions: list[Revision], number: int | None) -> Revision:
    """The revision asked for, or else the newest of another image than the last that was confirmed and is not held."""
    ran = [revision for revision in revisions if revision.ran]
    if number is None:
        left = revisions[-1]
        other = [r for r in ran if r is not left and (r.tag != left.tag or not left.ran)]
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
        description = " ".join(revision.description.split())  # that of a failed one may have many lines
        print(f"{revision.number:>4}  {when}  {revision.status:<16} {revision.tag}{marks}  {description}")
    for commit, reason in kept(settings, "held").items():
        print(f"held  {commit}  {reason}")
