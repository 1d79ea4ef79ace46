"""The errors of tasks as problem responses."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from chassis.problems import Problem, problem_response
from task_api.store import IdempotencyKeyInUse
from task_api.tasks.commands import STATUS_CODES, IdempotencyKeyReused, PreconditionFailed, TaskNotFound
from task_api.tasks.rules import RuleBroken


def install_task_problems(app: FastAPI) -> None:
    """Adds exception handlers for the errors of tasks, for all routes."""

    @app.exception_handler(TaskNotFound)
    async def task_not_found(request: Request, error: TaskNotFound) -> JSONResponse:
        return problem_response(request, Problem(STATUS_CODES[TaskNotFound], str(error), type="task-not-found"))

    @app.exception_handler(PreconditionFailed)
    async def precondition_failed(request: Request, error: PreconditionFailed) -> JSONResponse:
        return problem_response(request, Problem(STATUS_CODES[PreconditionFailed], str(error), type="version-mismatch"))

    @app.exception_handler(RuleBroken)
    async def rule_broken(request: Request, error: RuleBroken) -> JSONResponse:
        return problem_response(request, Problem(STATUS_CODES[RuleBroken], str(error), type="rule-broken"))

    @app.exception_handler(IdempotencyKeyReused)
    async def key_reused(request: Request, _error: IdempotencyKeyReused) -> JSONResponse:
        detail = "This Idempotency-Key was already used for a different request. Use a new key for each request."
        return problem_response(request, Problem(422, detail, type="idempotency-key-reused"))

    @app.exception_handler(IdempotencyKeyInUse)
    async def key_in_use(request: Request, _error: IdempotencyKeyInUse) -> JSONResponse:
        detail = "A request with this Idempotency-Key is still in progress. Retry later with the same key."
        return problem_response(
            request, Problem(409, detail, type="idempotency-key-in-use", headers={"Retry-After": "1"})
        )
