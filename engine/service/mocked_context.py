"""The context object that a test of a state is given: which fields it may have, in AWS's words where it has others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from stepwell.engine.errors import JsonTextError
from stepwell.engine.jsontypes import Json, read
from stepwell.engine.service import refusals
from stepwell.engine.service.refusals import ServiceError

_TEXT: Final = (str, "a string")
_NUMBER: Final = (int, "a number")
_ANYTHING: Final = (object, "anything")
_SECTIONS: Final[Mapping[str, Mapping[str, tuple[type, str]]]] = {
    "Execution": {
        "Id": _TEXT,
        "Input": _ANYTHING,
        "Name": _TEXT,
        "RoleArn": _TEXT,
        "StartTime": _TEXT,
        "RedriveCount": _NUMBER,
        "RedriveTime": _TEXT,
    },
    "State": {"EnteredTime": _TEXT, "Name": _TEXT, "RetryCount": _NUMBER},
    "StateMachine": {"Id": _TEXT, "Name": _TEXT},
    "Task": {"Token": _TEXT},
}


def mocked_context(text: str) -> Json:
    """Read a context object. Raises `ServiceError`."""
    try:
        context = read(text)
    except JsonTextError:
        raise _refused("it must be valid JSON") from None
    if not isinstance(context, dict):
        raise _refused("it must be a JSON object")
    for name, section in context.items():
        fields = _SECTIONS.get(name)
        if name == "Map":
            raise _refused("'Map' field is not supported when mocking a Context object")
        if fields is None:
            raise _refused(f"Field '{name}' is not allowed")
        if not isinstance(section, dict):
            raise _refused(f"{name} must be an object")
        for key, value in section.items():
            if key not in fields:
                raise _refused(f"Field '{key}' is not allowed")
            wanted, words = fields[key]
            if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
                raise _refused(f"{name}.{key} must be {words}")
    return context


def _refused(why: str) -> ServiceError:
    return refusals.invalid(f"Invalid Context object provided: {why}", pointer="/context")
