"""Routes of a service."""

from __future__ import annotations

import difflib
import email.message
import re
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

from fastapi import APIRouter, Request, Response, params
from fastapi._compat import field_annotation_is_sequence  # by which FastAPI reads one value or all of them
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_flat_params
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute, _effective_route_context_var, get_request_handler
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute

from chassis.methods import ACCEPTS
from chassis.problems import Problem, problem_responses

MAX_NAMED = 10
"""How many parameters of one request are refused by name. A query string has room for thousands."""

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def operation_id(route: APIRoute) -> str:
    """The name of its function, which reads well in generated clients."""
    return route.name


class Route(APIRoute):
    """Refuses what FastAPI would pass over: query parameters that the route does not declare or takes once, and a body
    in another form than it declares.

    What is wrong is said to who may ask alone: the dependencies come first. A good request pays for nothing but a look
    at the length of its query string, and at its content's type where it has content.
    """

    def __init__(self, *args: Any, **given: Any) -> None:
        super().__init__(*args, **given)
        self.document()

    def document(self) -> None:
        """Adds to what the OpenAPI document says what every such route may answer."""
        statuses = [400, 415, 422] if self.body_field is not None else [422]
        missing = [status for status in statuses if not {status, str(status)} & self.responses.keys()]
        self.responses = {**self.responses, **problem_responses(*missing)}

    @property
    def media_types(self) -> Sequence[str]:
        """What its body may be: what the OpenAPI document has for it, in the same order. Nothing where it has none, and
        where it is a form, which FastAPI reads by itself."""
        if self.body_field is None or isinstance(self.body_field.field_info, params.Form):
            return ()
        info = self.body_field.field_info
        declared: dict[str, Any] = (self.openapi_extra or {}).get("requestBody", {}).get("content", {})
        return tuple(dict.fromkeys([*declared, cast("params.Body", info).media_type]))

    def get_route_handler(self) -> Handler:
        """FastAPI's, and before it what it does not look at."""
        handle: Handler = super().get_route_handler()
        context = _effective_route_context_var.get()  # of a router with a prefix, which may have dependencies
        own = context is None or context.original_route is not self
        dependant = self.dependant if own else cast("Any", context).dependant
        overrides = self.dependency_overrides_provider if own else cast("Any", context).dependency_overrides_provider
        if not self.include_in_schema:
            return handle
        media_types = self.media_types

        async def admit(request: Request) -> list[Any]:
            """Who may not ask is told that, and nothing of the rest. Returns what else is wrong."""
            asked = replace(dependant, call=_nothing, body_params=[])
            try:
                await get_request_handler(asked, dependency_overrides_provider=overrides)(request)
            except RequestValidationError as error:
                return list(error.errors())
            return []

        async def checked(request: Request) -> Response:
            if request.scope["query_string"] and (errors := _query_errors(request, dependant)):
                raise RequestValidationError(errors + await admit(request))
            if not media_types:
                return await handle(request)
            body = await request.body()
            if body and (problem := _body_problem(request, body, media_types)) is not None:
                await admit(request)
                raise problem
            try:
                return await handle(request)
            except RequestValidationError as error:
                (first, *_) = error.errors()
                if first["type"] != "json_invalid":
                    raise
                where = f"at character {first['loc'][-1]}"
            except HTTPException as error:
                if not isinstance(error.__cause__, RecursionError):
                    raise
                where = "that can be read: it is nested too deeply"
            await admit(request)
            raise Problem(400, f"The body is not JSON {where}.", type="invalid-json")

        return checked


class Router(APIRouter):
    """A router whose routes the application of the chassis takes as they are.

    FastAPI 0.165 makes each route of any other once more when the first request comes, since an application may give it
    a prefix or another operation id: 52 ms of CPU for 13 routes. And it looks for the route of each request twice.
    """

    def __init__(self, **given: Any) -> None:
        super().__init__(**{"route_class": Route, **given}, generate_unique_id_function=operation_id)
        self._has_limits = bool({"max_body_size", "form_limits"} & given.keys())

    @property
    def is_plain(self) -> bool:
        """Whether nothing is to be added to its routes: mounts, pages and limits of FastAPI's are left to FastAPI."""
        limited = self._has_limits or any(getattr(route, "max_body_size", None) for route in self.routes)
        others = self._low_priority_routes or not all(isinstance(route, APIRoute) for route in self.routes)
        return not limited and not others


