"""Executions over REST, but for starting and describing them: those are hot paths."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from stepwell.api.rest import bodies, views
from stepwell.api.rest.common import Limit, PageToken, TimeFilter, admitted, page, respond, time_of
from stepwell.api.rest.openapi import body_of, returns
from stepwell.api.rest.references import execution_of
from stepwell.engine import limits
from stepwell.engine.machine.commands import Status
from stepwell.engine.ports import ExecutionFilter
from stepwell.engine.service.services import Services

_stop = bodies.decoder(bodies.StopBody)
_redrive = bodies.decoder(bodies.RedriveBody)


def routes(services: Services) -> APIRouter:
    """The routes of executions."""
    router = APIRouter(prefix="/v1", tags=["Executions"])
    executions = services.executions

    @router.get("/executions", summary="List executions", responses=returns(200, "ExecutionPage", 400))
    async def list_executions(
        request: HttpRequest,
        state_machine: Annotated[
            str | None, Query(alias="stateMachine", description="Name or ARN of a state machine.")
        ] = None,
        status: Annotated[Status | None, Query(description="Where the execution stands.")] = None,
        started_after: Annotated[TimeFilter, Query(alias="startedAfter")] = None,
        started_before: Annotated[TimeFilter, Query(alias="startedBefore")] = None,
        name_prefix: Annotated[
            str | None, Query(alias="namePrefix", max_length=80, description="How the name begins.")
        ] = None,
        type: Annotated[
            Literal["STANDARD", "EXPRESS"] | None,
            Query(description="That of the state machine if absent, STANDARD without one."),
        ] = None,
        limit: Limit = limits.DEFAULT_PAGE_SIZE,
        after: PageToken = None,
    ) -> Response:
        """Executions, newest first, without input and output. Of Express executions those that were started asynchronously."""
        arn = None
        if state_machine is not None:
            arn = await services.state_machines.arn_named(admitted(request).context, state_machine)
        where = ExecutionFilter(
            arn,
            status,
            time_of(started_after, "startedAfter"),
            time_of(started_before, "startedBefore"),
            name_prefix,
        )
        if type == "EXPRESS" or (type is None and arn is not None and await services.state_machines.is_express(arn)):
            express = await executions.list_express(where, max_results=limit, token=after)
            return page([views.express(view) for view in express.items], express.next)
        found = await executions.list(where, max_results=limit, token=after)
        return page([views.execution(view) for view in found.items], found.next)

    @router.get(
        "/executions/{reference:path}/history",
        summary="Read the history of an execution",
        responses=returns(200, "EventPage", 404),
    )
    async def history(
        request: HttpRequest,
        reference: str,
        limit: Limit = limits.DEFAULT_PAGE_SIZE,
        after: PageToken = None,
        reverse: Annotated[bool, Query(description="Newest first.")] = False,
    ) -> Response:
        """The events of an execution, as AWS Step Functions numbers and details them; input and output are JSON, not text."""
        id = execution_of(admitted(request).context, reference)
        found = await executions.history_by_id(id, reference, max_results=limit, reverse=reverse, token=after)
        return page([views.event(number, event) for number, event in found.events], found.next)

    @router.post(
        "/executions/{reference:path}/stop",
        summary="Stop an execution",
        responses=returns(200, "Execution", 404),
        openapi_extra=body_of(bodies.StopBody, required=False),
    )
    async def stop(request: HttpRequest, reference: str) -> Response:
        """Stop a running execution: it becomes ABORTED. One that has ended is left as it is."""
        body = bodies.read(_stop, admitted(request).body)
        id = execution_of(admitted(request).context, reference)
        await executions.stop_by_id(id, reference, error=body.error, cause=body.cause)
        view = await executions.by_id(id, reference)
        return respond(views.execution(view, executions.redrivability(view)))

    @router.post(
        "/executions/{reference:path}/redrive",
        summary="Redrive an execution",
        responses=returns(200, "Execution", 404, 409),
        openapi_extra=body_of(bodies.RedriveBody, required=False),
    )
    async def redrive(request: HttpRequest, reference: str) -> Response:
        """Set a FAILED, TIMED_OUT or ABORTED execution going again from the states that did not succeed."""
        body = bodies.read(_redrive, admitted(request).body)
        id = execution_of(admitted(request).context, reference)
        await executions.redrive_by_id(id, reference, body.client_token)
        view = await executions.by_id(id, reference, data=False)
        return respond(views.execution(view, executions.redrivability(view)))

    return router
