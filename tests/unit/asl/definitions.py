"""Small definitions the tests of `engine/asl` begin from; each call gives fresh objects to change."""

from __future__ import annotations

from typing import Any

from stepwell.engine.asl.diagnostics import Diagnostic, Severity
from stepwell.engine.asl.validate import validate

FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:f"

BODIES: dict[str, dict[str, Any]] = {
    "Pass": {"Type": "Pass", "End": True},
    "Task": {"Type": "Task", "Resource": FUNCTION, "End": True},
    "Choice": {"Type": "Choice", "Choices": [{"Variable": "$.a", "IsNull": True, "Next": "End"}], "Default": "End"},
    "Wait": {"Type": "Wait", "Seconds": 1, "End": True},
    "Succeed": {"Type": "Succeed"},
    "Fail": {"Type": "Fail"},
    "Parallel": {
        "Type": "Parallel",
        "Branches": [{"StartAt": "B", "States": {"B": {"Type": "Succeed"}}}],
        "End": True,
    },
    "Map": {
        "Type": "Map",
        "ItemProcessor": {"StartAt": "I", "States": {"I": {"Type": "Succeed"}}},
        "End": True,
    },
}
"""The least each state type needs, in JSONPath."""


def body(type_name: str, **fields: Any) -> dict[str, Any]:
    """A state of a type with more fields; a field given as `...` is taken away."""
    state = {**BODIES[type_name], **fields}
    return {name: value for name, value in state.items() if value is not ...}


def machine(state: Any, **fields: Any) -> dict[str, Any]:
    """A machine that begins with the state `X`, and has a Succeed `End` if that leads there."""
    states: dict[str, Any] = {"X": state}
    if '"End"' in repr(state).replace("'End': True", "").replace("'", '"'):
        states["End"] = {"Type": "Succeed"}
    return {"StartAt": "X", "States": states, **fields}


def jsonata(state: dict[str, Any]) -> dict[str, Any]:
    """A machine in JSONata that begins with the state `X`."""
    return machine(state, QueryLanguage="JSONata")


def errors(definition: Any, **options: Any) -> list[Diagnostic]:
    """The errors that validation finds."""
    return [finding for finding in validate(definition, **options) if finding.severity is Severity.ERROR]


def warnings(definition: Any, **options: Any) -> list[Diagnostic]:
    """The warnings that validation finds."""
    return [finding for finding in validate(definition, **options) if finding.severity is Severity.WARNING]


def texts(definition: Any, **options: Any) -> list[str]:
    """The errors as AWS writes them."""
    return [str(finding) for finding in errors(definition, **options)]
