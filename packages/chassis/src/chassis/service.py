"""What the chassis has to know of a service: a class whose attributes say what it is. A running app has one of it."""

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
    """One of the command line, beside those that every service has.

    run: gets the service, which is not open yet, and what was typed for each of `arguments`, which are names and what
    each is.
    """

    name: str
    help: str
    run: Callable[..., Coroutine[None, None, None]]
    arguments: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class HealthTexts:
    """What /health calls the things of this service.

    noun: what it counts, as in `tasks_total` and `task_api_tasks`; without one there is no such number. total, gauge:
    what this number is, in the OpenAPI document and for Prometheus. storage: the kinds that there are. degraded: when
    the answer is a 503. example: of `storage` and `checks`. Where nothing is said of any, the service keeps nothing.
    """

    noun: str = ""
    total: str = ""
    gauge: str = ""
    storage: str = "none: this service keeps nothing"
    degraded: str = "Something that the service needs does not answer"
    example: JsonDict = field(default_factory=lambda: {"storage": "none", "checks": {}}, hash=False)


class Service:
    """What a service is for. A subclass sets the attributes without a value, and overrides what it needs of the rest.

    Made for each app, of its settings; opens nothing by that.
    """

    name: ClassVar[str]
    """As its image, its Service in Kubernetes and its traces are called: `task-api`. Its package is `task_api`."""
    version: ClassVar[str]
    title: ClassVar[str]
    description: ClassVar[str]
    """In Markdown, for the head of the API's documentation."""
    tags: ClassVar[Sequence[dict[str, Any]]]
    """Of its operations, as OpenAPI has them."""
    settings: ClassVar[type[Settings]]
    metrics: ClassVar[Metrics]
    """Made once, by the class: the names in it are those of the process."""
    health: ClassVar[HealthTexts] = HealthTexts()
    credential_prefix: ClassVar[str]
    """What its tokens begin with, so that scanners for leaked secrets find them: `tsk_`."""
    scope_prefix: ClassVar[str]
    """What an issuer may put before a scope that is meant for this service, with a colon between: `tasks`."""
    cannot_open: ClassVar[tuple[type[Exception], ...]] = ()
    """What `open` raises where something that it needs is not there; the message says what, and what to do."""
    commands: ClassVar[Sequence[Command]] = ()
    exposed_headers: ClassVar[Sequence[str]] = ()
    """What pages of other origins may read of its responses, beside the headers that every service has (cors.py)."""

    storage = "none"
    """What /health and the metric build_info call it."""

    def __init__(self, settings: Settings) -> None:
        """settings: of the class `settings`."""

    def add_to(self, app: FastAPI) -> None:
        """Gives `app` its routes, what they ask for in its state, and the problems that may come from any of them.

        In its state are already `settings`, as this was made of, and `service`, which is this.
        """

    def shortcut(self, _app: FastAPI, rest: ASGIApp) -> ASGIApp:
        """May answer what is asked for most without `rest`, which is all of `app` behind its edge."""
        return rest

    async def open(self) -> None:
        """Before the first request: connects to what it needs. Raises one of `cannot_open`."""

    def background(self) -> list[Coroutine[None, None, None]]:
        """What goes on while it is open, until it is cancelled."""
        return []

    def end_streams(self) -> None:
        """Ends answers that would not end by themselves."""

    async def close(self) -> None:
        """After the last request, or where it could not be opened; within a second."""

    async def condition(self) -> tuple[int | None, dict[str, Check]]:
        """The total for /health, and whether each thing that it needs answers; never raises because of one."""
        return None, {}

    def trace(self, _provider: TracerProvider) -> None:
        """Makes spans of what it asks of others."""
