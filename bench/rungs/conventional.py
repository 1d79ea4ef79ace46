"""Rung 6: the same three endpoints written conventionally, following popular FastAPI templates: SQLAlchemy's async ORM
with a session per request from a dependency, `response_model` with `from_attributes`, BaseHTTPMiddleware for request
ID, duration and log line, uvicorn with its defaults. It writes the same rows, including the change feed's."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from typing import Annotated, Any
from uuid import UUID, uuid4

from fastapi import Depends, FastAPI, HTTPException, Query, Request
from pydantic import BaseModel, ConfigDict, Field, field_validator
from sqlalchemy import Text, func, select
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP, TSVECTOR
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, deferred, mapped_column
from starlette.middleware.base import BaseHTTPMiddleware
from uuid_utils.compat import uuid7

logging.basicConfig(level=logging.INFO)
log = logging.getLogger("app")
PRIORITIES = ["none", "low", "medium", "high", "urgent"]

engine = create_async_engine(
    os.environ["BENCH_DATABASE_URL"].replace("postgresql://", "postgresql+asyncpg://"),
    pool_size=int(os.environ["BENCH_POOL"]),
    max_overflow=0,
)
SessionLocal = async_sessionmaker(engine, expire_on_commit=False)
Timestamp = TIMESTAMP(timezone=True)


class Base(DeclarativeBase):
    pass


class TaskRow(Base):
    __tablename__ = "tasks"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    title: Mapped[str] = mapped_column(Text)
    description: Mapped[str | None] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text)
    priority: Mapped[int]
    due_at: Mapped[datetime | None] = mapped_column(Timestamp)
    due_on: Mapped[date | None]
    due: Mapped[datetime | None] = mapped_column(Timestamp)
    start_at: Mapped[datetime | None] = mapped_column(Timestamp)
    labels: Mapped[list[str]] = mapped_column(ARRAY(Text))
    project: Mapped[str | None] = mapped_column(Text)
    parent: Mapped[UUID | None]
    assignee: Mapped[str | None] = mapped_column(Text)
    percent_done: Mapped[int]
    recurrence: Mapped[str | None] = mapped_column(Text)
    time_zone: Mapped[str | None] = mapped_column(Text)
    followed_by: Mapped[UUID | None]
    position: Mapped[float]
    # `metadata` is reserved by SQLAlchemy.
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata", JSONB)
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    updated_at: Mapped[datetime] = mapped_column(Timestamp)
    completed_at: Mapped[datetime | None] = mapped_column(Timestamp)
    deleted_at: Mapped[datetime | None] = mapped_column(Timestamp)
    version: Mapped[int]
    words: Mapped[Any] = deferred(mapped_column(TSVECTOR))


class ChangeRow(Base):
    __tablename__ = "changes"

    number: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(Timestamp)
    type: Mapped[str] = mapped_column(Text)
    task: Mapped[str] = mapped_column(Text)


class TaskCreate(BaseModel):
    title: str = Field(min_length=1, max_length=200)
    description: str | None = Field(default=None, max_length=10_000)
    status: str = "todo"
    priority: str = "none"
    due_at: datetime | None = None
    due_on: date | None = None
    start_at: datetime | None = None
    labels: list[str] = []
    project: str | None = None
    parent: UUID | None = None
    assignee: str | None = None
    percent_done: int = 0
    recurrence: str | None = None
    time_zone: str | None = None
    position: float = 0.0
    metadata: dict[str, str] = {}


class TaskPublic(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: UUID
    title: str
    description: str | None
    status: str
    priority: str
    due_at: datetime | None
    due_on: date | None
    start_at: datetime | None
    labels: list[str]
    project: str | None
    parent: UUID | None
    assignee: str | None
    percent_done: int
    recurrence: str | None
    time_zone: str | None
    followed_by: UUID | None
    position: float
    metadata: dict[str, str] = Field(validation_alias="metadata_")
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None
    deleted_at: datetime | None
    version: int

    @field_validator("priority", mode="before")
    @classmethod
    def by_name(cls, rank: int) -> str:
        """The priority is stored as a number."""
        return PRIORITIES[rank]


class TasksPublic(BaseModel):
    items: list[TaskPublic]
    next_cursor: str | None


async def get_session() -> AsyncIterator[AsyncSession]:
    """A session for one request."""
    async with SessionLocal() as session:
        yield session


SessionDep = Annotated[AsyncSession, Depends(get_session)]


class RequestLog(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: Any) -> Any:
        """A request ID, a duration and a log line per request."""
        request_id = request.headers.get("X-Request-ID") or uuid4().hex
        start = time.perf_counter()
        response = await call_next(request)
        seconds = time.perf_counter() - start
        response.headers["X-Request-ID"] = request_id
        response.headers["X-Process-Time"] = f"{seconds:.4f}"
        log.info(
            "%s %s %s %.1f ms %s", request.method, request.url.path, response.status_code, seconds * 1000, request_id
        )
        return response


app = FastAPI()
app.add_middleware(RequestLog)


@app.get("/v1/tasks/{task_id}", response_model=TaskPublic)
async def read_task(session: SessionDep, task_id: UUID) -> Any:
    """One task."""
    task = await session.get(TaskRow, task_id)
    if task is None or task.deleted_at is not None:
        raise HTTPException(404, "Task not found")
    return task


@app.get("/v1/tasks", response_model=TasksPublic)
async def read_tasks(session: SessionDep, page_size: Annotated[int, Query(ge=1, le=200)] = 50) -> Any:
    """The newest tasks."""
    newest = select(TaskRow).where(TaskRow.deleted_at.is_(None)).order_by(TaskRow.id.desc()).limit(page_size + 1)
    tasks = list((await session.scalars(newest)).all())
    return {"items": tasks[:page_size], "next_cursor": str(tasks[-2].id) if len(tasks) > page_size else None}


@app.post("/v1/tasks", response_model=TaskPublic, status_code=201)
async def create_task(session: SessionDep, new: TaskCreate) -> Any:
    """A new task and its entry in the change feed, in one transaction."""
    now = datetime.now(UTC)
    values = new.model_dump()
    values["priority"] = PRIORITIES.index(new.priority)
    values["metadata_"] = values.pop("metadata")
    words = re.findall(r"\w+", f"{new.title} {new.description or ''}".lower())
    due = new.due_at or (new.due_on and datetime(new.due_on.year, new.due_on.month, new.due_on.day, tzinfo=UTC))
    task = TaskRow(**values, created_at=now, updated_at=now, version=1, due=due, words=func.array_to_tsvector(words))
    session.add(task)
    await session.flush()
    session.add(ChangeRow(at=now, type="created", task=TaskPublic.model_validate(task).model_dump_json()))
    await session.commit()
    await session.refresh(task)
    return task
