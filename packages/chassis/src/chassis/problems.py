"""Errors as RFC 9457 problem documents (application/problem+json)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, LiteralString

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from chassis import logs
from chassis.methods import allowed
from chassis.storage import StoreBusy, StoreUnavailable

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
MAX_DETAIL = 200
"""A pattern that is longer helps nobody who reads an error."""
MAX_WAYS = 16
"""How many readings of a path are looked at; more than one take a body with names chosen for it."""

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

    pointer: str = Field(
        description="Where: a JSON pointer (RFC 6901) into the body (empty: all of it); of a parameter its name"
    )
    parameter: str | None = Field(description="The parameter's name, in query, path or header; null for the body")
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
            headers["Allow"] = ", ".join(allowed(request.app, request.scope))
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


def _field_errors(error: RequestValidationError) -> list[dict[str, str | None]]:
    # The values themselves are left out: they may be secret, and a lone surrogate in one cannot be encoded.
    found: list[dict[str, str | None]] = []
    for problem in error.errors():
        where, *path = problem["loc"]
        detail = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "string_pattern_mismatch" and len(detail) > MAX_DETAIL:
            detail = "String should match the pattern that the OpenAPI document has for it"
        if where == "body":
            place = pointer(error.body, path, missing=problem["type"] == "missing", value=problem.get("input"))
            found.append({"pointer": place, "parameter": None, "detail": detail})
        else:
            name = str(path[0]) if path else ""
            found.append({"pointer": name, "parameter": name, "detail": detail})
    return found


def pointer(body: object, path: Sequence[int | str], *, missing: bool, value: object) -> str:
    """Where in `body` pydantic's `path` leads, as a JSON pointer (RFC 6901).

    A path has also the names of what the model chose between on its way, such as the tag of a union: what is not in
    the body is left out, unless the last step is a member that is `missing`. Where a name could be either, it is so
    taken that the pointer leads to `value`, in which pydantic found the fault, or else as far as it can.
    """
    steps, last = (path[:-1], str(path[-1])) if missing and path else (path, None)
    ways: list[tuple[tuple[str, ...], object]] = [((), body)]
    for step in steps:
        entered = [((*way, str(step)), _member(at, step)) for way, at in ways if _has(at, step)]
        ways = sorted(entered + ways, key=lambda way: len(way[0]), reverse=True)[:MAX_WAYS]
    way, _ = next((found for found in ways if found[1] is value), ways[0])
    names = way if last is None else (*way, last)
    return "".join("/" + name.replace("~", "~0").replace("/", "~1") for name in names)


def _has(at: object, step: int | str) -> bool:
    if isinstance(at, Sequence) and not isinstance(at, str | bytes):
        return isinstance(step, int) and 0 <= step < len(at)
    return isinstance(at, Mapping) and step in at


def _member(at: Any, step: int | str) -> object:
    return at[step]


def answer(request: Request, problem: Problem, errors: list[dict[str, str | None]] | None = None) -> JSONResponse:
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
