"""What a service that is running has logged, and requests that no client would send."""

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
    """What the log says of a request. What comes after it on the same connection has made sure that it is there."""
    settle(service)
    return [line for line in map(json.loads, service.log) if line.get("request_id") == request_id]


def settle(service: Service) -> None:
    """Waits until all that was said has been read: one more request's line comes last."""
    last = uuid4().hex
    httpx2.get(f"{service.url}/last", headers={"X-Request-ID": last})
    deadline = datetime.now(UTC) + timedelta(seconds=DEADLINE_SECONDS)
    while not any(last in line for line in service.log):
        assert datetime.now(UTC) < deadline, "its line did not come"
        time.sleep(0.005)


def raw(service: Service, request: bytes) -> bytes:
    """Sends bytes as they are and returns the beginning of the answer."""
    host, port = service.url.removeprefix("http://").rsplit(":", 1)
    with socket.create_connection((host, int(port)), DEADLINE_SECONDS) as connection:
        connection.sendall(request)
        return connection.recv(65536)
