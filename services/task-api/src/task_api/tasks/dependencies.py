"""What routes ask for in their signatures beside the request's own fields: who calls, and the storage."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from chassis.auth import Caller, requires
from task_api.store import Store


async def _store(request: Request) -> Store:
    store: Store = request.app.state.store
    return store


Reader = Annotated[Caller, Depends(requires("read"))]
CalendarReader = Annotated[Caller, Depends(requires("read", basic=True))]
"""Calendar programs send a name and a password, and no header that anybody could set."""
Writer = Annotated[Caller, Depends(requires("write"))]
StoreDependency = Annotated[Store, Depends(_store)]
