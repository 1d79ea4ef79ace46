#!/usr/bin/env python3
"""helm and kubectl by these names, with a release kept in the file of FAKE_CLUSTER: all that scripts/deploy/ sees.

How an upgrade goes is in the tag: bad-... fails, wrong-... does before anything is made, slow-... waits for a signal,
liar-... deploys pods that say otherwise, list-..., cut-... and noise-... ones that answer with something else.
With `rollback` in the file a rollback fails, or is slow: it hears no signal, as Helm's does not. With `api` the API
server forbids Leases; with `intruder` an upgrade finds that somebody else's Helm was quicker; with `restarts` the pods
were restarted so often. Helm is of the version `helm` (v3.22.0).
The real ones are in e2e/test_deploy.py.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ENDED = ("Failed", "Succeeded")


class Cluster:
    """The file is replaced at each change, so that a kill at any moment leaves a whole one."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.state: dict[str, Any] = json.loads(file.read_text())

    def write(self) -> None:
        made = self.file.with_suffix(".new")
        made.write_text(json.dumps(self.state))
        made.replace(self.file)

    @property
    def revisions(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.state["revisions"]
        return found

    def begin(self, status: str, tag: str, description: str) -> dict[str, Any]:
        number = self.revisions[-1]["revision"] + 1 if self.revisions else 1
        updated = datetime.now(UTC).isoformat().replace("+00:00", "123Z")  # nanoseconds, as Helm writes them
        made = {"revision": number, "updated": updated, "status": status, "description": description, "tag": tag}
        self.revisions.append(made)
        self.write()
        return made

    def succeed(self, revision: dict[str, Any]) -> None:
        for other in self.revisions:
            if other["status"] == "deployed":
                other["status"] = "superseded"
        revision["status"] = "deployed"
        tag: str = revision["tag"]
        # Without a tag in the values it is that of the chart.
        self.state["serves"] = "something-else" if tag.startswith("liar") else tag or "0.1.0"
        self.write()

    def fail(self, revision: dict[str, Any]) -> None:
        revision["status"] = "failed"
        self.write()


class Leases:
    """A file for each, beside the other one: a helm at work has that in its memory, and writes all of it."""

    def __init__(self, file: Path) -> None:
        self.folder = file.with_suffix(".leases")
        self.folder.mkdir(exist_ok=True)

    def handle(self, arguments: list[str]) -> int:
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            match arguments:
                case ["get", "lease", name, *_]:
                    if (self.folder / name).exists():
                        print((self.folder / name).read_text())
                case ["create", *_]:
                    lease = json.load(sys.stdin)
                    if (self.folder / lease["metadata"]["name"]).exists():
                        print("Error from server (AlreadyExists): leases already exists", file=sys.stderr)
                        return 1
                    self.write(lease, 1)
                case ["patch", "lease", name, "--type=merge", "--patch", patch, *_]:
                    lease, changes = json.loads((self.folder / name).read_text()), json.loads(patch)
                    if lease["metadata"]["resourceVersion"] != changes["metadata"]["resourceVersion"]:
                        print("Error from server (Conflict): the object has been modified", file=sys.stderr)
                        return 1
                    merged = lease["spec"] | changes["spec"]
                    lease["spec"] = {key: value for key, value in merged.items() if value is not None}
                    noted = lease["metadata"].get("annotations", {}) | changes["metadata"]["annotations"]
                    lease["metadata"]["annotations"] = {key: value for key, value in noted.items() if value is not None}
                    self.write(lease, int(lease["metadata"]["resourceVersion"]) + 1)
        return 0

    def write(self, lease: dict[str, Any], version: int) -> None:
        lease["metadata"]["resourceVersion"] = str(version)
        text = json.dumps(lease)
        (self.folder / lease["metadata"]["name"]).write_text(text)
        print(text)


def helm(cluster: Cluster, arguments: list[str]) -> int:
    match arguments:
        case ["version", *_]:
            print(cluster.state.get("helm", "v3.22.0"))
        case ["history", _, *_] if not cluster.revisions:
            print("Error: release: not found", file=sys.stderr)
            return 1
        case ["history", *_]:
            print(json.dumps(cluster.revisions))
        case ["get", "values", _, "--revision", number, *_]:
            (found,) = (r for r in cluster.revisions if r["revision"] == int(number))
            print(json.dumps({"image": {"tag": found["tag"]}}))
        case ["upgrade", "--install", *_]:
            return helm_upgrade(cluster, arguments)
        case ["rollback", _, number, *_]:
            (found,) = (r for r in cluster.revisions if r["revision"] == int(number))
            revision = cluster.begin("pending-rollback", found["tag"], f"Rollback to {number}")
            while cluster.state.get("rollback") == "slow":
                time.sleep(0.05)
            if cluster.state.get("rollback") == "fails":
                # As Helm does where the API server refuses it: what came before is superseded, failed or not.
                cluster.revisions[-2]["status"] = "superseded"
                cluster.fail(revision)
                print("Error: context deadline exceeded", file=sys.stderr)
                return 1
            cluster.succeed(revision)
        case ["uninstall", *_] if not cluster.revisions:
            print("Error: uninstall: Release not loaded: task-api: release: not found", file=sys.stderr)
            return 1
        case ["uninstall", *_]:
            cluster.state |= {"revisions": [], "serves": None}
            cluster.write()
        case _:
            print(f"this helm does not know {arguments}", file=sys.stderr)
            return 64
    return 0


def helm_upgrade(cluster: Cluster, arguments: list[str]) -> int:
    if cluster.revisions and cluster.revisions[-1]["status"].startswith("pending"):
        print("Error: UPGRADE FAILED: another operation (install/upgrade/rollback) is in progress", file=sys.stderr)
        return 1
    (tag,) = (a.removeprefix("image.tag=") for a in arguments if a.startswith("image.tag="))
    if cluster.state.get("intruder"):
        cluster.begin("pending-upgrade", cluster.state["intruder"], "Preparing upgrade")
        print("Error: UPGRADE FAILED: another operation (install/upgrade/rollback) is in progress", file=sys.stderr)
        return 1
    if tag.startswith("wrong"):
        print("Error: execution error at (task-api/templates/deployment.yaml:1:4)", file=sys.stderr)
        return 1
    stopped: list[int] = []
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda received, _frame: stopped.append(received))
    status, begun = ("pending-upgrade", "Preparing upgrade")
    if not cluster.revisions:
        status, begun = ("pending-install", "Initial install underway")
    revision = cluster.begin(status, tag, begun)
    while tag.startswith("slow") and not stopped:
        time.sleep(0.05)
    if stopped or tag.startswith("bad"):
        revision["description"] = 'Upgrade "task-api" failed: context deadline exceeded'
        cluster.fail(revision)
        print("Error: UPGRADE FAILED: context deadline exceeded", file=sys.stderr)
        return 1
    revision["description"] = "Upgrade complete"
    cluster.succeed(revision)
    return 0


