"""Verifies which commit every pod, and the public address, serves."""

from __future__ import annotations

import http.client
import json
import os
import re
import selectors
import subprocess
import threading
import time
import urllib.request

from scripts.deploy.cluster import pods, restarts
from scripts.deploy.processes import Failed, wait
from scripts.deploy.settings import Settings

RESPONSE_TIMEOUT = 10
SOAK_INTERVAL = 5
SOAK_REPORT_EVERY = 30


def smoke(settings: Settings, commit: str) -> None:
    """With an empty commit (a release whose values set none) any response passes. Raises Failed."""
    count = wait_for_commit(settings, commit)
    print(f"{count} pods healthy" + (f", all at commit {commit}" if commit else ""), flush=True)


def soak(settings: Settings, commit: str) -> None:
    """Keeps verifying for SOAK_TIME, the last time at its end. Raises Failed if the pods stop serving the commit or a
    container restarts."""
    if not settings.soak_time:
        return
    before = restarts(settings)
    started = reported = time.monotonic()
    print(f"Soaking for {settings.soak_time} s", flush=True)
    while (remaining := started + settings.soak_time - time.monotonic()) > 0:
        wait(min(SOAK_INTERVAL, remaining))
        soaked = time.monotonic() - started
        for pod, number in restarts(settings).items():
            if number > before.get(pod, 0):
                raise Failed(f"A container of {pod} restarted within the first {soaked:.0f} s of soak time.")
        wait_for_commit(settings, commit)
        if time.monotonic() - reported >= SOAK_REPORT_EVERY:
            reported = time.monotonic()
            print(f"Soaking: {soaked:.0f} of {settings.soak_time} s", flush=True)


def wait_for_commit(settings: Settings, commit: str) -> int:
    """Waits until all pods, and the public address, serve the commit; returns the number of pods. Raises Failed."""
    deadline = time.monotonic() + settings.smoke_timeout
    while True:
        found = pods(settings)
        problems = [problem for pod in found if (problem := check_pod(pod["metadata"]["name"], commit))]
        if settings.production_url:
            problem = check_url(settings.production_url, commit)
            problems += [problem] if problem else []
        if found and not problems:
            return len(found)
        if time.monotonic() > deadline:
            summary = f"Verifying commit {commit} failed after {settings.smoke_timeout} s:"
            raise Failed("\n".join([summary, *(problems or ["no pods"])]))
        wait(1)


def check_pod(pod: str, commit: str) -> str:
    """Returns an error, or an empty string if the pod serves the commit. Uses a port-forward, which NetworkPolicies
    do not affect."""
    command = ["kubectl", "port-forward", f"pod/{pod}", ":8000", "--address", "127.0.0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as forward:
        try:
            line = first_line(forward)
            port = re.search(r"127\.0\.0\.1:(\d+)", line)
            if port is None:
                forward.terminate()
                error = forward.communicate()[1].decode(errors="replace").strip() or line.strip()
                return f"{pod}: {error or f'no port-forward within {RESPONSE_TIMEOUT} s'}"
            problem = check_url(f"http://127.0.0.1:{port[1]}", commit)
            return f"{pod}: {problem}" if problem else ""
        finally:
            forward.terminate()


def first_line(process: subprocess.Popen[bytes]) -> str:
    """The first line of its output, or what there is of it when the process ends or the time is over."""
    assert process.stdout is not None
    read = b""
    deadline = time.monotonic() + RESPONSE_TIMEOUT
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while b"\n" not in read and time.monotonic() < deadline:
            if selector.select(timeout=0):
                piece = os.read(process.stdout.fileno(), 4096)
                if not piece:
                    break
                read += piece
            else:
                wait(0.05)
    return read.decode(errors="replace")


def check_url(url: str, commit: str) -> str:
    """Returns an error, or an empty string if the commit is served there. Runs in a thread, so that signals are handled
    and a response that arrives a byte at a time is cut off."""
    problems: list[str] = []
    request = threading.Thread(target=lambda: problems.append(_check_revision(url, commit)), daemon=True)
    request.start()
    deadline = time.monotonic() + RESPONSE_TIMEOUT
    while request.is_alive() and time.monotonic() < deadline:
        wait(0.01)
    return problems[0] if problems else f"{url}/health: no response within {RESPONSE_TIMEOUT} s"


def _check_revision(url: str, commit: str) -> str:
    try:
        with _http_opener().open(f"{url}/health", timeout=RESPONSE_TIMEOUT) as response:
            revision = json.loads(response.read())["revision"]
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        return f"{url}/health: {type(error).__name__}: {error}"
    return "" if revision == commit or not commit else f"{url}/health reports commit {revision}"


def _http_opener() -> urllib.request.OpenerDirector:
    """HTTP and HTTPS only: urlopen also reads files, and follows a redirect to FTP."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    return opener
