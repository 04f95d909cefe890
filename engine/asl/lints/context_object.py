"""Reads of the context object (`$$`, `$states.context`) and of `$states` that can give nothing, and task tokens nobody is told.

It must not know what is in an execution's input.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

from stepwell.engine.asl.diagnostics import DiagnosticCode
from stepwell.engine.asl.language import QueryLanguage
from stepwell.engine.asl.lints.references import expressions_of
from stepwell.engine.asl.lints.walk import Machine, StateAt
from stepwell.engine.asl.placeholders import is_open
from stepwell.engine.asl.report import Place, Report
from stepwell.engine.asl.resources import IntegrationPattern, parse_resource
from stepwell.engine.jsontypes import Json

_Members: TypeAlias = "Mapping[str, _Members] | None"
"""What an object has; None where it may be anything."""

CONTEXT: Final[_Members] = {
    "Execution": {
        "Id": {}, "Input": None, "Name": {}, "RoleArn": {}, "StartTime": {}, "RedriveCount": {}, "RedriveTime": {},
    },
    "State": {"EnteredTime": {}, "Name": {}, "RetryCount": {}},
    "StateMachine": {"Id": {}, "Name": {}},
    "Task": {"Token": {}},
    "Map": {"Item": {"Index": {}, "Key": {}, "Source": {}, "Value": None}},
}  # fmt: skip
"""The context object (AWS guide, "Accessing execution data from the Context object")."""

_STATES: Final[_Members] = {"input": None, "context": CONTEXT, "result": None, "errorOutput": None}

_JSONPATH_READ: Final = r"'(?:[^'\\]|\\.?)*+(?:'|\Z)|\"(?:[^\"\\]|\\.?)*+(?:\"|\Z)|(?<![\w$])\$\$(?![\w$\[])((?:\.[A-Za-z_]\w*)*)(?![\w.\[(])"
_JSONATA_READ: Final = (
    r"(?s)'(?:[^'\\]|\\.?)*+(?:'|\Z)|\"(?:[^\"\\]|\\.?)*+(?:\"|\Z)|/\*.*?(?:\*/|\Z)"
    r"|(?<![\w$])\$states(?!\w)((?:\s*\.\s*[A-Za-z_]\w*)*)(?!\s*[\w.(])"
)
_ODD_READ: Final = r"Token|\*|\.\.|\$\$\[|\.Task\[|\$lookup|\.\s*[{`]"
"""Patterns that are compiled when they are first needed, which most definitions do without."""


def check_context(report: Report, machine: Machine) -> None:
    """Look at every state."""
    for state in machine.states:
        told = False
        for text, place in expressions_of(state):
            for steps in _reads(text, state.language):
                told = told or _covers_token(steps, state.language)
                _check_read(report, state, steps, place)
        _check_token_is_told(report, state, told)


def _reads(text: str, language: QueryLanguage) -> Iterator[list[str]]:
    """The names of each read, after `$$` or `$states`."""
    jsonata = language is QueryLanguage.JSONATA
    if ("$states" if jsonata else "$$") not in text:
        return
    for match in re.finditer(_JSONATA_READ if jsonata else _JSONPATH_READ, text):
        if match[1] is not None:
            yield [step.strip() for step in match[1].split(".")[1:]]


def _check_read(report: Report, state: StateAt, steps: list[str], place: Place) -> None:
    members = _STATES if state.language is QueryLanguage.JSONATA else CONTEXT
    around = "$states" if state.language is QueryLanguage.JSONATA else "$$"
    for step in steps:
        if members is None:
            return
        if step not in members:
            near = report.nearest(step, members)
            there = f"It has {', '.join(members)}." if members else "It has no fields."
            report.warn(
                place,
                f"Nothing can be at '{around}.{step}': '{around}' has no field '{step}'",
                DiagnosticCode.IMPOSSIBLE_PATH,
                hint=f"Did you mean '{near}'?" if near else there,
            )
            return
        members, around = members[step], f"{around}.{step}"
    if steps[-2:] == ["Task", "Token"] and _has_no_token(state):
        report.warn(
            place,
            "This task has no token: it does not wait for one",
            DiagnosticCode.IMPOSSIBLE_PATH,
            hint="Tasks of activities and Resources that end with .waitForTaskToken have one.",
        )


def _has_no_token(state: StateAt) -> bool:
    text = state.fields.get("Resource")
    if state.type != "Task":
        return True
    resource = parse_resource(text) if isinstance(text, str) and "${" not in text else None
    return resource is not None and not resource.has_token


def _covers_token(steps: list[str], language: QueryLanguage) -> bool:
    token = ["context", "Task", "Token"] if language is QueryLanguage.JSONATA else ["Task", "Token"]
    return steps == token[: len(steps)]


def _check_token_is_told(report: Report, state: StateAt, told: bool) -> None:
    text = state.fields.get("Resource")
    if (
        told
        or state.type != "Task"
        or not isinstance(text, str)
        or not text.endswith(IntegrationPattern.WAIT_FOR_TASK_TOKEN)
    ):
        return
    field = "Arguments" if state.language is QueryLanguage.JSONATA else "Parameters"
    mark = "$states" if state.language is QueryLanguage.JSONATA else "$$"
    if any(is_open(value) for value in state.fields.values()) or _may_read_token(state.fields, mark, mark == "$states"):
        return
    token = "{% $states.context.Task.Token %}" if state.language is QueryLanguage.JSONATA else "$$.Task.Token"
    report.warn(
        state.place,
        "The task waits for its token to come back, and tells nobody the token",
        DiagnosticCode.TOKEN_NOT_TOLD,
        hint=f"Hand {token} on in {field}.",
    )


def _may_read_token(value: Json, mark: str, computed: bool) -> bool:
    """Whether the context object is read in a way that is not followed here, or in text of which something is still to be filled in."""
    if isinstance(value, str):
        return computed and mark in value and re.search(_ODD_READ, value) is not None
    if isinstance(value, dict):
        return any(_may_read_token(each, mark, computed or name.endswith(".$")) for name, each in value.items())
    return isinstance(value, list) and any(_may_read_token(each, mark, computed) for each in value)
