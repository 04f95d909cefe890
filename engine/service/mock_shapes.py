"""Whether a mocked result looks like what the mocked API answers: checked against the model of that API.

Models of services are AWS's own, as botocore carries them; those of what Stepwell calls itself are written down here, so that
they need no botocore. Member names are as Step Functions spells them. It must not know what a test of a state is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final

from stepwell.engine.asl.resources import IntegrationPattern, Resource, TargetKind
from stepwell.engine.errors import StepwellError
from stepwell.engine.jsontypes import Json


class FieldValidation(StrEnum):
    """How strictly a mocked result is held to its API."""

    STRICT = "STRICT"
    """What must be there is there, and what is there is as the API has it."""
    PRESENT = "PRESENT"
    """What is there is as the API has it."""
    NONE = "NONE"


class MockShapeError(StepwellError):
    """A mocked result that the API would not have given; the message says why, in AWS's words."""


class NoModelError(StepwellError):
    """There is no model to check against: botocore is not installed."""


@dataclass(frozen=True, slots=True)
class Shape:
    """One shape of an API model. `low` and `high` bound a number, or the length of a text, blob or list."""

    type: str
    members: Mapping[str, Shape] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    item: Shape | None = None
    values: frozenset[str] = frozenset()
    low: float | None = None
    high: float | None = None


_TEXT: Final = Shape("string")
_ANYTHING: Final = Shape("document")
_ARN: Final = Shape("string", low=1, high=256)
_TIME: Final = Shape("timestamp")
_OWN: Final[Mapping[tuple[str, str, IntegrationPattern], Shape]] = {
    ("lambda", "invoke", IntegrationPattern.REQUEST_RESPONSE): Shape(
        "structure",
        {
            "StatusCode": Shape("integer"),
            "FunctionError": _TEXT,
            "LogResult": _TEXT,
            "Payload": _ANYTHING,
            "ExecutedVersion": Shape("string", low=1, high=1024),
        },
    ),
    ("states", "startExecution", IntegrationPattern.REQUEST_RESPONSE): Shape(
        "structure", {"ExecutionArn": _ARN, "StartDate": _TIME}, required=("ExecutionArn", "StartDate")
    ),
    **{
        ("states", "startExecution", pattern): Shape(
            "structure",
            {
                "ExecutionArn": _ARN,
                "StateMachineArn": _ARN,
                "Name": Shape("string", low=1, high=80),
                "Status": Shape(
                    "string",
                    values=frozenset({"RUNNING", "SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED", "PENDING_REDRIVE"}),
                ),
                "StartDate": _ANYTHING,
                "StopDate": _ANYTHING,
                "Input": input,
                "Output": input,
            },
            required=("ExecutionArn", "StateMachineArn", "Status", "StartDate"),
        )
        for pattern, input in ((IntegrationPattern.SYNC, _TEXT), (IntegrationPattern.SYNC_2, _ANYTHING))
    },
}
_UNMODELLED: Final = frozenset({("apigateway", "invoke"), ("http", "invoke")})
"""Integrations whose answer is not that of an API of AWS."""

_SERVICES: Final[Mapping[str, str]] = {
    "aoss": "opensearchserverless",
    "cloudwatch": "cloudwatch",
    "cognitoidentityprovider": "cognito-idp",
    "costandusagereport": "cur",
    "databasemigration": "dms",
    "elasticloadbalancing": "elb",
    "elasticloadbalancingv2": "elbv2",
    "elasticsearch": "es",
    "emrcontainers": "emr-containers",
    "eventbridge": "events",
    "elasticmapreduce": "emr",
    "mwaa": "mwaa",
    "sfn": "stepfunctions",
    "states": "stepfunctions",
}
"""Services that definitions name otherwise than botocore's models do; the rest differ in hyphens at most."""


def check_mock(resource: Resource, result: Json, mode: FieldValidation) -> None:
    """Hold a mocked result to the API its Resource calls. Raises `MockShapeError`; `NoModelError` where it cannot be told.

    What comes back with a task token, or from a job that is waited for, is not the answer of the API that was called.
    """
    if (
        mode is FieldValidation.NONE
        or not resource.action
        or resource.pattern is IntegrationPattern.WAIT_FOR_TASK_TOKEN
    ):
        return
    key = resource.service.removeprefix("aws-sdk:"), resource.action
    shape = _OWN.get((*key, resource.pattern))
    if shape is None:
        if resource.kind is not TargetKind.SERVICE or key in _UNMODELLED:
            return
        if resource.pattern is not IntegrationPattern.REQUEST_RESPONSE:
            return
        shape = _output_shape(*key)
    if shape is not None:
        _check(shape, result, "", mode)


