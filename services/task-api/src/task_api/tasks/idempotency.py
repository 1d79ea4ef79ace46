"""Idempotency-Key: a request sent again is answered as it was the first time."""

from __future__ import annotations

import hashlib
from typing import Annotated

from fastapi import Header, Request
from prometheus_client import Counter
from pydantic import BaseModel

from task_api.tasks.commands import Answered, RequestKey

replays_total = Counter("task_api_idempotent_replays", "Requests answered with what an earlier one was answered")

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[\x21-\x7e]{1,255}$",
        description="A value of your own, kept 24 hours: a retry under it is answered as the first request was",
    ),
]


def request_key(request: Request, key: str | None, subject: str, asked: BaseModel) -> RequestKey | None:
    """The request's Idempotency-Key with a fingerprint of what it asks for: the same content, however it is written."""
    if key is None:
        return None
    content = f"{request.method} {request.url.path} {asked.model_dump_json()}"
    return RequestKey(subject, key, hashlib.sha256(content.encode()).hexdigest())


def replayed_header(answered: Answered) -> dict[str, str]:
    """Says of a repeated answer that it is one, and counts it."""
    if answered.replayed:
        replays_total.inc()
    return {"Idempotency-Replayed": "true"} if answered.replayed else {}
