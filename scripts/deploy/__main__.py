"""Deploys an image with Helm, so that an end at any point leaves a release that the next run can take up.

    scripts/deploy.sh deploy              settles, upgrades, asks the pods for the commit; goes back if that fails
    scripts/deploy.sh settle              finishes what an interrupted deploy left: verifies it, or goes back
    scripts/deploy.sh smoke [COMMIT]      asks every pod for its commit (without one: the deployed one)
    scripts/deploy.sh rollback [REVISION] goes back (without one: to the last good other image), holds what it left
    scripts/deploy.sh history             revisions, with their images and what is held
    scripts/deploy.sh unhold COMMIT       lets a held commit be deployed again

Which cluster and namespace: KUBE_CONFIG (a kubeconfig, base64) or KUBECONFIG (a file), and its current context.

    SERVICE                         whose release it is (without it: that of scripts/default-service.sh)
    IMAGE_REPOSITORY, IMAGE_TAG     what to deploy; the tag is the full commit, never `latest`
    IMAGE_DIGEST                    sha256:... of it, which then decides
    IMAGE_DIGESTS                   a folder with a file for each service instead, named after it, its digest in it:
                                    deploy and settle then do one service after the other
    DEPLOY_VALUES                   files of values for the chart, separated by spaces
    DEPLOY_TIMEOUT (120s)           how long an upgrade, and a rollback, may take
    SETTLE_AGE (DEPLOY_TIMEOUT and 30 s)  how old a pending revision must be to count as left behind
    SMOKE_TIMEOUT (60s)             how long pods may take until all say the commit: old ones end after Helm's wait
    SOAK_TIME (0s)                  how long deploy then goes on asking, before it calls the commit good
    LOCK_TIMEOUT (600s)             how long to wait for another deploy, rollback or settle of the release
    LEASE_DURATION (60s)            after how long without a sign of life a deployer counts as dead
    PRODUCTION_URL                  an address of the service that smoke asks, too, after the pods

In IMAGE_REPOSITORY, DEPLOY_VALUES and PRODUCTION_URL {0} stands for the service's name.
"""

from __future__ import annotations

import shutil
import sys

from scripts.deploy.kubeconfig import kubeconfig
from scripts.deploy.processes import Cancelled, Failed, LockLost, Refused, remember_signals, signals_received
from scripts.deploy.records import change, kept
from scripts.deploy.release import history, told
from scripts.deploy.settings import Settings, each_service
from scripts.deploy.smoke import smoke
from scripts.deploy.summary import write_summary
from scripts.deploy.verbs import deploy, rollback, settle, show_history


def do(settings: Settings, arguments: list[str]) -> None:
    """One verb for one service. Raises Refused or Failed."""
    for tool in ("helm", "kubectl"):
        if shutil.which(tool) is None:
            raise Refused(f"{tool} is needed and was not found. docs/delivery.md says how to get it.")
    match arguments:
        case ["deploy"]:
            deploy(settings)
        case ["settle"]:
            settle(settings)
        case ["smoke"]:
            ran = [revision for revision in history(settings) if revision.ran]
            if not ran:
                raise Refused(f"There is no deployed release {settings.release} here.")
            smoke(settings, told(settings, ran[-1:])[0].tag)
        case ["smoke", commit]:
            smoke(settings, commit)
        case ["rollback"]:
            rollback(settings, None)
        case ["rollback", number] if number.isdigit():
            rollback(settings, int(number))
        case ["history"]:
            show_history(settings)
        case ["unhold", commit]:
            if commit not in kept(settings, "held"):
                raise Refused(f"{commit} is not held. See: make history")
            change(settings, "held", {commit: None})
            print(f"{commit} may be deployed again")
        case _:
            raise Refused(f"{' '.join(arguments)!r} is not what this script does:\n{__doc__}")


def main() -> int:
    """The verb for each service; returns the exit code."""
    remember_signals()
    try:
        with kubeconfig():
            for settings in each_service():
                do(settings, sys.argv[1:])
    except Refused as refusal:
        print(refusal, file=sys.stderr)
        write_summary(f"Refused: {refusal}")
        return 2
    except (Failed, LockLost) as failure:
        print(failure, file=sys.stderr)
        write_summary(f"Failed: {failure}")
        return 1
    except Cancelled:
        text = "Cancelled. To finish what is there, verified or back to what ran before: make deploy-settle"
        print(text, file=sys.stderr)
        write_summary(text)
        return 128 + signals_received[0]
    return 0


if __name__ == "__main__":
    sys.exit(main())