def _check(shape: Shape, value: Json, name: str, mode: FieldValidation) -> None:
    match shape.type:
        case "structure":
            _expect(isinstance(value, Mapping), name, "must be an object")
            assert isinstance(value, Mapping)
            if mode is FieldValidation.STRICT:
                for member in shape.required:
                    if member not in value:
                        raise _broken(f"Required field '{member}' is missing")
            for key, one in value.items():
                member_shape = shape.members.get(key)
                if member_shape is not None:  # what the API may come to answer one day is let pass
                    _check(member_shape, one, key, mode)
        case "map":
            _expect(isinstance(value, Mapping), name, "must be an object")
            assert isinstance(value, Mapping) and shape.item is not None
            for one in value.values():
                _check(shape.item, one, name, mode)
        case "list":
            _expect(isinstance(value, Sequence) and not isinstance(value, str), name, "must be an array")
            assert isinstance(value, Sequence) and shape.item is not None
            _check_length(shape, len(value), name)
            for one in value:
                _check(shape.item, one, name, mode)
        case "boolean":
            _expect(isinstance(value, bool), name, "must be a boolean")
        case "integer" | "long" | "float" | "double":
            _expect(isinstance(value, int | float) and not isinstance(value, bool), name, "must be a number")
            assert isinstance(value, int | float)
            _expect(shape.low is None or value >= shape.low, name, "is less than the minimum value")
            _expect(shape.high is None or value <= shape.high, name, "exceeds the maximum value")
        case "string" | "timestamp" | "blob":
            _expect(isinstance(value, str), name, "must be a string")
            assert isinstance(value, str)
            _expect(not shape.values or value in shape.values, name, "is not an expected value")
            _check_length(shape, len(value), name)


def _check_length(shape: Shape, length: int, name: str) -> None:
    _expect(shape.low is None or length >= shape.low, name, "is smaller than the minimum length")
    _expect(shape.high is None or length <= shape.high, name, "exceeds the maximum length")


def _expect(right: bool, name: str, otherwise: str) -> None:
    if not right:
        raise _broken(f"Field '{name}' {otherwise}" if name else f"The result {otherwise}")


def _broken(what: str) -> MockShapeError:
    return MockShapeError(f"Mock result schema validation error: {what}")


# ------------------------------------------------------------------------------------------------- botocore's models


def spellings(member: str) -> Iterator[str]:
    """How Step Functions may spell a member of an API: with a capital; and with only the first letter of an acronym as one."""
    capital = member[:1].upper() + member[1:]
    yield capital
    tamed = re.sub(r"[A-Z]{2,}(?=[A-Z][a-z]|[^A-Za-z]|$)", lambda found: found[0].capitalize(), capital)
    if tamed != capital:
        yield tamed


@lru_cache(maxsize=256)
def _output_shape(service: str, action: str) -> Shape | None:
    """What an action of a service answers; None for one that answers nothing, or that botocore does not know."""
    try:
        from botocore.exceptions import UnknownServiceError
        from botocore.loaders import Loader
    except ImportError:
        raise NoModelError(
            f"A mocked result of {service}:{action} is checked against AWS's model of that API, which comes with botocore: "
            "install stepwell[aws], or set fieldValidationMode to NONE"
        ) from None
    loader = Loader()
    name = _SERVICES.get(service.lower(), service.lower())
    known = {one.replace("-", ""): one for one in loader.list_available_services("service-2")}
    try:
        model: dict[str, Any] = loader.load_service_model(known.get(name.replace("-", ""), name), "service-2")
    except (UnknownServiceError, ValueError):
        return None
    operations = {one.lower(): operation for one, operation in model["operations"].items()}
    output = operations.get(action.lower(), {}).get("output")
    return None if output is None else _Models(model["shapes"]).shape(output["shape"])


class _Models:
    """Shapes of one model. A shape that holds itself is cut off where it does so for the second time."""

    def __init__(self, shapes: Mapping[str, Any]) -> None:
        self._shapes = shapes
        self._made: dict[str, Shape] = {}
        self._open: set[str] = set()

    def shape(self, name: str) -> Shape:
        if name in self._made:
            return self._made[name]
        if name in self._open:
            return _ANYTHING
        self._open.add(name)
        made = self._make(self._shapes[name])
        self._open.discard(name)
        self._made[name] = made
        return made

    def _make(self, source: Mapping[str, Any]) -> Shape:
        type_: str = source["type"]
        if type_ == "structure":
            if source.get("document"):
                return _ANYTHING
            members = {
                spelling: self.shape(member["shape"])
                for name, member in source["members"].items()
                for spelling in spellings(name)
            }
            return Shape(type_, members, tuple(next(spellings(one)) for one in source.get("required", ())))
        item = source.get("member") or source.get("value")
        return Shape(
            type_,
            item=None if item is None else self.shape(item["shape"]),
            values=frozenset(source.get("enum", ())),
            low=source.get("min"),
            high=source.get("max"),
        )
