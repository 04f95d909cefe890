"""The page that shows the OpenAPI document and lets it be tried out: Swagger UI, with every part of it served from here.

A page of this origin can do whatever its visitor may, so nothing in it comes from another server.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import FileResponse, Response

PAGE: Final = "/docs"
DOCUMENT: Final = "/openapi.json"
_POLICY: Final = (
    "default-src 'none'; connect-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self' 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
_RESOURCES: Final = files("fastapi_swagger.resources")
_ASSETS: Final = {
    "swagger-ui.js": ("swagger-ui-bundle.js", "text/javascript"),
    "swagger-ui.css": ("swagger-ui.css", "text/css"),
    "icon.png": ("favicon-32x32.png", "image/png"),
}

PATHS: Final = frozenset({PAGE, DOCUMENT, *(f"{PAGE}/{name}" for name in _ASSETS)})
"""What the page is made of. Says nothing about this server but its version."""


def add_documentation(app: FastAPI) -> None:
    """Serve the page and its parts."""

    @app.get(PAGE, include_in_schema=False)
    async def page() -> Response:
        html = get_swagger_ui_html(
            openapi_url=DOCUMENT,
            title="Stepwell's REST API",
            swagger_js_url=f"{PAGE}/swagger-ui.js",
            swagger_css_url=f"{PAGE}/swagger-ui.css",
            swagger_favicon_url=f"{PAGE}/icon.png",
        )
        html.headers.update(_HEADERS)
        return html

    @app.get(PAGE + "/{name}", include_in_schema=False)
    async def asset(name: str) -> Response:
        if name not in _ASSETS:
            return Response("There is no such file.\n", 404, media_type="text/plain")
        file, media_type = _ASSETS[name]
        headers = _HEADERS | {"cache-control": "max-age=86400"}
        return FileResponse(str(_RESOURCES / file), media_type=media_type, headers=headers)
