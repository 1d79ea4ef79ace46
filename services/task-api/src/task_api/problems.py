"""Errors as RFC 9457 problem documents (application/problem+json)."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from task_api.store import StoreUnavailable

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """Ends a request with a problem document.

    status: the HTTP status. detail: a sentence that says what is wrong and what to do.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class FieldError(BaseModel):
    """One thing wrong in the request."""

    pointer: str = Field(description="Where: a JSON pointer into the body (empty: all of it), or the parameter's name")
    detail: str = Field(description="What is wrong with it")


class ProblemDocument(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str = Field(description="`about:blank`: the status says it all")
    title: str
    status: int
    detail: str
    errors: list[FieldError] = Field([], description="Present when the request does not fit the schema")


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that can end in these statuses."""
    schema = {"$ref": f"#/components/schemas/{ProblemDocument.__name__}"}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in statuses
    }


def problem_schemas() -> dict[str, Any]:
    """What `problem_responses` refers to, for the OpenAPI document's components."""
    schema = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
    return {**schema.pop("$defs"), ProblemDocument.__name__: schema}


def install_problems(app: FastAPI) -> None:
    """Makes every error of `app` a problem document."""

    @app.exception_handler(Problem)
    async def known(_request: Request, problem: Problem) -> JSONResponse:
        return _answer(problem.status, problem.detail)

    @app.exception_handler(HTTPException)
    async def http(_request: Request, error: HTTPException) -> JSONResponse:
        return _answer(error.status_code, str(error.detail), headers=dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        return _answer(422, "The request does not fit the schema; see `errors`.", errors=_field_errors(error))

    @app.exception_handler(StoreUnavailable)
    async def no_storage(request: Request, error: StoreUnavailable) -> JSONResponse:
        log.error("%s %s failed: %s", request.method, request.url.path, error)
        return _answer(503, "The storage does not answer. Try again in a moment.", headers={"Retry-After": "1"})

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return _answer(500, "Something went wrong on our side; the log has it.")


def _field_errors(error: RequestValidationError) -> list[dict[str, str]]:
    # The values themselves are left out: they may be secret, and a lone surrogate in one cannot be encoded.
    found = []
    for problem in error.errors():
        where, *path = problem["loc"]
        detail = problem["msg"]
        if problem["type"] == "json_invalid":
            detail, path = f"not valid JSON at character {path[0]}: {problem['ctx']['error']}", []
        if where == "body":
            pointer = "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)
        else:
            pointer = ".".join(str(part) for part in path)
        found.append({"pointer": pointer, "detail": detail})
    return found


def _answer(status: int, detail: str, *, headers: dict[str, str] | None = None, **members: object) -> JSONResponse:
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail, **members}
    return JSONResponse(body, status, headers=headers, media_type=MEDIA_TYPE)
