"""The interface between the chassis and a service: a class that describes it. Each running app has one instance."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from fastapi import FastAPI
from pydantic.config import JsonDict
from starlette.types import ASGIApp

from chassis.check import Check
from chassis.metrics import Metrics
from chassis.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider


@dataclass(frozen=True)
class Command:
    """A command of this service, in addition to those that every service has.

    arguments: name and description of each. run: called with the service, which is not open yet, and the arguments'
    values.
    """

    name: str
    help: str
    run: Callable[..., Coroutine[None, None, None]]
    arguments: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class HealthTexts:
    """Names and descriptions in /health.

    noun: what the service counts, as in `tasks_total` and `task_api_tasks`; without it there is no total. total, gauge:
    description of the total in the OpenAPI document and in Prometheus. storage: the possible backends. degraded: when
    the response is a 503. example: of `storage` and `checks`. The defaults are those of a service without storage.
    """

    noun: str = ""
    total: str = ""
    gauge: str = ""
    storage: str = "none: this service stores nothing"
    degraded: str = "A dependency of the service is unavailable"
    example: JsonDict = field(default_factory=lambda: {"storage": "none", "checks": {}}, hash=False)


class Service:
    """Base class of a service. A subclass sets the attributes without a default, and overrides the methods it needs.

    Created once per app from its settings; creating it opens nothing.
    """

    name: ClassVar[str]
    """Name of its image, its Kubernetes Service and its traces: `task-api`. Its package is `task_api`."""
    version: ClassVar[str]
    title: ClassVar[str]
    description: ClassVar[str]
    """Introduction of the API documentation, in Markdown."""
    tags: ClassVar[Sequence[dict[str, Any]]]
    """OpenAPI tags of its operations."""
    settings: ClassVar[type[Settings]]
    metrics: ClassVar[Metrics]
    """Created once, by the class: metric names are unique in a process."""
    health: ClassVar[HealthTexts] = HealthTexts()
    credential_prefix: ClassVar[str]
    """Prefix of its tokens, so that secret scanners find leaked ones: `tsk_`."""
    scope_prefix: ClassVar[str]
    """Prefix that an issuer may use for scopes of this service, as in `tasks:read`: `tasks`."""
    open_errors: ClassVar[tuple[type[Exception], ...]] = ()
    """What `open` raises if a dependency is missing; the message names it and says what to do."""
    commands: ClassVar[Sequence[Command]] = ()
    exposed_headers: ClassVar[Sequence[str]] = ()
    """Response headers that pages of other origins may read, in addition to those of every service (cors.py)."""

    storage = "none"
    """Storage backend, as shown by /health and the metric build_info."""

    def __init__(self, settings: Settings) -> None:
        """settings: an instance of the class `settings`."""

    def add_to(self, app: FastAPI) -> None:
        """Adds to `app` the routes, the state that they use, and the exception handlers.

        `app.state` already has `settings` and `service`, which is this instance.
        """

    def wrap_app(self, _app: FastAPI, inner: ASGIApp) -> ASGIApp:
        """May return an ASGI app in front of FastAPI, as a fast path for frequent requests.

        inner: all of `app` behind EdgeMiddleware, for the other requests.
        """
        return inner

    async def open(self) -> None:
        """Called before the first request: connects to dependencies. Raises one of `open_errors`."""

    def background(self) -> list[Coroutine[None, None, None]]:
        """Background tasks; they run until they are cancelled at shutdown."""
        return []

    def end_streams(self) -> None:
        """Ends endless responses at shutdown."""

    async def close(self) -> None:
        """Called after the last request, or if `open` failed; must finish within a second."""

    async def check_health(self) -> tuple[int | None, dict[str, Check]]:
        """The total for /health, and a check of each dependency; a failed check never raises."""
        return None, {}

    def instrument(self, _provider: TracerProvider) -> None:
        """Instruments its calls to dependencies with spans."""
