"""Asks every pod, and the public address, which commit it is."""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.request

from scripts.deploy.cluster import pods
from scripts.deploy.processes import Failed, wait
from scripts.deploy.settings import Settings


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
