"""Testing one state by itself over REST."""

from __future__ import annotations

import msgspec
from fastapi import APIRouter
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from stepwell.api.rest import bodies, views
from stepwell.api.rest.common import admitted, respond
from stepwell.api.rest.openapi import body_of, returns
from stepwell.api.rest.state_machines import definition_text
from stepwell.engine.service.services import Services
from stepwell.engine.service.state_tests import DEFAULT_ROLE, MockInput, StateTestRequest

_test = bodies.decoder(bodies.TestStateBody)


def routes(services: Services) -> APIRouter:
    """The route of state tests."""
    router = APIRouter(prefix="/v1", tags=["State machines"])

    @router.post(
        "/test-state",
        summary="Test one state",
        responses=returns(200, "StateTest", 400),
        openapi_extra=body_of(bodies.TestStateBody),
    )
    async def test_state(request: HttpRequest) -> Response:
        """Run one state once, by itself: a state, or one of a whole machine. Nothing is stored. With a `mock` its work is made
        up; without, a Task is really performed, and may take up to five minutes. `inspectionData` has the value at each step of
        the state's data flow."""
        body = bodies.read(_test, admitted(request).body)
        test = services.state_tests.test(admitted(request).context, request_of(body))
        return respond(views.state_test(await admitted(request).while_connected(test)))

    return router


def request_of(body: bodies.TestStateBody) -> StateTestRequest:
    """What the use-case is asked. Raises `ServiceError`."""
    configuration = body.state_configuration or bodies.StateConfigurationBody()
    return StateTestRequest(
        definition=definition_text(bytes(body.definition)),
        state_name=body.state_name,
        role_arn=body.role_arn or DEFAULT_ROLE,
        input=_text(body.input),
        level=body.inspection_level,
        reveal_secrets=body.reveal_secrets,
        variables=_text(body.variables),
        context=_text(body.context),
        mock=None if body.mock is None else _mock(body.mock),
        retrier_retry_count=configuration.retrier_retry_count,
        error_caused_by_state=configuration.error_caused_by_state,
        map_iteration_failure_count=configuration.map_iteration_failure_count,
        map_item_reader_data=_source(configuration.map_item_reader_data),
    )


def _mock(body: bodies.MockBody) -> MockInput:
    error = body.error_output
    return MockInput(
        result=_text(body.result),
        error=None if error is None else error.error,
        cause=None if error is None else error.cause,
        has_error=error is not None,
        validation=body.field_validation_mode,
    )


def _text(raw: msgspec.Raw | msgspec.UnsetType) -> str | None:
    return None if raw is msgspec.UNSET else bytes(raw).decode("utf-8", "replace")


def _source(raw: msgspec.Raw | msgspec.UnsetType) -> str | None:
    """What stands in a string, as it was found; of any other value its text."""
    text = _text(raw)
    if text is None or not text.startswith('"'):
        return text
    return msgspec.json.decode(text, type=str)
