"""Selects the cluster: only ever the one in the given kubeconfig.

kubectl and Helm ignore a kubeconfig that is empty, missing or has no current context, and fall back to whatever else
they find: in a pod, as on a self-hosted runner in Kubernetes, the pod's own cluster.
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

CONFLICTING_VARIABLES = (
    "HELM_DRIVER",
    "HELM_KUBEAPISERVER",
    "HELM_KUBEASGROUPS",
    "HELM_KUBEASUSER",
    "HELM_KUBECAFILE",
    "HELM_KUBECONTEXT",
    "HELM_KUBETOKEN",
    "HELM_NAMESPACE",
)
"""Any of these makes Helm use another cluster, namespace or identity than kubectl, or another storage of revisions,
where a running release looks as if it was never installed."""


@contextmanager
def kubeconfig() -> Iterator[None]:
    """Sets a checked KUBECONFIG for Helm and kubectl. Raises Refused before any request to the cluster."""
    for name in CONFLICTING_VARIABLES:
        if os.environ.get(name):
            raise Refused(
                f"{name} is set and would point Helm at another target than the kubeconfig. Unset it: unset {name}"
            )
    # Without these, neither tool can fall back to the cluster of the pod it runs in.
    for name in ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        os.environ.pop(name, None)
    os.environ["KUBERC"] = "off"  # a user's kubectl preferences may change what a command means
    encoded = os.environ.pop("KUBE_CONFIG", None)
    if encoded is None:  # takes precedence even if empty: a missing secret must not select another cluster
        check_files(os.environ.get("KUBECONFIG", ""))
        check_context("KUBECONFIG")
        yield
        return
    content = decode_kubeconfig(encoded)
    with tempfile.TemporaryDirectory() as folder:  # readable by this user only
        file = Path(folder, "kubeconfig")
        file.write_text(content)
        os.environ["KUBECONFIG"] = str(file)
        check_context("KUBE_CONFIG")
        yield


def decode_kubeconfig(encoded: str) -> str:
    """The kubeconfig in KUBE_CONFIG. Raises Refused."""
    create = "Create it: base64 < kubeconfig | tr -d '\\n'"
    try:
        text = base64.b64decode("".join(encoded.split()), validate=True).decode()
    except UnicodeDecodeError as error:
        raise Refused(f"KUBE_CONFIG is base64, but not of text. {create}") from error
    except ValueError as error:  # wrong alphabet or length, or not ASCII
        raise Refused(f"KUBE_CONFIG is not base64. {create}") from error
    if not text.strip():
        raise Refused(
            f"KUBE_CONFIG is empty. {create}, and on GitHub: gh secret set KUBE_CONFIG --env production. "
            "Runs of a fork or of another environment cannot read the secret."
        )
    return text


def check_files(paths: str) -> None:
    """Raises Refused unless every file in KUBECONFIG exists and is not empty."""
    if not paths.strip(os.pathsep):
        raise Refused("No cluster given. Set KUBECONFIG to the path of a kubeconfig, or KUBE_CONFIG to its base64.")
    for path in filter(None, paths.split(os.pathsep)):
        try:
            content = Path(path).read_text(errors="replace")
        except OSError as error:
            raise Refused(f"KUBECONFIG: cannot read {path}: {error.strerror}. Set it to another file.") from error
        if not content.strip():
            raise Refused(f"KUBECONFIG: {path} is empty. Set it to another file, or recreate this one.")


def check_context(name: str) -> None:
    """Raises Refused unless the current context has a cluster with a server address. Reads the files only."""
    result = run("kubectl", "config", "view", "--minify", "--output", "json")
    if result.returncode != 0:
        reason = re.sub(r"^error: ", "", result.stderr.strip())
        raise Refused(
            f"{name} does not select a cluster: {reason}\n"
            "List its contexts: kubectl config get-contexts. Select one: kubectl config use-context NAME"
        )
    clusters = json.loads(result.stdout).get("clusters") or []
    if not any((entry.get("cluster") or {}).get("server") for entry in clusters):
        raise Refused(
            f"{name} does not select a cluster: the cluster of its current context has no server, or is missing.\n"
            "Inspect it: kubectl config view"
        )
