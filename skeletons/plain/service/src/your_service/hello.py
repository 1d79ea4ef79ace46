"""/v1/hello: a route that checks authorization and parameters."""

from typing import Annotated

from fastapi import Depends, Query, Request
from pydantic import BaseModel, Field

from chassis.auth import requires
from chassis.problems import problem_responses
from chassis.routes import Router
from your_service.settings import Settings

router = Router(prefix="/v1/hello", tags=["hello"])


class Hello(BaseModel):
    """A greeting."""

    message: str = Field(examples=["Hello, world!"])


@router.get("", dependencies=[Depends(requires("read"))], responses=problem_responses(401, 403, 422, 429, 503))
async def say_hello(
    request: Request, name: Annotated[str, Query(min_length=1, max_length=100, description="Name to greet")] = "world"
) -> Hello:
    """Greets by name."""
    settings: Settings = request.app.state.settings
    return Hello(message=f"{settings.greeting}, {name}!")
