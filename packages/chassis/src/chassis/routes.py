"""Routes of a service."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.routing import APIRoute


def operation_id(route: APIRoute) -> str:
    """The name of its function, which reads well in generated clients."""
    return route.name


class Router(APIRouter):
    """A router whose routes the application of the chassis takes as they are.

    FastAPI 0.165 makes each route of any other once more when the first request comes, since an application may give it
    a prefix or another operation id: 52 ms of CPU for 13 routes. And it looks for the route of each request twice.
    """

    def __init__(self, **given: Any) -> None:
        super().__init__(**given, generate_unique_id_function=operation_id)
