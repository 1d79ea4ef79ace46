"""Fakes of helm and kubectl that keep a release in a file: everything that scripts/deploy/ sees.

The tag determines the outcome of an upgrade: bad-... fails, wrong-... fails before anything is created, slow-... waits
for a signal, liar-... deploys pods that report another commit, list-..., cut-... and noise-... pods with invalid
responses. With `rollback` in the file a rollback fails, or is slow: like Helm's, it ignores signals. With `api` the API
server forbids Leases, or does not respond to Helm; with `intruder` an upgrade finds another running Helm; `restarts` is
the pods' restart count, `helm` the version of Helm (v3.22.0), `seconds` what each of its changes takes, and `conflicts`
has the responses to a server-side apply, by kind.
e2e/test_deploy.py uses the real ones.

Both programs forward a call to a thread of the tests: they start in 3 ms, compared with 60 for Python, and a deploy
makes twenty calls. When the program exits, its thread ends, wherever it waits.
"""

from __future__ import annotations

import json
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any

CLIENT = """#!/usr/bin/env bash
set -u
exec 3<> /dev/tcp/127.0.0.1/PORT
input=''
if [[ ${1-} == create && ${2-} == --filename || ${1-} == apply ]]; then input=$(cat); fi
printf '%s\\0' "${0##*/}" $# "$@" "$input" >&3
if [[ ${1-} == upgrade ]]; then trap 'printf "%s\\0" signal >&3' INT TERM; fi
while IFS= read -r line <&3; do
  case $line in
    1*) printf '%s\\n' "${line#1}" ;;
    2*) printf '%s\\n' "${line#2}" >&2 ;;
    *) exit "$line" ;;
  esac
done
exit 70
"""

ENDED = ("Failed", "Succeeded")

MANIFEST = """---
# Source: task-api/templates/deployment.yaml
apiVersion: apps/v1
kind: Deployment
metadata:
  name: task-api
---
# Source: task-api/templates/servicemonitor.yaml
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  name: "task-api"
"""


class Gone(Exception):
    """The calling program has exited."""


class Call:
    """A program's call, and the connection to respond on."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.received = b""
        self.signals = 0
        self.name = self._word()
        self.arguments = [self._word() for _ in range(int(self._word()))]
        self.input = self._word()

    def _word(self) -> str:
        while b"\0" not in self.received:
            self._receive()
        word, _, self.received = self.received.partition(b"\0")
        return word.decode()

    def _receive(self) -> None:
        more = self.connection.recv(65536)
        if not more:
            raise Gone
        self.received += more

    def signalled(self, within: float = 0) -> bool:
        """Whether it has received a signal. Raises Gone if it has exited."""
        if select.select([self.connection], [], [], within)[0]:
            self._receive()
        while b"\0" in self.received:
            self._word()
            self.signals += 1
        return self.signals > 0

    def until_gone(self) -> None:
        while True:
            self.signalled(within=60)

    def print(self, text: str, stream: int = 1) -> None:
        self.connection.sendall("".join(f"{stream}{line}\n" for line in text.split("\n")).encode())

    def fail(self, text: str) -> int:
        self.print(text, stream=2)
        return 1


@contextmanager
def fake_cluster(file: Path, programs: Path) -> Iterator[None]:
    """Puts helm and kubectl into the folder `programs`, and answers their calls from the file."""
    writing = threading.Lock()

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            try:
                call = Call(self.request)
                with writing, file.with_suffix(".calls").open("a") as calls:
                    calls.write(f"{call.name} {' '.join(call.arguments)}\n")
                code = {"helm": helm, "kubectl": kubectl}[call.name](Cluster(file), call)
                self.request.sendall(f" {code}\n".encode())
            except (Gone, ConnectionError):
                pass

    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        for name in ("helm", "kubectl"):
            (programs / name).write_text(CLIENT.replace("PORT", str(server.server_address[1])))
            (programs / name).chmod(0o755)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield
        server.shutdown()
        thread.join()


class Cluster:
    """The file is replaced on every change, so that a kill at any time leaves it consistent."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.state: dict[str, Any] = json.loads(file.read_text())

    def write(self) -> None:
        new_file = self.file.with_suffix(f".{threading.get_ident()}")
        new_file.write_text(json.dumps(self.state))
        new_file.replace(self.file)

    @property
    def revisions(self) -> list[dict[str, Any]]:
        revisions: list[dict[str, Any]] = self.state["revisions"]
        return revisions

    def begin(self, status: str, tag: str, description: str) -> dict[str, Any]:
        number = self.revisions[-1]["revision"] + 1 if self.revisions else 1
        updated = datetime.now(UTC).isoformat().replace("+00:00", "123Z")  # nanoseconds, as Helm writes them
        revision = {"revision": number, "updated": updated, "status": status, "description": description, "tag": tag}
        self.revisions.append(revision)
        self.write()
        return revision

    def succeed(self, revision: dict[str, Any]) -> None:
        for other in self.revisions:
            if other["status"] == "deployed":
                other["status"] = "superseded"
        revision["status"] = "deployed"
        tag: str = revision["tag"]
        # Without a tag in the values the chart's applies.
        self.state["serves"] = "something-else" if tag.startswith("liar") else tag or "0.1.0"
        self.write()

    def fail(self, revision: dict[str, Any]) -> None:
        revision["status"] = "failed"
        self.write()


