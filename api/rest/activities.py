"""Activities over REST."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from stepwell.api.rest import bodies, views
from stepwell.api.rest.common import Limit, PageToken, admitted, no_content, page, respond
from stepwell.api.rest.openapi import body_of, returns
from stepwell.engine import limits
from stepwell.engine.service.context import RequestContext
from stepwell.engine.service.services import Services

_activity = bodies.decoder(bodies.ActivityBody)


def _arn(context: RequestContext, name: str) -> str:
    return name if name.startswith("arn:") else context.arn("activity", name)


def routes(services: Services) -> APIRouter:
    """The routes of activities."""
    router = APIRouter(prefix="/v1/activities", tags=["Activities"])
    activities = services.activities

    @router.post(
        "",
        status_code=201,
        summary="Create an activity",
        responses=returns(201, "Activity", 400),
        openapi_extra=body_of(bodies.ActivityBody),
    )
    async def create(request: HttpRequest) -> Response:
        """Create an activity; one that is there already is answered."""
        body = bodies.read(_activity, admitted(request).body)
        return respond(views.activity(await activities.create(admitted(request).context, body.name)), 201)

    @router.get("", summary="List activities", responses=returns(200, "ActivityPage", 400))
    async def list_activities(limit: Limit = limits.DEFAULT_PAGE_SIZE, after: PageToken = None) -> Response:
        """All activities."""
        found = await activities.list(limit, after)
        return page([views.activity(record) for record in found.items], found.next)

    @router.get("/{name}", summary="Get an activity", responses=returns(200, "Activity", 404))
    async def get(request: HttpRequest, name: str) -> Response:
        """An activity by its name or ARN."""
        return respond(views.activity(await activities.describe(_arn(admitted(request).context, name))))

    @router.delete("/{name}", status_code=204, summary="Delete an activity", responses=returns(204, None))
    async def delete(request: HttpRequest, name: str) -> Response:
        """Delete an activity by its name or ARN; that there is none is no error."""
        await activities.delete(_arn(admitted(request).context, name))
        return no_content()

    @router.post("/{name}/tasks", summary="Take a task", responses=returns(200, "ActivityTask", 204, 404))
    async def take(
        request: HttpRequest,
        name: str,
        worker: Annotated[str | None, Query(max_length=80, description="Your name, shown in the history.")] = None,
        wait: Annotated[
            float, Query(ge=0, le=limits.ACTIVITY_POLL_SECONDS, description="Seconds to wait for one.")
        ] = 60,
    ) -> Response:
        """The next task of an activity, waiting for one; 204 when there was none. Report its outcome with the token."""
        asked = admitted(request)
        task = await asked.while_connected(activities.next_task(_arn(asked.context, name), worker, int(wait * 1000)))
        if task is None:
            return no_content()
        return respond({"token": task.token, "input": views.raw(task.input)})

    return router
