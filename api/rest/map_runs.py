"""Map Runs over REST."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from stepwell.api.rest import bodies, views
from stepwell.api.rest.common import Limit, PageToken, admitted, page, respond
from stepwell.api.rest.openapi import body_of, returns
from stepwell.api.rest.references import execution_of
from stepwell.engine import limits
from stepwell.engine.machine.commands import Status
from stepwell.engine.service.services import Services

_update = bodies.decoder(bodies.MapRunBody)


def routes(services: Services) -> APIRouter:
    """The routes of Map Runs."""
    router = APIRouter(prefix="/v1", tags=["Map Runs"])
    map_runs = services.map_runs

    @router.get(
        "/executions/{reference:path}/map-runs",
        summary="List the Map Runs of an execution",
        responses=returns(200, "MapRunPage", 404),
    )
    async def list_map_runs(
        request: HttpRequest, reference: str, limit: Limit = limits.DEFAULT_PAGE_SIZE, after: PageToken = None
    ) -> Response:
        """The Map Runs of the Distributed Maps that an execution has come to, newest first."""
        id = execution_of(admitted(request).context, reference)
        found = await map_runs.list_by_id(id, reference, limit, after)
        return page([views.map_run(view) for view in found.items], found.next)

    @router.get(
        "/map-runs/{arn:path}/executions",
        summary="List the child executions of a Map Run",
        responses=returns(200, "ExecutionPage", 404),
    )
    async def list_children(
        arn: str,
        status: Annotated[Status | None, Query(description="Where the child execution stands.")] = None,
        limit: Limit = limits.DEFAULT_PAGE_SIZE,
        after: PageToken = None,
    ) -> Response:
        """Child executions, newest first, without input and output."""
        found = await map_runs.children(arn, status=status, max_results=limit, token=after)
        return page([views.execution(view) for view in found.items], found.next)

    @router.get("/map-runs/{arn:path}", summary="Get a Map Run", responses=returns(200, "MapRun", 404))
    async def get_map_run(arn: str) -> Response:
        """A Map Run with the numbers of its items and child executions."""
        return respond(views.map_run(await map_runs.describe(arn)))

    @router.patch(
        "/map-runs/{arn:path}",
        summary="Change a Map Run",
        responses=returns(200, "MapRun", 400, 404),
        openapi_extra=body_of(bodies.MapRunBody),
    )
    async def update_map_run(request: HttpRequest, arn: str) -> Response:
        """Change how many child executions may run at once, or how many items may fail, while the Map Run goes on."""
        body = bodies.read(_update, admitted(request).body)
        await map_runs.update(
            arn,
            max_concurrency=body.max_concurrency,
            tolerated_count=body.tolerated_failure_count,
            tolerated_percentage=body.tolerated_failure_percentage,
        )
        return respond(views.map_run(await map_runs.describe(arn)))

    return router