class Leases:
    """One file each, separate from the cluster's: a running helm holds that one in memory and rewrites all of it."""

    lock = threading.Lock()

    def __init__(self, file: Path) -> None:
        self.folder = file.with_suffix(".leases")
        self.folder.mkdir(exist_ok=True)

    def handle(self, call: Call) -> int:
        with self.lock:
            match call.arguments:
                case ["get", "lease", name, *_]:
                    if (self.folder / name).exists():
                        call.print((self.folder / name).read_text())
                case ["create", *_]:
                    lease = json.loads(call.input)
                    if (self.folder / lease["metadata"]["name"]).exists():
                        return call.fail("Error from server (AlreadyExists): leases already exists")
                    self.write(lease, 1, call)
                case ["patch", "lease", name, "--type=merge", "--patch", patch, *_]:
                    lease, changes = json.loads((self.folder / name).read_text()), json.loads(patch)
                    if lease["metadata"]["resourceVersion"] != changes["metadata"]["resourceVersion"]:
                        return call.fail("Error from server (Conflict): the object has been modified")
                    merged = lease["spec"] | changes["spec"]
                    lease["spec"] = {key: value for key, value in merged.items() if value is not None}
                    annotations = lease["metadata"].get("annotations", {}) | changes["metadata"]["annotations"]
                    lease["metadata"]["annotations"] = {
                        key: value for key, value in annotations.items() if value is not None
                    }
                    self.write(lease, int(lease["metadata"]["resourceVersion"]) + 1, call)
        return 0

    def write(self, lease: dict[str, Any], version: int, call: Call) -> None:
        lease["metadata"]["resourceVersion"] = str(version)
        text = json.dumps(lease)
        new_file = self.folder / ".new"
        new_file.write_text(text)
        new_file.replace(self.folder / lease["metadata"]["name"])
        call.print(text)


def helm(cluster: Cluster, call: Call) -> int:
    if call.arguments[0] in ("upgrade", "rollback", "uninstall"):
        time.sleep(cluster.state.get("seconds", 0))
    match call.arguments:
        case ["history", *_] if cluster.state.get("api") == "down":
            return call.fail("Error: Kubernetes cluster unreachable")
        case ["version", *_]:
            call.print(cluster.state.get("helm", "v3.22.0"))
        case ["history", _, *_] if not cluster.revisions:
            return call.fail("Error: release: not found")
        case ["history", *_]:
            call.print(json.dumps(cluster.revisions))
        case ["get", "values", _, "--revision", number, *_]:
            (revision,) = (r for r in cluster.revisions if r["revision"] == int(number))
            call.print(json.dumps({"image": {"tag": revision["tag"]}}))
        case ["get", "manifest", _] if not cluster.revisions:
            return call.fail("Error: release: not found")
        case ["get", "manifest", _]:
            call.print(MANIFEST)
        case ["upgrade", "--install", *_]:
            return helm_upgrade(cluster, call)
        case ["rollback", _, number, *_]:
            (target,) = (r for r in cluster.revisions if r["revision"] == int(number))
            revision = cluster.begin("pending-rollback", target["tag"], f"Rollback to {number}")
            if cluster.state.get("rollback") == "slow":
                call.until_gone()
            if cluster.state.get("rollback") == "fails":
                # Like Helm if the API server rejects it: the previous revision is superseded, failed or not.
                cluster.revisions[-2]["status"] = "superseded"
                cluster.fail(revision)
                return call.fail("Error: context deadline exceeded")
            cluster.succeed(revision)
        case ["uninstall", *_] if not cluster.revisions:
            return call.fail("Error: uninstall: Release not loaded: task-api: release: not found")
        case ["uninstall", *_]:
            cluster.state |= {"revisions": [], "serves": None}
            cluster.write()
        case _:
            return call.fail(f"this helm does not know {call.arguments}")
    return 0


