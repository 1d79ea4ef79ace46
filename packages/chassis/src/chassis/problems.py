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
from chassis.methods import allowed_methods
from chassis.storage import StoreBusy, StoreUnavailable

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
MAX_DETAIL = 200
"""A longer message, which quotes a pattern, does not help the reader of an error."""
MAX_ERRORS = 100
"""How many errors of a body are reported: one of 1 MiB has room for a hundred thousand, whose report was 8 MB."""
MAX_CANDIDATES = 16
"""How many interpretations of a path are tried; only a body with names chosen for it has more than one."""

RETRY_ADVICE = (
    "Retry reads in a moment. Whether a write took effect is unknown: retry it with the same Idempotency-Key, or check "
    "first."
)
"""For requests that failed at an unknown point."""

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
"""Reason phrases of RFC 9110 and RFC 6585. Python's changed in 3.13; the API must not depend on the interpreter."""


class Problem(Exception):
    """Ends a request with a problem document.

    status: the HTTP status. detail: a sentence that says what is wrong and what to do. type: the problem type, if the
    status alone is not specific enough; docs/problems.md has a section for each.
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
    """An error in the request."""

    pointer: str = Field(
        description="Location: a JSON pointer (RFC 6901) into the body (empty: all of it), or the parameter's name"
    )
    parameter: str | None = Field(description="Name of the query, path or header parameter; null for the body")
    detail: str = Field(description="What is wrong")


class ProblemDocument(BaseModel):
    """Problem details (RFC 9457)."""

    type: str = Field(description="Problem type: /problems/ and its name, or about:blank if the status says it all")
    title: str = Field(description="Reason phrase of the status")
    status: int
    detail: str = Field(description="What is wrong, and what to do")
    instance: str = Field(description="Path of the request")
    request_id: str = Field(description="ID of the request, as in the header X-Request-ID and in the log")
    errors: list[FieldError] = Field(description="Schema violations in the request; otherwise empty")


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that can fail with these statuses."""
    schema = {"$ref": f"#/components/schemas/{ProblemDocument.__name__}"}
    return {
        status: {"description": PHRASES[status], "content": {MEDIA_TYPE: {"schema": schema}}} for status in statuses
    }


def problem_schemas() -> dict[str, Any]:
    """The schemas that `problem_responses` refers to, for the OpenAPI document's components."""
    schema = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
    return {**schema.pop("$defs"), ProblemDocument.__name__: schema}


def install_exception_handlers(app: FastAPI) -> None:
    """Turns every error of `app` into a problem document."""

    @app.exception_handler(Problem)
    async def known(request: Request, problem: Problem) -> JSONResponse:
        return problem_response(request, problem)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = ", ".join(allowed_methods(request.app, request.scope))
        return problem_response(request, Problem(error.status_code, str(error.detail), headers=headers))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        detail = "The request does not match the schema; see `errors`."
        return problem_response(request, Problem(422, detail, type="invalid-request"), _field_errors(error))

    @app.exception_handler(StoreUnavailable)
    async def no_storage(request: Request, error: StoreUnavailable) -> JSONResponse:
        log.error("%s %s failed: %s", request.method, logs.encoded_path(request.scope), error)
        detail = f"The storage is unavailable. {RETRY_ADVICE}"
        return problem_response(request, Problem(503, detail, type="storage-unavailable", headers={"Retry-After": "1"}))

    @app.exception_handler(StoreBusy)
    async def busy(request: Request, _error: StoreBusy) -> JSONResponse:
        detail = "The storage is too busy to serve this request in time; nothing was changed. Retry in a moment."
        return problem_response(request, Problem(503, detail, type="overloaded", headers={"Retry-After": "1"}))


def _field_errors(error: RequestValidationError) -> list[dict[str, str | None]]:
    # Without the values: they may be secret, and a lone surrogate in one cannot be encoded.
    errors: list[dict[str, str | None]] = []
    for problem in error.errors()[:MAX_ERRORS]:
        location, *path = problem["loc"]
        detail = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "string_pattern_mismatch" and len(detail) > MAX_DETAIL:
            detail = "String should match the pattern in the OpenAPI document"
        if location == "body":
            target = pointer(error.body, path, missing=problem["type"] == "missing", value=problem.get("input"))
            errors.append({"pointer": target, "parameter": None, "detail": detail})
        else:
            name = str(path[0]) if path else ""
            errors.append({"pointer": name, "parameter": name, "detail": detail})
    return errors


def pointer(body: object, path: Sequence[int | str], *, missing: bool, value: object) -> str:
    """pydantic's `path` into `body` as a JSON pointer (RFC 6901).

    A path also contains names that are not in the body, such as the tag of a union: they are skipped, unless the last
    step is a member that is `missing`. An ambiguous name is resolved so that the pointer leads to `value`, in which
    pydantic found the error, or else as deep as possible.
    """
    steps, last = (path[:-1], str(path[-1])) if missing and path else (path, None)
    candidates: list[tuple[tuple[str, ...], object]] = [((), body)]
    for step in steps:
        deeper = [((*names, str(step)), _member(node, step)) for names, node in candidates if _has(node, step)]
        candidates = sorted(deeper + candidates, key=lambda candidate: len(candidate[0]), reverse=True)[:MAX_CANDIDATES]
    names, _ = next((candidate for candidate in candidates if candidate[1] is value), candidates[0])
    if last is not None:
        names = (*names, last)
    return "".join("/" + name.replace("~", "~0").replace("/", "~1") for name in names)


def _has(node: object, step: int | str) -> bool:
    if isinstance(node, Sequence) and not isinstance(node, str | bytes):
        return isinstance(step, int) and 0 <= step < len(node)
    return isinstance(node, Mapping) and step in node


def _member(node: Any, step: int | str) -> object:
    return node[step]


def problem_response(
    request: Request, problem: Problem, errors: list[dict[str, str | None]] | None = None
) -> JSONResponse:
    """The response with the problem document. errors: schema violations in the request."""
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
