"""What can go wrong with tasks, as problem documents."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from chassis.problems import Problem, problem_response
from task_api.store import KeyInUse
from task_api.tasks.commands import KeyReused, NoSuchTask, OtherVersion
from task_api.tasks.rules import RuleBroken


def install_task_problems(app: FastAPI) -> None:
    """Answers what can go wrong with tasks, in whatever route, by the problem that it is."""

    @app.exception_handler(NoSuchTask)
    async def missing(request: Request, error: NoSuchTask) -> JSONResponse:
        return problem_response(request, Problem(404, str(error), type="task-not-found"))

    @app.exception_handler(OtherVersion)
    async def changed(request: Request, error: OtherVersion) -> JSONResponse:
        return problem_response(request, Problem(412, str(error), type="version-mismatch"))

    @app.exception_handler(RuleBroken)
    async def forbidden(request: Request, error: RuleBroken) -> JSONResponse:
        return problem_response(request, Problem(422, str(error), type="rule-broken"))

    @app.exception_handler(KeyReused)
    async def reused(request: Request, _error: KeyReused) -> JSONResponse:
        detail = "This Idempotency-Key was used for another request before. Use a new key for a new request."
        return problem_response(request, Problem(422, detail, type="idempotency-key-reused"))

    @app.exception_handler(KeyInUse)
    async def in_use(request: Request, _error: KeyInUse) -> JSONResponse:
        detail = "A request with this Idempotency-Key is still under way. Try again in a moment, under the same key."
        return problem_response(
            request, Problem(409, detail, type="idempotency-key-in-use", headers={"Retry-After": "1"})
        )
