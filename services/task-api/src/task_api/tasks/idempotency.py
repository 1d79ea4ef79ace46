"""Idempotency-Key: a request sent again is answered as it was the first time."""

from __future__ import annotations

import hashlib
from typing import Annotated

from fastapi import Depends, Header, Request
from fastapi.exceptions import RequestValidationError
from prometheus_client import Counter
from pydantic import BaseModel

from task_api.tasks.commands import Answered, RequestKey
from task_api.tasks.models import TaskPatch

replays_total = Counter("task_api_idempotent_replays", "Requests answered with what an earlier one was answered")

KEY_PATTERN = r'^("([ !#-\[\]-~]|\\["\\]){1,255}"|[!#-~][!-~]{0,254})$'
"""A string of structured fields (RFC 8941, section 3.3.3), as draft-ietf-httpapi-idempotency-key-header-07 wants it, or
a key without quotes, as most clients send it. With and without them are two keys: what was kept for either is found by
pods of any version."""


async def _one_key(
    request: Request,
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            pattern=KEY_PATTERN,
            description="A value of your own, in quotes or without, kept 24 hours: a retry under it is answered as the "
            "first request was",
        ),
    ] = None,
) -> str | None:
    if key is not None and len(request.headers.getlist("idempotency-key")) > 1:
        wrong = {"loc": ("header", "Idempotency-Key"), "type": "parameter", "msg": "takes one key, in one line"}
        raise RequestValidationError([wrong])
    return key


IdempotencyKey = Annotated[str | None, Depends(_one_key)]


def request_key(request: Request, key: str | None, subject: str, asked: BaseModel | None) -> RequestKey | None:
    """The request's Idempotency-Key with a fingerprint of what it asks for: the same content, however it is written."""
    if key is None:
        return None
    # In a patch a member that is left out and one that is null are two things.
    content = "" if asked is None else asked.model_dump_json(exclude_unset=isinstance(asked, TaskPatch))
    said = f"{request.method} {request.url.path} {content}"
    return RequestKey(subject, key, hashlib.sha256(said.encode()).hexdigest())


def replayed_header(answered: Answered) -> dict[str, str]:
    """Says of a repeated answer that it is one, and counts it."""
    if answered.replayed:
        replays_total.inc()
    return {"Idempotency-Replayed": "true"} if answered.replayed else {}
