"""What the routes share: what they get of a request, and how an answer says which version it is."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, FastAPI, Header, Request
from fastapi.responses import JSONResponse
from prometheus_client import Counter
from pydantic import BaseModel

from task_api import logs
from task_api.problems import Problem, answer
from task_api.store import KeyInUse, Store, StoreBusy, StoreUnavailable
from task_api.tasks.commands import (
    Answered,
    Expectation,
    KeyReused,
    NoSuchTask,
    OtherVersion,
    RequestKey,
    anything,
)
from task_api.tasks.models import Task
from task_api.tasks.rules import RuleBroken

log = logging.getLogger(__name__)

replays_total = Counter("task_api_idempotent_replays", "Requests answered with what an earlier one was answered")


def _store(request: Request) -> Store:
    store: Store = request.app.state.store
    return store


StoreDependency = Annotated[Store, Depends(_store)]

IdempotencyKey = Annotated[
    str | None,
    Header(
        pattern=r"^[\x21-\x7e]{1,255}$",
        description="A value of your own, kept 24 hours: a retry under it is answered as the first request was",
    ),
]
IfMatch = Annotated[
    str | None, Header(description='Only if the task still has this ETag (`"v7"`, several with commas between, or `*`)')
]
IfNoneMatch = Annotated[str | None, Header(description="Only if the task has another ETag by now; else 304")]


def etag(task: Task) -> str:
    """The task's version as a strong ETag (RFC 9110)."""
    return f'"v{task.version}"'


def etags(header: str) -> set[str]:
    """The entity tags of an If-Match or If-None-Match header, as they stand there."""
    return set(re.findall(r'\*|(?:W/)?"[^"]*"', header))


def expectation(if_match: str | None) -> Expectation:
    """What If-Match asks of a task."""
    if if_match is None:
        return anything
    wanted = etags(if_match)

    def expect(task: Task) -> None:
        # A strong comparison: W/"v7" matches nothing.
        if "*" not in wanted and etag(task) not in wanted:
            raise OtherVersion(
                f"Task {task.id} has the ETag {etag(task)} by now. "
                "Get it again, look at what changed, and send that ETag."
            )

    return expect


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


@contextlib.contextmanager
def as_problems() -> Iterator[None]:
    """Answers what can go wrong with tasks by the problem that it is."""
    try:
        yield
    except NoSuchTask as error:
        raise Problem(404, str(error), type="task-not-found") from None
    except OtherVersion as error:
        raise Problem(412, str(error), type="version-mismatch") from None
    except RuleBroken as error:
        raise Problem(422, str(error), type="rule-broken") from None
    except KeyReused:
        detail = "This Idempotency-Key was used for another request before. Use a new key for a new request."
        raise Problem(422, detail, type="idempotency-key-reused") from None
    except KeyInUse:
        detail = "A request with this Idempotency-Key is still under way. Try again in a moment, under the same key."
        raise Problem(409, detail, type="idempotency-key-in-use", headers={"Retry-After": "1"}) from None


def install_storage_problems(app: FastAPI) -> None:
    """Answers what can go wrong with the storage, in whatever route, by the problem that it is."""

    @app.exception_handler(StoreUnavailable)
    async def no_storage(request: Request, error: StoreUnavailable) -> JSONResponse:
        log.error("%s %s failed: %s", request.method, logs.shown_path(request.scope), error)
        detail = "The storage does not answer. Try again in a moment."
        return answer(request, Problem(503, detail, type="storage-unavailable", headers={"Retry-After": "1"}))

    @app.exception_handler(StoreBusy)
    async def busy(request: Request, _error: StoreBusy) -> JSONResponse:
        detail = "More requests wait for the storage than it can serve in time. Try again in a moment."
        return answer(request, Problem(503, detail, type="overloaded", headers={"Retry-After": "1"}))
