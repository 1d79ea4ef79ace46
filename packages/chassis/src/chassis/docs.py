"""/openapi.json, and /docs: Swagger UI, with all its assets served by this service: no internet access is needed."""

from __future__ import annotations

from importlib.resources import files

from fastapi import FastAPI, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.staticfiles import StaticFiles

DOCUMENT = "/openapi.json"
ASSETS = "/docs/assets"
FOLLOW_COLOR_SCHEME = b"""
    <script>
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
    dark.addEventListener("change", follow);
    follow();
    </script>
    </head>"""
"""Swagger UI 5 has a dark theme, for a class that only its own layout sets."""


def add_pages(app: FastAPI) -> None:
    """Adds the document, the page and its assets to `app`."""
    assets = StaticFiles(directory=str(files("fastapi_offline") / "static"))

    # Not FastAPI's own, and no mount for the assets: those requests would be counted and logged as unmatched.
    @app.get(DOCUMENT, include_in_schema=False)
    async def openapi() -> JSONResponse:
        return JSONResponse(app.openapi())

    @app.api_route(f"{ASSETS}/{{path}}", methods=["GET", "HEAD"], include_in_schema=False)
    async def asset(request: Request, path: str) -> Response:
        return await assets.get_response(path, request.scope)

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        root = request.scope["root_path"]
        page = get_swagger_ui_html(
            openapi_url=f"{root}{DOCUMENT}",
            title=app.title,
            swagger_js_url=f"{root}{ASSETS}/swagger-ui-bundle.js",
            swagger_css_url=f"{root}{ASSETS}/swagger-ui.css",
            swagger_favicon_url=f"{root}{ASSETS}/favicon.png",
        )
        return HTMLResponse(bytes(page.body).replace(b"</head>", FOLLOW_COLOR_SCHEME, 1))
