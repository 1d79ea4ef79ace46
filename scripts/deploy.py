"""Deploys an image with Helm, so that an end at any point leaves a release that the next run can take up.

    scripts/deploy.sh deploy              settles, upgrades, asks the pods for the commit; goes back if that fails
    scripts/deploy.sh settle              recovers a release that an ended deploy left pending
    scripts/deploy.sh smoke [COMMIT]      asks every pod for its commit (without one: the deployed one)
    scripts/deploy.sh rollback [REVISION] goes back (without one: to the last good other image) and holds what it left
    scripts/deploy.sh history             revisions, with their images and what is held
    scripts/deploy.sh unhold COMMIT       lets a held commit be deployed again

Which cluster and namespace: KUBE_CONFIG (a kubeconfig, base64) or KUBECONFIG (a file), and its current context.

    SERVICE (task-api)              whose release it is
    IMAGE_REPOSITORY, IMAGE_TAG     what to deploy; the tag is the full commit, never `latest`
    IMAGE_DIGEST                    sha256:... of it, which then decides
    IMAGE_DIGESTS                   a folder with a file for each service instead, named after it, its digest in it:
                                    deploy and settle then do one service after the other
    DEPLOY_VALUES                   files of values for the chart, separated by spaces
    DEPLOY_TIMEOUT (120s)           how long an upgrade, and a rollback, may take
    SETTLE_AGE (DEPLOY_TIMEOUT and 30 s)  how old a pending revision must be to count as left behind
    SMOKE_TIMEOUT (60s)             how long pods may take until all say the commit: old ones end after Helm's wait
    PRODUCTION_URL                  an address of the service that smoke asks, too, after the pods

In IMAGE_REPOSITORY, DEPLOY_VALUES and PRODUCTION_URL {0} stands for the service's name.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

IN_PROGRESS = ("pending-install", "pending-upgrade", "pending-rollback", "uninstalling")
GOOD = ("deployed", "superseded")

signals_received: list[int] = []


class Refused(Exception):
    """Nothing was done, for a reason that the message gives."""


class Failed(Exception):
    """Something was tried and failed."""


class Cancelled(Exception):
    """A signal asked for the end."""


def remember(signum: int, _frame: FrameType | None) -> None:
    signals_received.append(signum)


# --- processes ------------------------------------------------------------------------


def run(*command: str, show: bool = False) -> subprocess.CompletedProcess[str]:
    """The command's outcome. Signals are passed on to it, and it is given the time to end by itself: Helm then
    marks the revision as failed, where killed it would leave it pending."""
    pipe = None if show else subprocess.PIPE
    passed_on = 0
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        while True:
            try:
                output, errors = process.communicate(timeout=0.1)
                break
            except subprocess.TimeoutExpired:
                if len(signals_received) > passed_on:
                    passed_on = len(signals_received)
                    process.terminate()
    if signals_received:
        raise Cancelled
    return subprocess.CompletedProcess(command, process.returncode, output or "", errors or "")


def wait(seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if signals_received:
            raise Cancelled
        time.sleep(min(0.1, seconds))


def must(*command: str) -> str:
    done = run(*command)
    if done.returncode != 0:
        raise Failed(f"{' '.join(command[:3])} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


# --- settings -------------------------------------------------------------------------


def seconds(name: str, default: int) -> int:
    text = os.environ.get(name) or f"{default}s"
    found = re.fullmatch(r"(\d+)(s|m)", text)
    if found is None:
        raise Refused(f"{name}={text} is not a time. Give seconds or minutes: 120s, 2m")
    return int(found[1]) * (60 if found[2] == "m" else 1)


def of_the_service(name: str) -> str:
    """The variable, for the service that is deployed."""
    return os.environ.get(name, "").replace("{0}", release())


def release() -> str:
    return os.environ.get("SERVICE") or "task-api"


def each_service() -> Iterator[None]:
    """Sets SERVICE and IMAGE_DIGEST once for each file of IMAGE_DIGESTS; without it leaves them as they are, once."""
    folder = os.environ.get("IMAGE_DIGESTS")
    if not folder:
        yield
        return
    files = sorted(Path(folder).glob("*"))
    if not files:
        raise Refused(f"IMAGE_DIGESTS={folder} has no digest in it. Was anything pushed?")
    if len(files) > 1 and "{0}" not in os.environ.get("IMAGE_REPOSITORY", ""):
        raise Refused(
            f"IMAGE_REPOSITORY names one repository for {len(files)} services. Put {{0}} where their names belong: "
            "docker.io/you/{0}"
        )
    for file in files:
        os.environ["SERVICE"], os.environ["IMAGE_DIGEST"] = file.name, file.read_text().strip()
        yield


@dataclasses.dataclass(frozen=True)
class Settings:
    release: str
    timeout: int
    settle_age: int
    smoke_timeout: int
    production_url: str

    @classmethod
    def read(cls) -> Settings:
        timeout = seconds("DEPLOY_TIMEOUT", 120)
        return cls(
            release=release(),
            timeout=timeout,
            settle_age=seconds("SETTLE_AGE", timeout + 30),
            smoke_timeout=seconds("SMOKE_TIMEOUT", 60),
            production_url=of_the_service("PRODUCTION_URL").rstrip("/"),
        )


@dataclasses.dataclass(frozen=True)
class Image:
    repository: str
    tag: str
    digest: str

    @classmethod
    def read(cls) -> Image:
        repository, tag = of_the_service("IMAGE_REPOSITORY"), os.environ.get("IMAGE_TAG", "")
        digest = os.environ.get("IMAGE_DIGEST", "")
        if not repository:
            raise Refused(
                "IMAGE_REPOSITORY is not set. Say where the image is: IMAGE_REPOSITORY=docker.io/you/task-api"
            )
        if not tag:
            raise Refused("IMAGE_TAG is not set. Name the commit to deploy: IMAGE_TAG=$(git rev-parse HEAD)")
        if tag == "latest":
            raise Refused("IMAGE_TAG=latest is refused: the same tag again changes no pod. Name the commit.")
        if digest and not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
            raise Refused(f"IMAGE_DIGEST={digest} is not a digest. It is sha256: and 64 hexadecimal digits.")
        return cls(repository, tag, digest)


@contextmanager
def kubeconfig() -> Iterator[None]:
    """KUBECONFIG for Helm and kubectl. Never the cluster that this machine happens to use."""
    encoded = os.environ.pop("KUBE_CONFIG", "")
    if not encoded:
        if not os.environ.get("KUBECONFIG"):
            raise Refused("Which cluster? Set KUBECONFIG to a kubeconfig's path, or KUBE_CONFIG to its base64.")
        yield
        return
    try:
        text = base64.b64decode("".join(encoded.split()), validate=True)
    except binascii.Error as error:
        raise Refused(
            "KUBE_CONFIG is not base64. Make it: base64 -w 0 kubeconfig (macOS: base64 -i kubeconfig)"
        ) from error
    with tempfile.TemporaryDirectory() as folder:  # for this user alone
        file = Path(folder, "kubeconfig")
        file.write_bytes(text)
        os.environ["KUBECONFIG"] = str(file)
        yield


# --- the release ----------------------------------------------------------------------


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


def pods(settings: Settings) -> list[Any]:
    """The API's pods that stay."""
    selector = f"app.kubernetes.io/instance={settings.release},app.kubernetes.io/component=api"
    found = json.loads(must("kubectl", "get", "pods", "--selector", selector, "--output", "json"))["items"]
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def diagnose(settings: Settings) -> None:
    """What the cluster knows of the failure. A rollback removes it, so it is asked before."""
    selector = f"app.kubernetes.io/instance={settings.release}"
    logs = ("kubectl", "logs", "--selector", selector, "--all-containers", "--prefix", "--tail=40")
    questions = {
        "Pods": ("kubectl", "get", "pods", "--selector", selector, "--output", "wide"),
        "Description of the pods": ("kubectl", "describe", "pods", "--selector", selector),
        "Events": ("kubectl", "get", "events", "--sort-by=.lastTimestamp"),
        "Logs": logs,
        "Logs before the last restart": (*logs, "--previous"),
    }
    on_github = os.environ.get("GITHUB_ACTIONS") == "true"
    for title, command in questions.items():
        print(f"::group::{title}" if on_github else f"\n--- {title}", flush=True)
        # One that has no answer (logs of a container that never ran) says so itself and hides none of the others.
        run(*command, show=True)
        if on_github:
            print("::endgroup::", flush=True)


