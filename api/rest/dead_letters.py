"""Dead letters over REST."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Path, Query
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from stepwell.api.rest import views
from stepwell.api.rest.common import Limit, PageToken, TimeFilter, admitted, no_content, page, respond, time_of
from stepwell.api.rest.openapi import returns
from stepwell.engine import limits
from stepwell.engine.ports import DeadLetterFilter, DeadLetterStatus
from stepwell.engine.service.services import Services

Id = Annotated[int, Path(ge=1, le=2**63 - 1, description="The number of the dead letter.")]


class StatusFilter(StrEnum):
    """Which dead letters are shown."""

    OPEN = "OPEN"
    REDRIVEN = "REDRIVEN"
    DISCARDED = "DISCARDED"
    ANY = "ANY"


def routes(services: Services) -> APIRouter:
    """The routes of dead letters."""
    router = APIRouter(prefix="/v1/dead-letters", tags=["Dead letters"])
    letters = services.dead_letters

    @router.get("", summary="List dead letters", responses=returns(200, "DeadLetterPage", 400))
    async def list_letters(
        request: HttpRequest,
        state_machine: Annotated[
            str | None, Query(alias="stateMachine", description="Name or ARN of a state machine.")
        ] = None,
        state: Annotated[str | None, Query(max_length=80, description="The state in which the run failed.")] = None,
        error: Annotated[str | None, Query(max_length=256, description="The exact error name.")] = None,
        status: Annotated[StatusFilter, Query(description="What has become of them.")] = StatusFilter.OPEN,
        since: TimeFilter = None,
        until: TimeFilter = None,
        limit: Limit = limits.DEFAULT_PAGE_SIZE,
        after: PageToken = None,
    ) -> Response:
        """What is kept of runs that ended badly, newest first, without input."""
        arn = None
        if state_machine is not None:
            arn = await services.state_machines.arn_named(admitted(request).context, state_machine)
        where = DeadLetterFilter(
            arn,
            state,
            error,
            None if status is StatusFilter.ANY else DeadLetterStatus(status.value),
            time_of(since, "since"),
            time_of(until, "until"),
        )
        found = await letters.list(where, max_results=limit, token=after)
        return page([views.dead_letter(letter) for letter in found.items], found.next)

    @router.get("/{id}", summary="Get a dead letter", responses=returns(200, "DeadLetter", 404))
    async def get(id: Id) -> Response:
        """One dead letter, with the input of the state that failed."""
        return respond(views.dead_letter(await letters.get(id)))

    @router.post("/{id}/redrive", summary="Redrive a dead letter", responses=returns(200, "DeadLetter", 404, 409))
    async def redrive(id: Id) -> Response:
        """Redrive the execution and close the letter. Asking again after a lost answer is safe."""
        await letters.redrive(id)
        return respond(views.dead_letter(await letters.get(id)))

    @router.post(
        "/{id}/discard", status_code=204, summary="Discard a dead letter", responses=returns(204, None, 404, 409)
    )
    async def discard(id: Id) -> Response:
        """Close the letter; the execution stays as it is."""
        await letters.discard(id)
        return no_content()

    return router
