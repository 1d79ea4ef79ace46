"""Strict routes: they reject undeclared query parameters and undeclared forms of a body."""

from __future__ import annotations

import difflib
import email.message
import re
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

from fastapi import APIRouter, Request, Response, params
from fastapi._compat import field_annotation_is_sequence  # FastAPI uses it to read one value or all
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_flat_params
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute, _effective_route_context_var, get_request_handler
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute

from chassis.methods import ACCEPT_HEADERS
from chassis.problems import Problem, problem_responses

MAX_NAMED = 10
"""How many parameters of a request are rejected by name. A query string has room for thousands."""

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def operation_id(route: APIRoute) -> str:
    """The name of its function, which is readable in generated clients."""
    return route.name


class Route(APIRoute):
    """Rejects what FastAPI would ignore: undeclared query parameters, repeated ones that take one value, and a body in
    a form that the route does not declare.

    Only authorized clients are told what is wrong: the dependencies run first. A valid request only costs a check of
    the length of its query string, and of its content type if it has a body.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.document()

    def document(self) -> None:
        """Adds the responses that every such route may send to the OpenAPI document."""
        statuses = [400, 415, 422] if self.body_field is not None else [422]
        missing = [status for status in statuses if not {status, str(status)} & self.responses.keys()]
        self.responses = {**self.responses, **problem_responses(*missing)}

    @property
    def media_types(self) -> Sequence[str]:
        """The media types of its body, as in the OpenAPI document and in the same order. Empty without a body, and for
        a form, which FastAPI parses itself."""
        if self.body_field is None or isinstance(self.body_field.field_info, params.Form):
            return ()
        info = self.body_field.field_info
        declared: dict[str, Any] = (self.openapi_extra or {}).get("requestBody", {}).get("content", {})
        return tuple(dict.fromkeys([*declared, cast("params.Body", info).media_type]))

    def get_route_handler(self) -> Handler:
        """FastAPI's handler, with the stricter checks in front of it."""
        handle: Handler = super().get_route_handler()
        context = _effective_route_context_var.get()  # of a router with a prefix, which may have dependencies
        own = context is None or context.original_route is not self
        dependant = self.dependant if own else cast("Any", context).dependant
        overrides = self.dependency_overrides_provider if own else cast("Any", context).dependency_overrides_provider
        if not self.include_in_schema:
            return handle
        media_types = self.media_types

        async def admit(request: Request) -> list[Any]:
            """Runs only the dependencies, so that unauthorized clients learn no more. Returns validation errors."""
            admission = replace(dependant, call=_nothing, body_params=[])
            try:
                await get_request_handler(admission, dependency_overrides_provider=overrides)(request)
            except RequestValidationError as error:
                return list(error.errors())
            return []

        async def strict(request: Request) -> Response:
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
                reason = f"error at character {first['loc'][-1]}"
            except HTTPException as error:
                if not isinstance(error.__cause__, RecursionError):
                    raise
                reason = "nested too deeply"
            await admit(request)
            raise Problem(400, f"The body is not valid JSON: {reason}.", type="invalid-json")

        return strict


class Router(APIRouter):
    """A router whose routes the chassis' application uses unchanged.

    FastAPI 0.165 rebuilds each route of any other router on the first request, since an application may add a prefix or
    another operation ID: 52 ms of CPU for 13 routes. It also looks up the route of each request twice.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"route_class": Route, **options}, generate_unique_id_function=operation_id)
        self._has_limits = bool({"max_body_size", "form_limits"} & options.keys())

    @property
    def is_plain(self) -> bool:
        """Whether its routes can be used unchanged: FastAPI handles its own mounts, pages and limits."""
        limited = self._has_limits or any(getattr(route, "max_body_size", None) for route in self.routes)
        others = self._low_priority_routes or not all(isinstance(route, APIRoute) for route in self.routes)
        return not limited and not others


def make_strict(routes: Sequence[BaseRoute]) -> None:
    """Converts each of FastAPI's routes into a Route, including those of nested routers."""
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
    """Errors in the query parameters that FastAPI would ignore, in pydantic's form."""
    known = {
        str(field.validation_alias or field.alias): field_annotation_is_sequence(field.field_info.annotation)
        for each in _with_dependencies(dependant)
        for field in get_flat_params(Dependant(query_params=each.query_params))  # a model's fields one by one
    }
    sent = Counter(name for name, _ in request.query_params.multi_items())
    errors: list[tuple[str, str]] = []
    for name, times in sent.items():
        if len(errors) == MAX_NAMED:
            break
        if name not in known:
            errors.append((name, _unknown(name, list(known))))
        elif times > 1 and not known[name]:
            errors.append((name, f"was sent {times} times, but takes one value"))
    return [{"type": "parameter", "loc": ("query", name), "msg": text} for name, text in errors]


def _with_dependencies(dependant: Dependant) -> Iterator[Dependant]:
    yield dependant
    for dependency in dependant.dependencies:
        yield from _with_dependencies(dependency)


def _unknown(name: str, known: list[str]) -> str:
    bare = re.sub(r"\[[^\]]*\]$", "", name[:100])  # PHP's and axios' notation for repeated parameters
    near = difflib.get_close_matches(bare, known, n=1, cutoff=0.7)
    if near:
        return f"is not a parameter of this operation; did you mean `{near[0]}`?"
    if known:
        return f"is not a parameter of this operation, which takes {', '.join(f'`{each}`' for each in sorted(known))}"
    return "is not a parameter of this operation, which takes none"


def _body_problem(request: Request, body: bytes, media_types: Sequence[str]) -> Problem | None:
    """What is wrong with the encoding or media type of the body, before it is parsed."""
    coding = ", ".join(request.headers.getlist("content-encoding")).strip().lower()
    if coding not in ("", "identity"):
        detail = f"The body has the unsupported Content-Encoding {_printable(coding)}. Send it unencoded."
        return Problem(415, detail, type="unsupported-media-type", headers={"Accept-Encoding": "identity"})
    sent = request.headers.get("content-type", "")
    message = email.message.Message()  # as FastAPI parses it
    message["content-type"] = sent
    media_type = message.get_content_type() if sent else ""
    if media_type not in media_types:
        actual = f"the unsupported Content-Type {_printable(sent)}" if sent else "no Content-Type"
        accepted = ", ".join(media_types)
        headers = {"Accept": accepted}
        if request.method in ACCEPT_HEADERS:
            headers[ACCEPT_HEADERS[request.method]] = accepted
        detail = f"The body has {actual}. Send {' or '.join(media_types)}."
        return Problem(415, detail, type="unsupported-media-type", headers=headers)
    if media_type.endswith("json") and (offset := _first_invalid_byte(body)) is not None:
        detail = f"The body is not JSON in UTF-8: invalid byte at offset {offset}."
        return Problem(400, detail, type="invalid-json")
    return None


def _first_invalid_byte(body: bytes) -> int | None:
    """Offset of the first byte that is not UTF-8, as JSON must be (RFC 8259, section 8.1), or is zero: Python detects
    UTF-16 and UTF-32 by their zeros, and JSON has none."""
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return error.start
    zero = body.find(0)
    return None if zero < 0 else zero


def _printable(value: str) -> str:
    return value[:100].encode("ascii", "replace").decode()
