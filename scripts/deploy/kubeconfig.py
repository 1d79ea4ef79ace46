"""Which cluster: that of the kubeconfig which was named, and never another.

To kubectl and Helm an empty kubeconfig, one without a current context and one that is not there are no kubeconfig, and
they go on with what else they find: in a pod, as on a self-hosted runner in Kubernetes, the pod's own cluster.
"""

from __future__ import annotations

import base64
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.deploy.processes import Refused, run

ELSEWHERE = (
    "HELM_DRIVER",
    "HELM_KUBEAPISERVER",
    "HELM_KUBEASGROUPS",
    "HELM_KUBEASUSER",
    "HELM_KUBECAFILE",
    "HELM_KUBECONTEXT",
    "HELM_KUBETOKEN",
    "HELM_NAMESPACE",
)
"""With one of these Helm would go to another cluster or namespace than kubectl, or as somebody else, or look for its
revisions elsewhere and take a release that runs for one that was never installed."""


@contextmanager
def kubeconfig() -> Iterator[None]:
    """KUBECONFIG for Helm and kubectl, checked. Raises Refused before the cluster is asked for anything."""
    for name in ELSEWHERE:
        if os.environ.get(name):
            raise Refused(
                f"{name} is set: it would lead Helm elsewhere. Unset it; the kubeconfig decides: unset {name}"
            )
    # Without these neither tool can take a pod's own cluster, whatever else is missed here.
    for name in ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        os.environ.pop(name, None)
    os.environ["KUBERC"] = "off"  # a user's kubectl preferences may change what a command means
    encoded = os.environ.pop("KUBE_CONFIG", None)
    if encoded is None:  # set, it decides, even where it is empty: a secret that is missing must not lead elsewhere
        check_files(os.environ.get("KUBECONFIG", ""))
        check_context("KUBECONFIG")
        yield
        return
    content = decoded(encoded)
    with tempfile.TemporaryDirectory() as folder:  # for this user alone
        file = Path(folder, "kubeconfig")
        file.write_text(content)
        os.environ["KUBECONFIG"] = str(file)
        check_context("KUBE_CONFIG")
        yield


def decoded(encoded: str) -> str:
    """The kubeconfig of KUBE_CONFIG. Raises Refused."""
    make = "Make it: base64 < kubeconfig | tr -d '\\n'"
    try:
        text = base64.b64decode("".join(encoded.split()), validate=True).decode()
    except UnicodeDecodeError as error:
        raise Refused(f"KUBE_CONFIG is base64, but not of a text. {make}") from error
    except ValueError as error:  # another alphabet, a length that cannot be, something that is not ASCII
        raise Refused(f"KUBE_CONFIG is not base64. {make}") from error
    if not text.strip():
        raise Refused(
            f"KUBE_CONFIG is empty. {make}, and on GitHub: gh secret set KUBE_CONFIG --env production. "
            "A run of a fork, or of another environment, does not see the secret."
        )
    return text


def check_files(paths: str) -> None:
    """Raises Refused unless every file that KUBECONFIG names is there and holds something."""
    if not paths.strip(os.pathsep):
        raise Refused("Which cluster? Set KUBECONFIG to a kubeconfig's path, or KUBE_CONFIG to its base64.")
    for path in filter(None, paths.split(os.pathsep)):
        try:
            content = Path(path).read_text(errors="replace")
        except OSError as error:
            raise Refused(f"KUBECONFIG names {path}, which cannot be read: {error.strerror}. Name another.") from error
        if not content.strip():
            raise Refused(f"KUBECONFIG names {path}, which is empty. Name another, or make it again.")


def check_context(name: str) -> None:
    """Raises Refused unless there is a current context that names a cluster with an address. Reads the files only."""
    done = run("kubectl", "config", "view", "--minify", "--output", "json")
    if done.returncode != 0:
        reason = re.sub(r"^error: ", "", done.stderr.strip())
        raise Refused(
            f"{name} names no cluster to go to: {reason}\n"
            "See its contexts: kubectl config get-contexts. Choose one: kubectl config use-context NAME"
        )
    clusters = json.loads(done.stdout).get("clusters") or []
    if not any((entry.get("cluster") or {}).get("server") for entry in clusters):
        raise Refused(
            f"{name} names no cluster to go to: the cluster of its current context has no server, or is not in it.\n"
            "See what there is: kubectl config view"
        )
