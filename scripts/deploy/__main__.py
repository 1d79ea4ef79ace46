"""Deploy an image with Helm. A deploy interrupted at any point leaves a release that the next run can recover.

    scripts/deploy.sh deploy              recover, upgrade, verify the commit on the pods; roll back on failure
    scripts/deploy.sh settle              recover from an interrupted deploy: verify it, or roll back
    scripts/deploy.sh smoke [COMMIT]      verify that every pod serves the commit (default: the deployed one)
    scripts/deploy.sh rollback [REVISION] roll back (default: to the last good other image); hold the current commit
    scripts/deploy.sh history             list revisions with their images, and held commits
    scripts/deploy.sh unhold COMMIT       allow a held commit to be deployed again

Cluster and namespace: KUBE_CONFIG (a kubeconfig, base64) or KUBECONFIG (a file), and its current context.

    SERVICE                         the service and its release (default: that of scripts/default-service.sh)
    IMAGE_REPOSITORY, IMAGE_TAG     the image to deploy; the tag is the full commit, never `latest`
    IMAGE_DIGEST                    its sha256:... digest, which takes precedence over the tag
    IMAGE_DIGESTS                   instead: a folder with one file per service, named after it, containing its digest;
                                    the command then runs for one service after the other
    DEPLOY_VALUES                   values files for the chart, separated by spaces
    DEPLOY_TIMEOUT (120s)           timeout of an upgrade and of a rollback
    SETTLE_AGE (DEPLOY_TIMEOUT and 30 s)  age at which a pending revision counts as stale
    SMOKE_TIMEOUT (60s)             how long pods may take until all report the commit: old ones end after Helm's wait
    SOAK_TIME (0s)                  how long deploy then keeps checking before the commit counts as good
    LOCK_TIMEOUT (600s)             how long to wait for another deploy, rollback or settle of the release
    LEASE_DURATION (60s)            time without a renewal after which a deployer counts as dead
    PRODUCTION_URL                  public address of the service, which smoke also checks, after the pods

In IMAGE_REPOSITORY, DEPLOY_VALUES and PRODUCTION_URL, {0} is replaced by the service's name.
"""

from __future__ import annotations

import shutil
import sys

from scripts.deploy.commands import deploy, rollback, settle, show_history
from scripts.deploy.kubeconfig import kubeconfig
from scripts.deploy.processes import Cancelled, Failed, LockLost, Refused, install_signal_handlers, signals_received
from scripts.deploy.records import read_records, update_records
from scripts.deploy.release import history, with_details
from scripts.deploy.settings import Settings, settings_per_service
from scripts.deploy.smoke import smoke
from scripts.deploy.summary import write_summary


def run_command(settings: Settings, arguments: list[str]) -> None:
    """Runs one command for one service. Raises Refused or Failed."""
    for tool in ("helm", "kubectl"):
        if shutil.which(tool) is None:
            raise Refused(f"{tool} is required but was not found. docs/delivery.md explains how to install it.")
    match arguments:
        case ["deploy"]:
            deploy(settings)
        case ["settle"]:
            settle(settings)
        case ["smoke"]:
            ran = [revision for revision in history(settings) if revision.ran]
            if not ran:
                raise Refused(f"There is no deployed release {settings.release} in this namespace.")
            (newest,) = with_details(settings, ran[-1:])
            smoke(settings, newest.tag)
        case ["smoke", commit]:
            smoke(settings, commit)
        case ["rollback"]:
            rollback(settings, None)
        case ["rollback", number] if number.isdigit():
            rollback(settings, int(number))
        case ["history"]:
            show_history(settings)
        case ["unhold", commit]:
            if commit not in read_records(settings, "held"):
                raise Refused(f"{commit} is not held. See: make history")
            update_records(settings, "held", {commit: None})
            print(f"{commit} is no longer held and can be deployed again")
        case _:
            raise Refused(f"Unknown command {' '.join(arguments)!r}.\n{__doc__}")


def main() -> int:
    """Runs the command for each service; returns the exit code."""
    install_signal_handlers()
    try:
        with kubeconfig():
            for settings in settings_per_service():
                run_command(settings, sys.argv[1:])
    except Refused as refusal:
        print(refusal, file=sys.stderr)
        write_summary(f"Refused: {refusal}")
        return 2
    except (Failed, LockLost) as failure:
        print(failure, file=sys.stderr)
        write_summary(f"Failed: {failure}")
        return 1
    except Cancelled:
        text = "Cancelled. To recover the release (verify it, or roll back): make deploy-settle"
        print(text, file=sys.stderr)
        write_summary(text)
        return 128 + signals_received[0]
    return 0


if __name__ == "__main__":
    sys.exit(main())
