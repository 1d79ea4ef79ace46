"""FastAPI dependencies of the routes: the caller and the store."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from chassis.auth import Caller, requires
from task_api.store import Store


async def _store(request: Request) -> Store:
    store: Store = request.app.state.store
    return store


reader = requires("read")
Reader = Annotated[Caller, Depends(reader)]
CalendarReader = Annotated[Caller, Depends(requires("read", basic=True))]
"""Calendar clients can send a user name and a password, but no custom header."""
Writer = Annotated[Caller, Depends(requires("write"))]
StoreDependency = Annotated[Store, Depends(_store)]