# --- held commits ---------------------------------------------------------------------


def held(settings: Settings) -> dict[str, str]:
    """Commits that a rollback left, with the reason. In a ConfigMap: it outlives revisions, and even the release."""
    text = must("kubectl", "get", "configmap", f"{settings.release}-held", "--ignore-not-found", "--output", "json")
    found: dict[str, str] = (json.loads(text).get("data") or {}) if text.strip() else {}
    return found


def change_held(settings: Settings, **changes: str | None) -> None:
    name = f"{settings.release}-held"
    if not must("kubectl", "get", "configmap", name, "--ignore-not-found", "--output", "name").strip():
        must("kubectl", "create", "configmap", name)
    must("kubectl", "patch", "configmap", name, "--type=merge", "--patch", json.dumps({"data": changes}))


# --- asking the service ---------------------------------------------------------------


def smoke(settings: Settings, commit: str) -> None:
    deadline = time.monotonic() + settings.smoke_timeout
    while True:
        found = pods(settings)
        problems = [problem for pod in found if (problem := ask_pod(pod["metadata"]["name"], commit))]
        if settings.production_url:
            problem = ask(settings.production_url, commit)
            problems += [problem] if problem else []
        if found and not problems:
            print(f"{len(found)} pods answer, and each says that it is {commit}", flush=True)
            return
        if time.monotonic() > deadline:
            first = f"The service is not {commit} after {settings.smoke_timeout} s:"
            raise Failed("\n".join([first, *(problems or ["no pod"])]))
        wait(1)


