"""Idempotency-Key: a retry gets the response to the first request."""

from __future__ import annotations

import hashlib
from typing import Annotated

from fastapi import Depends, Header, Request
from fastapi.exceptions import RequestValidationError
from prometheus_client import Counter
from pydantic import BaseModel

from task_api.store import IDEMPOTENCY_HOURS
from task_api.tasks.commands import RequestKey, WriteResult
from task_api.tasks.models import TaskPatch

replays_total = Counter("task_api_idempotent_replays", "Requests answered with the response to an earlier request")

KEY_PATTERN = r'^("([ !#-\[\]-~]|\\["\\]){1,255}"|[!#-~][!-~]{0,254})$'
"""A structured-field string (RFC 8941, section 3.3.3), as draft-ietf-httpapi-idempotency-key-header-07 requires, or a
key without quotes, as most clients send it. The quoted and the unquoted form are two keys, so pods of any version find
the records of either."""


async def _one_key(
    request: Request,
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            pattern=KEY_PATTERN,
            description="A unique value chosen by the client, with or without quotes. For "
            f"{IDEMPOTENCY_HOURS} hours a retry with the same key gets the response to the first request",
        ),
    ] = None,
) -> str | None:
    if key is not None and len(request.headers.getlist("idempotency-key")) > 1:
        error = {
            "loc": ("header", "Idempotency-Key"),
            "type": "parameter",
            "msg": "must be sent once, with a single key",
        }
        raise RequestValidationError([error])
    return key


IdempotencyKey = Annotated[str | None, Depends(_one_key)]


def request_key(request: Request, key: str | None, subject: str, body: BaseModel | None) -> RequestKey | None:
    """The request's Idempotency-Key with a fingerprint of the parsed content, independent of its JSON formatting."""
    if key is None:
        return None
    # In a patch an absent field and a null one differ.
    content = "" if body is None else body.model_dump_json(exclude_unset=isinstance(body, TaskPatch))
    canonical = f"{request.method} {request.scope['path']} {content}"
    return RequestKey(subject, key, hashlib.sha256(canonical.encode()).hexdigest())


def replayed_header(result: WriteResult) -> dict[str, str]:
    """The Idempotency-Replayed header of a replayed response, which is also counted."""
    if result.replayed:
        replays_total.inc()
    return {"Idempotency-Replayed": "true"} if result.replayed else {}
