"""Deploy, roll back, show the history."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

from scripts.deploy.cluster import diagnose
from scripts.deploy.holds import change_held, held
from scripts.deploy.processes import Failed, Refused, must, run
from scripts.deploy.release import GOOD, Revision, history, last_good, roll_back_to, settle, with_tag
from scripts.deploy.settings import Image, Settings, of_the_service
from scripts.deploy.smoke import smoke
from scripts.deploy.summary import summarize


def deploy(settings: Settings) -> None:
    image = Image.read()
    settle(settings)
    reason = held(settings).get(image.tag)
    if reason:
        raise Refused(
            f"{image.tag} is held: {reason}\n"
            "If it may be deployed again all the same: make unhold COMMIT="
            f"{image.tag}, then run this again. Usually the way on is a new commit."
        )
    revisions = history(settings)
    good = last_good(revisions)
    before = with_tag(settings, good) if good else None
    if before and is_older(image.tag, than=before.tag):
        summarize(f"Nothing deployed: {before.tag} runs already, which is newer than {image.tag}.")
        return
    try:
        upgrade(settings, image)
        smoke(settings, image.tag)
    except Failed as failure:
        print(failure, file=sys.stderr, flush=True)
        diagnose(settings)
        raise Failed(f"{failure}\n{go_back(settings, before)}") from failure
    summarize(f"Deployed {image.repository}:{image.tag} {image.digest}".rstrip() + came_from(before))


def upgrade(settings: Settings, image: Image) -> None:
    values = [argument for file in of_the_service("DEPLOY_VALUES").split() for argument in ("--values", file)]
    done = run(
        *("helm", "upgrade", "--install", settings.release, f"platform/helm/{settings.release}", *values),
        *("--set", f"image.repository={image.repository}", "--set-string", f"image.tag={image.tag}"),
        *("--set-string", f"image.digest={image.digest}"),
        *("--history-max", "10", "--wait", "--timeout", f"{settings.timeout}s"),
        show=True,
    )
    if done.returncode != 0:
        raise Failed(f"Helm could not deploy {image.tag} within {settings.timeout} s.")


def came_from(before: Revision | None) -> str:
    return f". Before it ran {before.tag}, revision {before.number}." if before else ". It is the first deploy."


def go_back(settings: Settings, before: Revision | None) -> str:
    if before is None:
        # Helm needs a revision that once ran; without one the next deploy begins from nothing.
        must("helm", "uninstall", settings.release, "--wait", "--timeout", f"{settings.timeout}s")
        return "It was the first deploy, so there is nothing to go back to: the release was removed."
    roll_back_to(settings, before.number)
    smoke(settings, before.tag)
    return f"Rolled back to revision {before.number}: {before.tag} serves. What failed is above; mend it and push."


def is_older(commit: str, *, than: str) -> bool:
    """Whether git knows that the commit comes before the other one."""
    done = run("git", "merge-base", "--is-ancestor", commit, than)
    return done.returncode == 0 and commit != than


def rollback(settings: Settings, number: int | None) -> None:
    settle(settings)
    revisions = [with_tag(settings, revision) for revision in history(settings)]
    if not revisions:
        raise Refused(f"There is no release {settings.release} here. Is it the right cluster and namespace?")
    left = revisions[-1]
    target = choose(revisions, number)
    if left.tag != target.tag:
        today = datetime.now(UTC).date().isoformat()
        # First: whatever becomes of the rollback, nobody deploys again what people ran from.
        change_held(settings, **{left.tag: f"rolled back on {today} from revision {left.number}", target.tag: None})
    roll_back_to(settings, target.number)
    smoke(settings, target.tag)
    summarize(
        f"Rolled back to revision {target.number}: {target.tag} serves. "
        + (f"{left.tag} is held until: make unhold COMMIT={left.tag}. " if left.tag != target.tag else "")
        + "Revert its change, or else the next push brings it back. Data that it migrated stays as it is."
    )


def choose(revisions: list[Revision], number: int | None) -> Revision:
    """The revision asked for, or else the newest good one that runs another image than the last."""
    good = [revision for revision in revisions if revision.status in GOOD]
    if number is None:
        left = revisions[-1]
        candidates = [r for r in good if r is not left and (r.tag != left.tag or left.status not in GOOD)]
        if not candidates:
            raise Refused("There is no other revision that ever ran. See: make history")
        return candidates[-1]
    for revision in good:
        if revision.number == number:
            return revision
    choice = ", ".join(str(revision.number) for revision in good) or "none"
    raise Refused(f"Revision {number} never ran, or is not kept any more. There is: {choice} (make history)")


def show_history(settings: Settings) -> None:
    revisions = history(settings)
    if not revisions:
        print(f"There is no release {settings.release} here.")
    kept_back = held(settings)
    for revision in reversed([with_tag(settings, r) for r in revisions]):
        mark = " (held)" if revision.tag in kept_back else ""
        when = revision.updated.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
        print(f"{revision.number:>4}  {when}  {revision.status:<16} {revision.tag}{mark}  {revision.description}")
    for commit, reason in kept_back.items():
        print(f"held  {commit}  {reason}")
