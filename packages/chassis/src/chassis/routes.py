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
        self._has_limits = bool({"max_body_size", "form_limits"} & given.keys())

    @property
    def is_plain(self) -> bool:
        """Whether nothing is to be added to its routes: mounts, pages and limits of FastAPI's are left to FastAPI."""
        limited = self._has_limits or any(getattr(route, "max_body_size", None) for route in self.routes)
        others = self._low_priority_routes or not all(isinstance(route, APIRoute) for route in self.routes)
        return not limited and not others
