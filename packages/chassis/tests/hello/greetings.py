"""/v1/hello: short responses, long ones, and an endless one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from fastapi import Depends, Request
from fastapi.responses import PlainTextResponse, StreamingResponse
from pydantic import BaseModel

from chassis.auth import requires
from chassis.problems import problem_responses
from chassis.routes import Router

LONG = "Hello, world! " * 3_000
"""A greeting of 42 kB."""

READS, WRITES = [Depends(requires("read"))], [Depends(requires("write"))]
router = Router(prefix="/v1/hello", tags=["hello"], responses=problem_responses(401, 403, 422, 429, 503))


class Greeting(BaseModel):
    name: str


class Greeter:
    """Publishes greetings to all listeners."""

    def __init__(self) -> None:
        self._last = ""
        self._news = asyncio.Event()
        self._ended = False

    def greet(self, name: str) -> dict[str, str]:
        """Greets and notifies the listeners."""
        self._last = name
        self._wake()
        return {"message": f"Hello, {name}!"}

    def end(self) -> None:
        """Ends all streams."""
        self._ended = True
        self._wake()

    async def listen(self, past: int) -> AsyncIterator[str]:
        """`past` long greetings, then new ones as they arrive."""
        yield "retry: 2000\n\n"
        for _ in range(past):
            yield f"data: {LONG}\n\n"
        while not self._ended:
            await self._news.wait()
            if not self._ended:
                yield f"data: {self._last}\n\n"

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


@router.get("", dependencies=READS)
async def say_hello() -> dict[str, str]:
    """Greets the world."""
    return {"message": "Hello, world!"}


@router.post("", status_code=201, dependencies=WRITES)
async def say_hello_to(request: Request, greeting: Greeting) -> dict[str, str]:
    """Greets a name, and notifies the listeners."""
    greeter: Greeter = request.app.state.greeter
    return greeter.greet(greeting.name)


@router.get("/often", response_class=PlainTextResponse, dependencies=READS)
async def say_hello_often(times: int) -> str:
    """Greets the world `times` times, at length."""
    return LONG * times


@router.get("/stream", response_class=StreamingResponse, dependencies=READS)
async def listen(request: Request, past: int = 0) -> StreamingResponse:
    """Greetings as they arrive."""
    greeter: Greeter = request.app.state.greeter
    return StreamingResponse(greeter.listen(past), media_type="text/event-stream")


@router.get("/{name}", dependencies=READS)
async def say_hello_by_name(name: str) -> dict[str, str]:
    """Greets a name, without notifying the listeners."""
    return {"message": f"Hello, {name}!"}
