"""Asks every pod, and the public address, which commit it is."""

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

ANSWER_TIMEOUT = 10
SOAK_INTERVAL = 5
SOAK_REPORT_EVERY = 30


def smoke(settings: Settings, commit: str) -> None:
    """An empty commit is that of a release whose values name none: then any answer will do. Raises Failed."""
    number = pods_that_say(settings, commit)
    print(f"{number} pods answer, and each says that it is {commit or 'something'}", flush=True)


def soak(settings: Settings, commit: str) -> None:
    """Goes on asking for SOAK_TIME. Raises Failed where the pods no longer say the commit or a container restarted."""
    if not settings.soak_time:
        return
    before = restarts(settings)
    begun = reported = time.monotonic()
    print(f"Soaking for {settings.soak_time} s", flush=True)
    while (soaked := time.monotonic() - begun) < settings.soak_time:
        for pod, number in restarts(settings).items():
            if number > before.get(pod, 0):
                raise Failed(f"A container of {pod} was restarted within its first {soaked:.0f} s of soak time.")
        pods_that_say(settings, commit)
        if time.monotonic() - reported >= SOAK_REPORT_EVERY:
            reported = time.monotonic()
            print(f"Soaking: {soaked:.0f} of {settings.soak_time} s", flush=True)
        wait(min(SOAK_INTERVAL, settings.soak_time))


def pods_that_say(settings: Settings, commit: str) -> int:
    """How many pods there are, once all of them, and the public address, say the commit. Raises Failed."""
    deadline = time.monotonic() + settings.smoke_timeout
    while True:
        found = pods(settings)
        problems = [problem for pod in found if (problem := ask_pod(pod["metadata"]["name"], commit))]
        if settings.production_url:
            problem = ask(settings.production_url, commit)
            problems += [problem] if problem else []
        if found and not problems:
            return len(found)
        if time.monotonic() > deadline:
            first = f"The service is not {commit} after {settings.smoke_timeout} s:"
            raise Failed("\n".join([first, *(problems or ["no pod"])]))
        wait(1)


def ask_pod(pod: str, commit: str) -> str:
    """Nothing if the pod answers with the commit, or else what is wrong. By a port-forward, which no NetworkPolicy
    stops."""
    command = ["kubectl", "port-forward", f"pod/{pod}", ":8000", "--address", "127.0.0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as forward:
        try:
            line = first_line(forward)
            port = re.search(r"127\.0\.0\.1:(\d+)", line)
            if port is None:
                forward.terminate()
                said = forward.communicate()[1].decode(errors="replace").strip() or line.strip()
                return f"{pod}: {said or f'no port-forward within {ANSWER_TIMEOUT} s'}"
            problem = ask(f"http://127.0.0.1:{port[1]}", commit)
            return f"{pod}: {problem}" if problem else ""
        finally:
            forward.terminate()


def first_line(process: subprocess.Popen[bytes]) -> str:
    """What it prints first; as much of that as there is when it ends, or takes too long."""
    assert process.stdout is not None
    read = b""
    deadline = time.monotonic() + ANSWER_TIMEOUT
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


def ask(url: str, commit: str) -> str:
    """Nothing if the commit is what answers there, or else what is wrong. In a thread: a signal is heard meanwhile, and
    an answer that comes a byte at a time ends, too."""
    problems: list[str] = []
    asking = threading.Thread(target=lambda: problems.append(_ask(url, commit)), daemon=True)
    asking.start()
    deadline = time.monotonic() + ANSWER_TIMEOUT
    while asking.is_alive() and time.monotonic() < deadline:
        wait(0.01)
    return problems[0] if problems else f"{url}/health: no answer within {ANSWER_TIMEOUT} s"


def _ask(url: str, commit: str) -> str:
    try:
        with _web().open(f"{url}/health", timeout=ANSWER_TIMEOUT) as answer:
            revision = json.loads(answer.read())["revision"]
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        return f"{url}/health: {type(error).__name__}: {error}"
    return "" if revision == commit or not commit else f"{url}/health says that it is {revision}"


def _web() -> urllib.request.OpenerDirector:
    """Knows HTTP and HTTPS alone: urlopen reads files, too, and follows a redirection to FTP."""
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
