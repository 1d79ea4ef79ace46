#!/usr/bin/env python3
"""helm and kubectl by these names, with a release kept in the file of FAKE_CLUSTER: all that scripts/deploy/ sees.

How an upgrade goes is in the tag: bad-... fails, wrong-... does before anything is made, slow-... waits for a signal,
liar-... deploys pods that say otherwise, list-..., cut-... and noise-... ones that answer with something else.
With `rollback` in the file a rollback fails, or is slow: it hears no signal, as Helm's does not.
The real ones are in e2e/test_deploy.py.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
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


def helm(cluster: Cluster, arguments: list[str]) -> int:
    match arguments:
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
    if tag.startswith("wrong"):
        print("Error: execution error at (task-api/templates/deployment.yaml:1:4)", file=sys.stderr)
        return 1
    stopped: list[int] = []
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda received, _frame: stopped.append(received))
    revision = cluster.begin("pending-upgrade" if cluster.revisions else "pending-install", tag, "Preparing")
    while tag.startswith("slow") and not stopped:
        time.sleep(0.05)
    if stopped or tag.startswith("bad"):
        cluster.fail(revision)
        print("Error: UPGRADE FAILED: context deadline exceeded", file=sys.stderr)
        return 1
    cluster.succeed(revision)
    return 0


def kubectl(cluster: Cluster, arguments: list[str]) -> int:
    match arguments:
        case ["get", "pods", _, _, "--output", "json"]:
            names = ["task-api-1", "task-api-2"] if cluster.state["serves"] else []
            pods: list[dict[str, Any]] = [{"metadata": {"name": n}, "status": {"phase": "Running"}} for n in names]
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
