"""The bodies REST takes, as msgspec structs. Unknown members are refused, so that a misspelt one is not lost in silence."""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeVar

import msgspec

from stepwell.engine.jsontypes import fault_of
from stepwell.engine.service import refusals
from stepwell.engine.service.mock_shapes import FieldValidation
from stepwell.engine.service.state_tests import InspectionLevel

T = TypeVar("T")

_MEMBER = re.compile("Object (?:contains unknown|missing required) field `(.*)`", re.DOTALL)
"""How msgspec names a member that is too many or too few."""


class Body(msgspec.Struct, rename="camel", forbid_unknown_fields=True, frozen=True):
    """Base: members are camelCase."""


class StartBody(Body, frozen=True):
    """Start an execution. `name` is the idempotency key; `input` any JSON, `{}` if absent."""

    name: str | None = None
    input: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class MachineBody(Body, frozen=True):
    """A state machine. `definition`: an object, or a string that holds one; `name` only where the path has none."""

    definition: msgspec.Raw
    name: str | None = None
    type: str = "STANDARD"
    role_arn: str = ""
    description: str | None = None
    logging_configuration: Any = None
    tracing_configuration: Any = None


class ValidateBody(Body, frozen=True):
    """A definition to check."""

    definition: msgspec.Raw
    type: str = "STANDARD"


class MockErrorBody(Body, frozen=True):
    """The error a state's work ends with."""

    error: str
    cause: str | None = None


class MockBody(Body, frozen=True):
    """What stands for the work of a Task, Map or Parallel: a `result`, or an error. Results of AWS services are held to their
    API: STRICT (the default), PRESENT (only what is there) or NONE."""

    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error_output: MockErrorBody | None = None
    field_validation_mode: FieldValidation = FieldValidation.STRICT


class StateConfigurationBody(Body, frozen=True):
    """What happened before: retries made, iterations failed, what an ItemReader read (a string: as it was found)."""

    retrier_retry_count: int | None = None
    error_caused_by_state: str | None = None
    map_iteration_failure_count: int | None = None
    map_item_reader_data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class TestStateBody(Body, frozen=True):
    """One state to test: `definition` is the state, or a whole state machine of which `stateName` names one."""

    __test__ = False

    definition: msgspec.Raw
    state_name: str | None = None
    role_arn: str | None = None
    input: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    inspection_level: InspectionLevel = InspectionLevel.DEBUG
    reveal_secrets: bool = False
    variables: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    context: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    mock: MockBody | None = None
    state_configuration: StateConfigurationBody | None = None


class StopBody(Body, frozen=True):
    """Stop an execution."""

    error: str | None = None
    cause: str | None = None


class RedriveBody(Body, frozen=True):
    """Redrive an execution; the same `clientToken` again is answered as before."""

    client_token: str | None = None


class MapRunBody(Body, frozen=True):
    """What is to change about a Map Run that goes on; what is absent stays."""

    max_concurrency: Annotated[int, msgspec.Meta(ge=0)] | None = None
    tolerated_failure_count: Annotated[int, msgspec.Meta(ge=0)] | None = None
    tolerated_failure_percentage: Annotated[float, msgspec.Meta(ge=0, le=100)] | None = None


class TaskSuccessBody(Body, frozen=True):
    """A task has succeeded. `output` is any JSON."""

    token: str
    output: msgspec.Raw


class TaskFailureBody(Body, frozen=True):
    """A task has failed."""

    token: str
    error: str | None = None
    cause: str | None = None


class TaskTokenBody(Body, frozen=True):
    """A task is alive."""

    token: str


class ActivityBody(Body, frozen=True):
    """An activity."""

    name: str


class FunctionBody(Body, frozen=True):
    """A function: `kind` is python, celery or http; `target` what is called."""

    kind: str
    target: str
    options: dict[str, Any] | None = None


class ConnectionBody(Body, frozen=True):
    """A connection. `authParameters` are EventBridge's AuthParameters, secrets included; secrets are never shown again."""

    auth_parameters: msgspec.Raw
    authorization_type: str | None = None


def decoder(type: type[T]) -> msgspec.json.Decoder[T]:
    """A decoder to be made once and used for every request."""
    return msgspec.json.Decoder(type)


def read(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Read a body; an absent one is `{}`. Raises `ServiceError` that says what is wrong and where."""
    try:
        return decoder.decode(body or b"{}")
    except msgspec.ValidationError as error:
        message, pointer = _place(str(error))
        raise refusals.invalid(f"The request body is not as expected: {message}", pointer=pointer) from None
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise refusals.unreadable("The request body is not valid JSON", fault_of(body, error)) from None


def _place(message: str) -> tuple[str, str | None]:
    """Split msgspec's message into what is wrong and a JSON pointer to where."""
    text, _, place = message.partition(" - at `$")
    pointer = place.rstrip("`").replace("[", ".").replace("]", "").replace(".", "/")
    member = _MEMBER.fullmatch(text)
    if member is not None:
        pointer += "/" + member[1].replace("~", "~0").replace("/", "~1")
    return text, pointer or None
