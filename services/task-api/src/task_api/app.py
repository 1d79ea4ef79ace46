"""The ASGI application, for other servers: `uvicorn --factory task_api.app:create_app`."""

from __future__ import annotations

from fastapi import FastAPI

from chassis import app
from task_api.service import TaskApi
from task_api.settings import Settings


def create_app(settings: Settings | None = None) -> FastAPI:
    """settings: by default those of the environment."""
    return app.create_app(TaskApi, settings)
