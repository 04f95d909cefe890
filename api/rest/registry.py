"""Functions and connections over REST: what names in definitions stand for. Secrets go in and never come out."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from stepwell.api.rest import bodies, views
from stepwell.api.rest.common import Limit, PageToken, admitted, no_content, page, respond
from stepwell.api.rest.openapi import body_of, returns
from stepwell.engine import limits
from stepwell.engine.ports import FunctionKind
from stepwell.engine.service import refusals
from stepwell.engine.service.services import Services

_function = bodies.decoder(bodies.FunctionBody)
_connection = bodies.decoder(bodies.ConnectionBody)


def _kind(text: str) -> FunctionKind:
    try:
        return FunctionKind(text)
    except ValueError:
        raise refusals.invalid(f"'kind' must be one of {', '.join(FunctionKind)}", pointer="/kind") from None


def function_routes(services: Services) -> APIRouter:
    """The routes of the function registry."""
    router = APIRouter(prefix="/v1/functions", tags=["Functions"])
    functions = services.functions

    @router.put(
        "/{name}",
        summary="Register a function",
        responses=returns(200, "Function", 201, 400),
        openapi_extra=body_of(bodies.FunctionBody),
    )
    async def put(request: HttpRequest, name: str) -> Response:
        """Say what a function name in definitions stands for: a Python callable (`module:callable`) that a function host
        runs, a Celery task, or a Lambda-compatible Invoke URL."""
        body = bodies.read(_function, admitted(request).body)
        record, created = await functions.put(name, _kind(body.kind), body.target, body.options)
        return respond(views.function(record), 201 if created else 200)

    @router.get("", summary="List functions", responses=returns(200, "FunctionPage", 400))
    async def list_functions(limit: Limit = limits.DEFAULT_PAGE_SIZE, after: PageToken = None) -> Response:
        """All registered functions."""
        found = await functions.list(limit, after)
        return page([views.function(record) for record in found.items], found.next)

    @router.get("/{name}", summary="Get a function", responses=returns(200, "Function", 404))
    async def get(name: str) -> Response:
        """A registered function."""
        return respond(views.function(await functions.get(name)))

    @router.delete("/{name}", status_code=204, summary="Remove a function", responses=returns(204, None, 404))
    async def delete(name: str) -> Response:
        """Remove a function from the registry."""
        await functions.delete(name)
        return no_content()

    return router


def connection_routes(services: Services) -> APIRouter:
    """The routes of connections."""
    router = APIRouter(prefix="/v1/connections", tags=["Connections"])
    connections = services.connections

    @router.put(
        "/{name}",
        summary="Make or change a connection",
        responses=returns(200, "Connection", 201, 400),
        openapi_extra=body_of(bodies.ConnectionBody),
    )
    async def put(request: HttpRequest, name: str) -> Response:
        """How HTTP Tasks authenticate: `authParameters` are those of an EventBridge connection (API key, basic, or OAuth
        client credentials). Secrets are kept encrypted and never shown."""
        body = bodies.read(_connection, admitted(request).body)
        record, created = await connections.put(
            admitted(request).context, name, body.authorization_type, bytes(body.auth_parameters)
        )
        return respond(views.connection(record), 201 if created else 200)

    @router.get("", summary="List connections", responses=returns(200, "ConnectionPage", 400))
    async def list_connections(limit: Limit = limits.DEFAULT_PAGE_SIZE, after: PageToken = None) -> Response:
        """All connections, without secrets."""
        found = await connections.list(limit, after)
        return page([views.connection(record) for record in found.items], found.next)

    @router.get("/{name}", summary="Get a connection", responses=returns(200, "Connection", 404))
    async def get(name: str) -> Response:
        """A connection, without its secrets."""
        return respond(views.connection(await connections.get(name)))

    @router.delete("/{name}", status_code=204, summary="Remove a connection", responses=returns(204, None, 404))
    async def delete(name: str) -> Response:
        """Remove a connection and its secrets."""
        await connections.delete(name)
        return no_content()

    return router