def helm_upgrade(cluster: Cluster, call: Call) -> int:
    if cluster.revisions and cluster.revisions[-1]["status"].startswith("pending"):
        return call.fail("Error: UPGRADE FAILED: another operation (install/upgrade/rollback) is in progress")
    (tag,) = (a.removeprefix("image.tag=") for a in call.arguments if a.startswith("image.tag="))
    if cluster.state.get("intruder"):
        cluster.begin("pending-upgrade", cluster.state["intruder"], "Preparing upgrade")
        return call.fail("Error: UPGRADE FAILED: another operation (install/upgrade/rollback) is in progress")
    if tag.startswith("wrong"):
        return call.fail("Error: execution error at (task-api/templates/deployment.yaml:1:4)")
    status, description = ("pending-upgrade", "Preparing upgrade")
    if not cluster.revisions:
        status, description = ("pending-install", "Initial install underway")
    revision = cluster.begin(status, tag, description)
    while tag.startswith("slow") and not call.signalled(within=60):
        pass
    if call.signals or tag.startswith("bad"):
        revision["description"] = 'Upgrade "task-api" failed: context deadline exceeded'
        cluster.fail(revision)
        return call.fail("Error: UPGRADE FAILED: context deadline exceeded")
    revision["description"] = "Upgrade complete"
    cluster.succeed(revision)
    return 0


def kubectl(cluster: Cluster, call: Call) -> int:
    match call.arguments:
        case ["config", "view", *_]:
            server = cluster.state.get("server", "https://cluster.example")
            if server == "":
                return call.fail("error: current-context must exist in order to minify")
            call.print(json.dumps({"clusters": [{"cluster": {"server": server}}]}))
        case ["get" | "patch", "lease", *_] | ["create", "--filename", "-", *_]:
            if cluster.state.get("api") == "forbids":
                return call.fail('Error from server (Forbidden): leases "task-api-deploy" is forbidden')
            return Leases(cluster.file).handle(call)
        case ["get", "pods", _, _, "--output", "json"]:
            names = ["task-api-1", "task-api-2"] if cluster.state["serves"] else []
            status = {"phase": "Running", "containerStatuses": [{"restartCount": cluster.state.get("restarts", 0)}]}
            pods: list[dict[str, Any]] = [{"metadata": {"name": n}, "status": status} for n in names]
            leaving = {"name": "task-api-0", "deletionTimestamp": "2026-01-01T00:00:00Z"}
            pods += [{"metadata": leaving, "status": {"phase": "Running"}}]
            # Evicted and terminated: they stay listed until they are deleted.
            pods += [{"metadata": {"name": f"gone-{phase}"}, "status": {"phase": phase}} for phase in ENDED]
            call.print(json.dumps({"items": pods}))
        case ["apply", "--server-side", "--field-manager=helm", "--filename", "-", "--dry-run=server"]:
            for kind, message in cluster.state.get("conflicts", {}).items():
                if f"kind: {kind}\n" in call.input:
                    return call.fail(message)
        case ["apply", *_, "--force-conflicts"]:
            pass
        case ["port-forward", pod, *_] if pod.startswith("pod/gone"):
            return call.fail("error: unable to forward port because pod is not running")
        case ["port-forward", *_] if cluster.state.get("forward") == "hangs":
            call.until_gone()
        case ["port-forward", *_]:
            serve(cluster, call)
        case ["get", "configmap", name, "--ignore-not-found", "--output", form]:
            data = cluster.state.get(name.rpartition("-")[2])
            if data is not None:
                call.print(f"configmap/{name}" if form == "name" else json.dumps({"data": data}))
        case ["create", "configmap", name]:
            cluster.state[name.rpartition("-")[2]] = {}
            cluster.write()
        case ["patch", "configmap", name, "--type=merge", "--patch", patch]:
            kind = name.rpartition("-")[2]
            merged = cluster.state[kind] | json.loads(patch)["data"]
            cluster.state[kind] = {key: value for key, value in merged.items() if value is not None}
            cluster.write()
        case ["get" | "describe" | "logs", *_]:
            call.print(f"(what the cluster says of {call.arguments[1]})")
        case _:
            return call.fail(f"this kubectl does not know {call.arguments}")
    return 0


def serve(cluster: Cluster, call: Call) -> None:
    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/health":
                self.send_error(404)
                return
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
            """Silent."""

    with HTTPServer(("127.0.0.1", 0), Health) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            call.print(f"Forwarding from 127.0.0.1:{server.server_port} -> 8000")
            call.until_gone()
        finally:
            server.shutdown()
            thread.join()
