"""The REST app: every route but the hot ones, the documentation of all, and what monitoring asks for."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, PlainTextResponse, Response

from stepwell import __version__
from stepwell.api.failures import refusal_of
from stepwell.api.http import Reply
from stepwell.api.rest import (
    activities,
    dead_letters,
    executions,
    map_runs,
    problems,
    registry,
    state_machines,
    state_tests,
)
from stepwell.api.rest.common import admitted
from stepwell.api.rest.documentation import DOCUMENT, PAGE, add_documentation
from stepwell.api.rest.openapi import DESCRIPTION, document
from stepwell.engine.errors import StepwellError, StoreUnavailableError
from stepwell.engine.service import refusals
from stepwell.engine.service.services import Services
from stepwell.engine.telemetry import Metrics


class RestApplication(FastAPI):
    """FastAPI with the hot paths in its OpenAPI document."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document of all of REST."""
        if self.openapi_schema is None:
            self.openapi_schema = document(super().openapi())
        return self.openapi_schema


def create_rest(services: Services, metrics: Metrics) -> RestApplication:
    """The REST app over these use-cases."""
    app = RestApplication(title="Stepwell", version=__version__, description=DESCRIPTION, docs_url=None, redoc_url=None)
    app.include_router(state_machines.routes(services))
    app.include_router(state_tests.routes(services))
    app.include_router(executions.routes(services))
    app.include_router(map_runs.routes(services))
    app.include_router(dead_letters.routes(services))
    app.include_router(activities.routes(services))
    app.include_router(registry.function_routes(services))
    app.include_router(registry.connection_routes(services))
    _add_monitoring(app, services, metrics)
    add_documentation(app)
    _add_handlers(app)
    return app


def _add_monitoring(app: FastAPI, services: Services, metrics: Metrics) -> None:
    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return JSONResponse({"name": "stepwell", "version": __version__, "docs": PAGE, "openapi": DOCUMENT})

    @app.get("/healthz", tags=["Monitoring"], summary="Is the process alive")
    async def healthz() -> Response:
        """Answers while the process serves requests; needs no key."""
        return JSONResponse({"status": "ok"})

    @app.get("/readyz", tags=["Monitoring"], summary="Can requests be served")
    async def readyz() -> Response:
        """200 when the database answers and the engine runs; 503 with the reason otherwise; needs no key."""
        try:
            missing = await services.ready()
        except StoreUnavailableError:
            missing = "the database cannot be reached"
        if missing is None:
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "unavailable", "reason": missing}, 503)

    @app.get("/metrics", tags=["Monitoring"], summary="Metrics for Prometheus", response_class=PlainTextResponse)
    async def show_metrics() -> Response:
        """All metrics in the text format of Prometheus."""
        text, content_type = metrics.render()
        return Response(text, media_type=content_type)


def _add_handlers(app: FastAPI) -> None:
    def respond(reply: Reply) -> Response:
        headers = {name.decode(): value.decode() for name, value in reply.headers}
        return Response(reply.body, reply.status, headers, media_type=reply.content_type.decode())

    @app.exception_handler(StepwellError)
    async def refused(request: HttpRequest, error: StepwellError) -> Response:
        id = admitted(request).id
        return respond(problems.refusal(refusal_of(error, id), id))

    @app.exception_handler(RequestValidationError)
    async def wrong_parameter(request: HttpRequest, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"][1:])
        refusal = refusals.invalid(f"The {first['loc'][0]} parameter '{name}' is not accepted: {first['msg']}")
        return respond(problems.refusal(refusal, admitted(request).id))

    @app.exception_handler(HTTPException)
    async def no_route(request: HttpRequest, error: HTTPException) -> Response:
        return respond(problems.plain(error.status_code, str(error.detail), admitted(request).id))

    @app.exception_handler(Exception)
    async def broken(request: HttpRequest, error: Exception) -> Response:
        id = admitted(request).id
        return respond(problems.refusal(refusal_of(error, id), id))
