#!/usr/bin/env bash
# Guess: each event of the Kubernetes client's `watch` holds a model of the kind that is watched, bookmarks too; and when the
# server says that the version to go on from is too old (410), the watch lists anew or hands the error over.
# What happens: the object of a BOOKMARK is a plain dict, so `event["object"].metadata` raises there alone, minutes after the start.
# After a 410 the watch asks once more with the very version that was too old, and only then raises.
# Packages: kubernetes 37.0.2
# Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#watch-bookmarks
# Date: 2026-11-29
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv v
v/bin/pip install --quiet --disable-pip-version-check kubernetes==37.0.2

cat > watch.py << 'PYTHON'
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, urlsplit

from kubernetes import client, watch

asked, events = [], []


def pod(version, **more):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"resourceVersion": version, **more}}


TOO_OLD = {"apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": "Expired", "code": 410, "message": "too old"}
FIRST = [{"type": "ADDED", "object": pod("5", name="a")}, {"type": "BOOKMARK", "object": pod("9")}]


class Server(BaseHTTPRequestHandler):
    def do_GET(self):
        asked.append(parse_qs(urlsplit(self.path).query)["resourceVersion"][0])
        answer = FIRST if len(asked) == 1 else [{"type": "ERROR", "object": TOO_OLD}]
        body = "".join(json.dumps(event) + "\n" for event in answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
Thread(target=server.serve_forever, daemon=True).start()
api = client.CoreV1Api(client.ApiClient(client.Configuration(host=f"http://127.0.0.1:{server.server_port}")))
pods = watch.Watch().stream(api.list_namespaced_pod, "default", resource_version="3", allow_watch_bookmarks=True)
try:
    for event in pods:
        events.append((event["type"], type(event["object"]).__name__))
except client.ApiException as error:
    events.append(("error", error.status))
print("events:", *events)
print("asked from version:", *asked)
if events != [("ADDED", "V1Pod"), ("BOOKMARK", "dict"), ("error", 410)] or asked != ["3", "9", "9"]:
    sys.exit("This has changed: a model, a dict, an error, and version 9 twice were expected")
PYTHON
v/bin/python watch.py
