"""Is the service well? /health for people, /livez and /readyz for Kubernetes."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter, Request, Response, status
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field

import task_api
from task_api.store import Store, StoreUnavailable

COUNT_MAX_AGE_SECONDS = 5.0
"""Counting reads the whole index in PostgreSQL: however many ask, it is counted once in this time."""

router = APIRouter(tags=["health"])

OK: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"example": "ok"}}}}


class Check(BaseModel):
    status: Literal["ok", "failed"]
    detail: str = ""


class Health(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "status": "ok",
                    "version": "0.1.0",
                    "revision": "4b60abfbe2d1",
                    "uptime_seconds": 4711.25,
                    "tasks_total": 42,
                    "memory_bytes": 57438208,
                    "storage": "postgresql",
                    "checks": {"storage": {"status": "ok", "detail": ""}},
                }
            ]
        }
    )

    status: Literal["ok", "degraded"]
    version: str = Field(description="The release")
    revision: str = Field(description="The build: a commit, or a hash of the sources")
    uptime_seconds: float = Field(description="Since this process became ready")
    tasks_total: int | None = Field(
        description="Tasks in the storage, at most five seconds old; null when it is degraded"
    )
    memory_bytes: int = Field(description="Resident memory of this process (on macOS its highest so far)")
    storage: str = Field(description="memory, sqlite or postgresql")
    checks: dict[str, Check]


class Vitals:
    """What /health says of one running app."""

    def __init__(self, *, store: Store, revision: str) -> None:
        self._store = store
        self._revision = revision
        self._started = time.monotonic()
        self._count = 0
        self._counted_at: float | None = None

    async def health(self) -> Health:
        """Asks the storage; never raises because of it."""
        try:
            await self._store.ping()
            total: int | None = await self._tasks_total()
            storage = Check(status="ok")
            if self._store.kind == "memory":
                storage.detail = "tasks are kept in memory and are gone when the service stops; set TASKS_DATABASE_URL"
        except StoreUnavailable as error:
            total, storage = None, Check(status="failed", detail=str(error))
        return Health(
            status="ok" if storage.status == "ok" else "degraded",
            version=task_api.__version__,
            revision=self._revision,
            uptime_seconds=round(time.monotonic() - self._started, 3),
            tasks_total=total,
            memory_bytes=_memory_bytes(),
            storage=self._store.kind,
            checks={"storage": storage},
        )

    async def _tasks_total(self) -> int:
        now = time.monotonic()
        if self._counted_at is None or now - self._counted_at > COUNT_MAX_AGE_SECONDS:
            self._count = await self._store.count()
            self._counted_at = now
        return self._count


@router.get(
    "/health",
    summary="How the service is",
    responses={503: {"model": Health, "description": "The storage does not answer"}},
)
async def health(request: Request, response: Response) -> Health:
    """For people and dashboards. 503 when its storage does not answer."""
    vitals: Vitals = request.app.state.vitals
    answer = await vitals.health()
    response.headers["Cache-Control"] = "no-store"
    if answer.status != "ok":
        response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    return answer


@router.get("/livez", summary="Does the process answer?", response_class=PlainTextResponse, responses=OK)
async def livez() -> str:
    """Asks nothing else: a restart does not repair a lost database."""
    return "ok"


@router.get("/readyz", summary="May it get requests?", response_class=PlainTextResponse, responses=OK)
async def readyz() -> str:
    """It serves only once its storage was opened and migrated.

    A database lost later leaves it ready: answering 503 beats an empty Service, where clients are refused.
    """
    return "ok"


def _memory_bytes() -> int:
    statm = Path("/proc/self/statm")  # Linux; its second figure is the resident pages
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
