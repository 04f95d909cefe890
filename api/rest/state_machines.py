"""State machines over REST."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from fastapi import APIRouter
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from stepwell.api.rest import bodies, problems, views
from stepwell.api.rest.common import Limit, PageToken, admitted, no_content, page, respond
from stepwell.api.rest.openapi import body_of, returns
from stepwell.engine import limits
from stepwell.engine.asl.diagnostics import Severity
from stepwell.engine.errors import JsonTextError
from stepwell.engine.jsontypes import fault_of, read
from stepwell.engine.service import refusals
from stepwell.engine.service.refusals import ErrorCode, ServiceError
from stepwell.engine.service.services import Services
from stepwell.engine.service.state_machines import MachineConfig

_machine = bodies.decoder(bodies.MachineBody)
_validate = bodies.decoder(bodies.ValidateBody)
_DEFAULT_ROLE: Final = "arn:aws:iam::000000000000:role/stepwell"


def definition_text(raw: bytes) -> str:
    """The text of a definition: of the object as it was written, or what a string holds."""
    try:
        text = read(raw) if raw[:1] == b'"' else raw.decode()
    except JsonTextError as error:
        raise ServiceError(
            ErrorCode.SERIALIZATION,
            f"'definition': {error}",
            pointer="/definition",
            line=error.line,
            column=error.column,
        ) from None
    except UnicodeDecodeError as error:
        what = "'definition': The text is not valid JSON"
        raise refusals.unreadable(what, fault_of(raw, error), pointer="/definition") from None
    assert isinstance(text, str)
    if not 1 <= len(text) <= limits.MAX_DEFINITION_BYTES:
        raise refusals.invalid(
            f"'definition' must have 1 to {limits.MAX_DEFINITION_BYTES} characters", pointer="/definition"
        )
    return text


def _config(body: bodies.MachineBody) -> MachineConfig:
    return MachineConfig(logging=body.logging_configuration, tracing=body.tracing_configuration)


def routes(services: Services) -> APIRouter:
    """The routes of state machines."""
    router = APIRouter(prefix="/v1/state-machines", tags=["State machines"])
    machines = services.state_machines

    @router.post(
        "",
        status_code=201,
        summary="Create a state machine",
        responses=returns(201, "StateMachine", 400, 409),
        openapi_extra=body_of(bodies.MachineBody),
    )
    async def create(request: HttpRequest) -> Response:
        """Create a state machine. The same creation again is answered with the machine that is there; one that differs in
        anything but `roleArn` is a conflict: use `PUT /v1/state-machines/{name}` to change it."""
        body = bodies.read(_machine, admitted(request).body)
        if body.name is None:
            raise refusals.invalid("'name' is missing", pointer="/name")
        record = await machines.create(
            admitted(request).context,
            name=body.name,
            definition=definition_text(bytes(body.definition)),
            role_arn=body.role_arn or _DEFAULT_ROLE,
            type=body.type,
            config=_config(body),
            description=body.description,
        )
        return respond(views.machine(record), 201, location=f"/v1/state-machines/{quote(record.name)}")

    @router.post(
        "/validate",
        summary="Check a definition",
        responses=returns(200, "Validation", 400),
        openapi_extra=body_of(bodies.ValidateBody),
    )
    async def validate(request: HttpRequest) -> Response:
        """The findings about a definition, with line and column, at most 1,000. Nothing is stored. `valid` is true when no
        finding is an error."""
        body = bodies.read(_validate, admitted(request).body)
        if body.type not in ("STANDARD", "EXPRESS"):
            raise refusals.invalid("'type' must be STANDARD or EXPRESS", pointer="/type")
        findings = await machines.check(definition_text(bytes(body.definition)), body.type)
        return respond(
            {
                "valid": not any(finding.severity is Severity.ERROR for finding in findings),
                "diagnostics": problems.diagnostics(findings),
            }
        )

    @router.get("", summary="List state machines", responses=returns(200, "StateMachinePage", 400))
    async def list_machines(limit: Limit = limits.DEFAULT_PAGE_SIZE, after: PageToken = None) -> Response:
        """State machines by creation date, without definitions."""
        found = await machines.list(limit, after)
        return page([views.machine(record, definition=False) for record in found.items], found.next)

    @router.put(
        "/{name}",
        summary="Create or update a state machine",
        responses=returns(200, "StateMachine", 201, 400),
        openapi_extra=body_of(bodies.MachineBody),
    )
    async def put(request: HttpRequest, name: str) -> Response:
        """Make the machine equal to this: 201 when it was created, 200 when it was there. Doing it twice changes nothing.
        Executions that run keep the definition they were started with."""
        body = bodies.read(_machine, admitted(request).body)
        if body.name not in (None, name):
            raise refusals.invalid("'name' differs from the name in the path", pointer="/name")
        record, created = await machines.put(
            admitted(request).context,
            name=name,
            definition=definition_text(bytes(body.definition)),
            role_arn=body.role_arn or _DEFAULT_ROLE,
            type=body.type,
            config=_config(body),
            description=body.description,
        )
        return respond(views.machine(record), 201 if created else 200)

    @router.get("/{name}", summary="Get a state machine", responses=returns(200, "StateMachine", 404))
    async def get(request: HttpRequest, name: str) -> Response:
        """A state machine by its name or ARN, with its newest definition."""
        arn = await machines.arn_named(admitted(request).context, name)
        return respond(views.machine(await machines.describe(arn)))

    @router.delete("/{name}", status_code=204, summary="Delete a state machine", responses=returns(204, None, 404))
    async def delete(request: HttpRequest, name: str) -> Response:
        """Delete a state machine by its name or ARN. Its executions go on to their end."""
        arn = await machines.arn_named(admitted(request).context, name)
        await machines.delete(arn)
        return no_content()

    return router