def kubectl(cluster: Cluster, arguments: list[str]) -> int:
    match arguments:
        case ["config", "view", *_]:
            server = cluster.state.get("server", "https://cluster.example")
            if server == "":
                print("error: current-context must exist in order to minify", file=sys.stderr)
                return 1
            print(json.dumps({"clusters": [{"cluster": {"server": server}}]}))
        case ["get" | "patch", "lease", *_] | ["create", "--filename", "-", *_]:
            if cluster.state.get("api") == "forbids":
                print('Error from server (Forbidden): leases "task-api-deploy" is forbidden', file=sys.stderr)
                return 1
            return Leases(cluster.file).handle(arguments)
        case ["get", "pods", _, _, "--output", "json"]:
            names = ["task-api-1", "task-api-2"] if cluster.state["serves"] else []
            status = {"phase": "Running", "containerStatuses": [{"restartCount": cluster.state.get("restarts", 0)}]}
            pods: list[dict[str, Any]] = [{"metadata": {"name": n}, "status": status} for n in names]
            leaving = {"name": "task-api-0", "deletionTimestamp": "2026-01-01T00:00:00Z"}
            pods += [{"metadata": leaving, "status": {"phase": "Running"}}]
            # Evicted, and ended: they are listed until somebody removes them.
            pods += [{"metadata": {"name": f"gone-{phase}"}, "status": {"phase": phase}} for phase in ENDED]
            print(json.dumps({"items": pods}))
        case ["port-forward", pod, *_] if pod.startswith("pod/gone"):
            print("error: unable to forward port because pod is not running", file=sys.stderr)
            return 1
        case ["port-forward", *_] if cluster.state.get("forward") == "hangs":
            time.sleep(600)
        case ["port-forward", *_]:
            serve(cluster)
        case ["get", "configmap", name, "--ignore-not-found", "--output", form]:
            data = cluster.state.get(name.rpartition("-")[2])
            if data is not None:
                print(f"configmap/{name}" if form == "name" else json.dumps({"data": data}))
        case ["create", "configmap", name]:
            cluster.state[name.rpartition("-")[2]] = {}
            cluster.write()
        case ["patch", "configmap", name, "--type=merge", "--patch", patch]:
            kind = name.rpartition("-")[2]
            merged = cluster.state[kind] | json.loads(patch)["data"]
            cluster.state[kind] = {key: value for key, value in merged.items() if value is not None}
            cluster.write()
        case ["get" | "describe" | "logs", *_]:
            print(f"(what the cluster says of {arguments[1]})")
        case _:
            print(f"this kubectl does not know {arguments}", file=sys.stderr)
            return 64
    return 0


def serve(cluster: Cluster) -> None:
    # Not above: it takes longer to import than most calls take.
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            serves = cluster.state["serves"]
            if serves.startswith("noise"):
                self.wfile.write(b"noise\r\n\r\n")
                return
            body = b"[]" if serves.startswith("list") else json.dumps({"revision": serves}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body) + 9 * serves.startswith("cut")))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = HTTPServer(("127.0.0.1", 0), Health)
    print(f"Forwarding from 127.0.0.1:{server.server_port} -> 8000", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    name, asked = Path(sys.argv[0]).name, sys.argv[1:]
    with Path(os.environ["FAKE_CLUSTER"]).with_suffix(".calls").open("a") as calls:
        calls.write(f"{name} {' '.join(asked)}\n")
    the_cluster = Cluster(Path(os.environ["FAKE_CLUSTER"]))
    sys.exit(helm(the_cluster, asked) if name == "helm" else kubectl(the_cluster, asked))