def ask_pod(pod: str, commit: str) -> str:
    """Nothing if the pod answers with the commit, or else what is wrong. By a port-forward, which no NetworkPolicy
    stops."""
    command = ["kubectl", "port-forward", f"pod/{pod}", ":8000", "--address", "127.0.0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as forward:
        try:
            assert forward.stdout is not None
            line = forward.stdout.readline()
            port = re.search(r"127\.0\.0\.1:(\d+)", line)
            if port is None:
                forward.terminate()
                return f"{pod}: {forward.communicate()[1].strip() or line.strip()}"
            problem = ask(f"http://127.0.0.1:{port[1]}", commit)
            return f"{pod}: {problem}" if problem else ""
        finally:
            forward.terminate()


def ask(url: str, commit: str) -> str:
    try:
        # Of a port-forward, or PRODUCTION_URL.
        with urllib.request.urlopen(f"{url}/health", timeout=10) as answer:  # noqa: S310  # chosen by who deploys
            revision = json.loads(answer.read())["revision"]
    except (OSError, ValueError, KeyError) as error:
        return f"{url}/health: {error}"
    return "" if revision == commit else f"{url}/health says that it is {revision}"


# --- the verbs ------------------------------------------------------------------------


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


def summarize(text: str) -> None:
    """On the terminal, and on the run's page."""
    print(text, flush=True)
    write_summary(text)


def write_summary(text: str) -> None:
    if page := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(page).open("a") as file:
            file.write(text.replace("\n", "\n\n") + "\n\n")


def do(arguments: list[str]) -> None:
    settings = Settings.read()
    for tool in ("helm", "kubectl"):
        if shutil.which(tool) is None:
            raise Refused(f"{tool} is needed and was not found. docs/delivery.md says how to get it.")
    match arguments:
        case ["deploy"]:
            deploy(settings)
        case ["settle"]:
            settle(settings)
        case ["smoke"]:
            good = last_good(history(settings))
            if good is None:
                raise Refused(f"There is no deployed release {settings.release} here.")
            smoke(settings, with_tag(settings, good).tag)
        case ["smoke", commit]:
            smoke(settings, commit)
        case ["rollback"]:
            rollback(settings, None)
        case ["rollback", number] if number.isdigit():
            rollback(settings, int(number))
        case ["history"]:
            show_history(settings)
        case ["unhold", commit]:
            if commit not in held(settings):
                raise Refused(f"{commit} is not held. See: make history")
            change_held(settings, **{commit: None})
            print(f"{commit} may be deployed again")
        case _:
            raise Refused(f"{' '.join(arguments)!r} is not what this script does:\n{__doc__}")


def main() -> int:
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, remember)
    try:
        with kubeconfig():
            for _ in each_service():
                do(sys.argv[1:])
    except Refused as refusal:
        print(refusal, file=sys.stderr)
        write_summary(f"Refused: {refusal}")
        return 2
    except Failed as failure:
        print(failure, file=sys.stderr)
        write_summary(f"Failed: {failure}")
        return 1
    except Cancelled:
        text = "Cancelled. The next deploy takes up what is there; to go back now: make rollback"
        print(text, file=sys.stderr)
        write_summary(text)
        return 128 + signals_received[0]
    return 0


if __name__ == "__main__":
    sys.exit(main())
