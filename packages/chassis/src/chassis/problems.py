"""Errors as RFC 9457 problem documents (application/problem+json)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, LiteralString

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match

from chassis import logs
from chassis.storage import StoreBusy, StoreUnavailable

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
MAX_DETAIL = 200
"""A pattern that is longer helps nobody who reads an error."""

PHRASES = {
    400: "Bad Request",
    401: "Unauthorized",
    402: "Payment Required",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    407: "Proxy Authentication Required",
    408: "Request Timeout",
    409: "Conflict",
    410: "Gone",
    411: "Length Required",
    412: "Precondition Failed",
    413: "Content Too Large",
    414: "URI Too Long",
    415: "Unsupported Media Type",
    416: "Range Not Satisfiable",
    417: "Expectation Failed",
    421: "Misdirected Request",
    422: "Unprocessable Content",
    426: "Upgrade Required",
    428: "Precondition Required",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    505: "HTTP Version Not Supported",
}
"""Of RFC 9110 and RFC 6585. Python's own changed with 3.13, and the API must not change with the interpreter."""


class Problem(Exception):
    """Ends a request with a problem document.

    status: the HTTP status. detail: a sentence that says what is wrong and what to do. type: which kind of problem
    it is, where the status alone does not say it; docs/problems.md has a section for each.
    """

    def __init__(
        self, status: int, detail: str, *, type: LiteralString | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.type = type
        self.headers = headers


class FieldError(BaseModel):
    """One thing wrong in the request."""

    pointer: str = Field(description="Where: a JSON pointer into the body (empty: all of it), or the parameter's name")
    detail: str = Field(description="What is wrong with it")


class ProblemDocument(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str = Field(
        description="Which kind of problem: /problems/ and its name, or about:blank where the status says it"
    )
    title: str = Field(description="The status in words")
    status: int
    detail: str = Field(description="What is wrong, and what to do")
    instance: str = Field(description="The path that was asked for")
    request_id: str = Field(description="The request's id, as in the header X-Request-ID and in the log")
    errors: list[FieldError] = Field(description="What in the request does not fit the schema; else empty")


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that can end in these statuses."""
    schema = {"$ref": f"#/components/schemas/{ProblemDocument.__name__}"}
    return {
        status: {"description": PHRASES[status], "content": {MEDIA_TYPE: {"schema": schema}}} for status in statuses
    }


def problem_schemas() -> dict[str, Any]:
    """What `problem_responses` refers to, for the OpenAPI document's components."""
    schema = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
    return {**schema.pop("$defs"), ProblemDocument.__name__: schema}


def install_problems(app: FastAPI) -> None:
    """Makes every error of `app` a problem document."""

    @app.exception_handler(Problem)
    async def known(request: Request, problem: Problem) -> JSONResponse:
        return answer(request, problem)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = ", ".join(sorted(_methods(request)))
        return answer(request, Problem(error.status_code, str(error.detail), headers=headers))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        detail = "The request does not fit the schema; see `errors`."
        return answer(request, Problem(422, detail, type="invalid-request"), _field_errors(error))

    @app.exception_handler(StoreUnavailable)
    async def no_storage(request: Request, error: StoreUnavailable) -> JSONResponse:
        log.error("%s %s failed: %s", request.method, logs.shown_path(request.scope), error)
        detail = "The storage does not answer. Try again in a moment."
        return answer(request, Problem(503, detail, type="storage-unavailable", headers={"Retry-After": "1"}))

    @app.exception_handler(StoreBusy)
    async def busy(request: Request, _error: StoreBusy) -> JSONResponse:
        detail = "More requests wait for the storage than it can serve in time. Try again in a moment."
        return answer(request, Problem(503, detail, type="overloaded", headers={"Retry-After": "1"}))


def _methods(request: Request) -> set[str]:
    """What the path can be asked for. Starlette names the methods of its first route alone; it may have more."""
    routes, scope = request.app.routes, request.scope
    return {m for m in METHODS if any(route.matches({**scope, "method": m})[0] is Match.FULL for route in routes)}


def _field_errors(error: RequestValidationError) -> list[dict[str, str]]:
    # The values themselves are left out: they may be secret, and a lone surrogate in one cannot be encoded.
    found = []
    for problem in error.errors():
        where, *path = problem["loc"]
        detail = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "string_pattern_mismatch" and len(detail) > MAX_DETAIL:
            detail = "String should match the pattern that the OpenAPI document has for it"
        if problem["type"] == "json_invalid":
            detail, path = f"not valid JSON at character {path[0]}", []
        if where == "body":
            pointer = "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)
        else:
            pointer = ".".join(str(part) for part in path)
        found.append({"pointer": pointer, "detail": detail})
    return found


def answer(request: Request, problem: Problem, errors: list[dict[str, str]] | None = None) -> JSONResponse:
    """The problem as a document. errors: what in the request does not fit the schema."""
    body = {
        "type": "about:blank" if problem.type is None else f"/problems/{problem.type}",
        "title": PHRASES[problem.status],
        "status": problem.status,
        "detail": problem.detail,
        "instance": request.url.path,
        "errors": errors or [],
        "request_id": request.state.request_id,
    }
    return JSONResponse(body, problem.status, headers=dict(problem.headers or {}), media_type=MEDIA_TYPE)
