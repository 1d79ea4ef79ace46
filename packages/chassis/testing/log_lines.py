"""Log lines of a running service, and raw requests that no HTTP client would send."""

from __future__ import annotations

import json
import socket
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx2
from programs import DEADLINE_SECONDS, Service


def lines_of(service: Service, request_id: str) -> list[dict[str, Any]]:
    """The log lines of a request; waits until they have been written."""
    wait_for_log(service)
    return [line for line in map(json.loads, service.log) if line.get("request_id") == request_id]


def wait_for_log(service: Service) -> None:
    """Waits until all log lines so far have been read: sends another request and waits for its line."""
    last = uuid4().hex
    httpx2.get(f"{service.url}/last", headers={"X-Request-ID": last})
    deadline = datetime.now(UTC) + timedelta(seconds=DEADLINE_SECONDS)
    while not any(last in line for line in service.log):
        assert datetime.now(UTC) < deadline, "its log line is missing"
        time.sleep(0.005)


def send_raw(service: Service, request: bytes) -> bytes:
    """Sends the bytes unchanged and returns the start of the response."""
    host, port = service.url.removeprefix("http://").rsplit(":", 1)
    with socket.create_connection((host, int(port)), DEADLINE_SECONDS) as connection:
        connection.sendall(request)
        return connection.recv(65536)