def make_strict(routes: Sequence[BaseRoute]) -> None:
    """Makes a Route of each of FastAPI's own, those of routers within routers, too."""
    for route in _api_routes(routes):
        if type(route) is APIRoute:
            route.__class__ = Route
            cast("Route", route).document()


def _api_routes(routes: Sequence[BaseRoute]) -> Iterator[APIRoute]:
    for route in routes:
        if isinstance(route, APIRoute):
            yield route
        elif not isinstance(router := getattr(route, "original_router", None), Router | None):
            yield from _api_routes(router.routes)


async def _nothing(**_: Any) -> Response:
    return Response()


def _query_errors(request: Request, dependant: Dependant) -> list[Any]:
    """What of the query parameters FastAPI would pass over, in pydantic's form."""
    known = {
        str(field.validation_alias or field.alias): field_annotation_is_sequence(field.field_info.annotation)
        for one in _with_dependencies(dependant)
        for field in get_flat_params(Dependant(query_params=one.query_params))  # those of a model one by one
    }
    sent = Counter(name for name, _ in request.query_params.multi_items())
    found = []
    for name, times in sent.items():
        if name not in known:
            found.append((name, _unknown(name, list(known))))
        elif times > 1 and not known[name]:
            found.append((name, f"was sent {times} times, and takes one value"))
    return [{"type": "parameter", "loc": ("query", name), "msg": text} for name, text in found[:MAX_NAMED]]


def _with_dependencies(dependant: Dependant) -> Iterator[Dependant]:
    yield dependant
    for dependency in dependant.dependencies:
        yield from _with_dependencies(dependency)


def _unknown(name: str, known: list[str]) -> str:
    bare = re.sub(r"\[[^\]]*\]$", "", name[:100])  # PHP's form, and axios', of one that is sent several times
    near = difflib.get_close_matches(bare, known, n=1, cutoff=0.7)
    if near:
        return f"is not a parameter of this operation; did you mean `{near[0]}`?"
    if known:
        return f"is not a parameter of this operation, which takes {', '.join(f'`{one}`' for one in sorted(known))}"
    return "is not a parameter of this operation, which takes none"


def _body_problem(request: Request, body: bytes, media_types: Sequence[str]) -> Problem | None:
    """What is wrong with the form of the body, before it is read."""
    coding = ", ".join(request.headers.getlist("content-encoding")).strip().lower()
    if coding not in ("", "identity"):
        detail = f"The body has the Content-Encoding {_shown(coding)}, which is not understood. Send it as it is."
        return Problem(415, detail, type="unsupported-media-type", headers={"Accept-Encoding": "identity"})
    sent = request.headers.get("content-type", "")
    message = email.message.Message()  # as FastAPI reads it
    message["content-type"] = sent
    media_type = message.get_content_type() if sent else ""
    if media_type not in media_types:
        said = f"The body has the Content-Type {_shown(sent)}" if sent else "The body has no Content-Type"
        accepted = ", ".join(media_types)
        headers = {"Accept": accepted}
        if request.method in ACCEPTS:
            headers[ACCEPTS[request.method]] = accepted
        detail = f"{said}. This takes {' or '.join(media_types)}."
        return Problem(415, detail, type="unsupported-media-type", headers=headers)
    if media_type.endswith("json") and (wrong := _first_wrong_byte(body)) is not None:
        detail = f"The body is not JSON in UTF-8: byte {wrong} is none of it."
        return Problem(400, detail, type="invalid-json")
    return None


def _first_wrong_byte(body: bytes) -> int | None:
    """Where the body is not UTF-8, as JSON has to be (RFC 8259, section 8.1). Python guesses UTF-16 and UTF-32 by
    their zeros, and JSON has none."""
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return error.start
    zero = body.find(0)
    return None if zero < 0 else zero


def _shown(value: str) -> str:
    return value[:100].encode("ascii", "replace").decode()
