"""Rung 5 without what every request goes through: the same application, its routes and its storage, but no Edge, and
uvicorn's own connection class. What is missing to the real one is the price of id, limits, metrics and access log."""

from task_api.app import create_app

app = create_app()
app.user_middleware.clear()
