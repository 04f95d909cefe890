"""Text that looks as if it were computed, and is not: paths in JSONata states, expressions in JSONPath states; and calls of intrinsic
functions whose literals make them fail every time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from stepwell.engine.asl.diagnostics import DiagnosticCode
from stepwell.engine.asl.language import QueryLanguage
from stepwell.engine.asl.lints.references import expressions_of
from stepwell.engine.asl.lints.walk import Machine, StateAt
from stepwell.engine.asl.query_rules import LOOKS_LIKE_QUERY
from stepwell.engine.asl.report import Place, Report
from stepwell.engine.asl.resources import TargetKind, parse_resource
from stepwell.engine.errors import InvalidQueryError, JsonTextError
from stepwell.engine.jsontypes import Json, read
from stepwell.engine.query.intrinsics import compile_intrinsic
from stepwell.engine.query.intrinsics.faults import sure_fault
from stepwell.engine.query.jsonata import is_jsonata

_PARTS: Final = ("ItemReader", "ItemBatcher", "ResultWriter")
_VALUES: Final = {
    QueryLanguage.JSONATA: ("Arguments", "Output", "Assign", "ItemSelector", "BatchInput", "Items", "Error", "Cause"),
    QueryLanguage.JSONPATH: (
        "Parameters", "ResultSelector", "Assign", "ItemSelector", "BatchInput", "Result", "Error", "Cause",
    ),
}  # fmt: skip
"""Fields that hold data of the user's in which something may be computed."""

_NAMES_PATH: Final = re.compile(r"Paths?(?:Map)?$|(?:^|_)paths?$|^jsonpath$")
"""Names such as InputPath or InputPathsMap in what a service is called with: the path is the service's to follow."""

_STATES_READ: Final = re.compile(r"\$states\.(?:input|context|result|errorOutput)\b")


def check_literals(report: Report, machine: Machine) -> None:
    """Look at every state."""
    for state in machine.states:
        calls_service = _calls_service(state)
        for holder, place in _holders(state):
            for field in _VALUES[state.language]:
                if field in holder:
                    for literal in _literals(holder[field], (place, field)):
                        _check_text(report, state.language, literal, is_call=field == "Arguments" and calls_service)
        if state.language is QueryLanguage.JSONPATH:
            for text, at in expressions_of(state):
                if text.startswith("States."):
                    _check_call(report, text, at)


def _calls_service(state: StateAt) -> bool:
    resource = state.fields.get("Resource")
    parsed = parse_resource(resource) if isinstance(resource, str) else None
    return parsed is not None and parsed.kind is TargetKind.SERVICE


def _holders(state: StateAt) -> Iterator[tuple[Mapping[str, Json], Place]]:
    """A state and the objects in it that have fields of the language."""
    yield state.fields, state.place
    for field in _PARTS:
        part = state.fields.get(field)
        if isinstance(part, dict):
            yield part, (state.place, field)
    for field in ("Choices", "Catch"):
        yield from state.entries(field)


@dataclass(frozen=True, slots=True)
class _Literal:
    """A string, the name it has, and whether that name or one around it says that it holds a path."""

    name: str
    text: str
    place: Place
    is_path: bool


def _literals(value: Json, place: Place, name: str = "", is_path: bool = False) -> Iterator[_Literal]:
    """Each string of a value, but for those of a definition in it, which is for whoever runs that."""
    if isinstance(value, str):
        yield _Literal(name, value, place, is_path)
    elif isinstance(value, dict):
        if "StartAt" in value and "States" in value:
            return
        for key, inner in value.items():
            yield from _literals(inner, (place, key), key, is_path or _NAMES_PATH.search(key) is not None)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _literals(inner, (place, index), name, is_path)


def _is_document(text: str) -> bool:
    """Whether a text is JSON of its own, such as the Definition that CreateStateMachine is given."""
    if not text.lstrip().startswith(("{", "[")):
        return False
    try:
        read(text)
    except JsonTextError:
        return False
    return True


def _check_text(report: Report, language: QueryLanguage, literal: _Literal, *, is_call: bool) -> None:
    """`is_call`: whether the text is for a service of AWS."""
    text = literal.text
    if language is QueryLanguage.JSONATA:
        if is_jsonata(text):
            return
        if 0 <= text.find("{%") < text.rfind("%}"):
            if _is_document(text):
                return
            why, hint = "has an expression in it", "An expression is the whole string, as in \"{% 'Order ' & $id %}\"."
        elif literal.name.endswith(".$") or (LOOKS_LIKE_QUERY.match(text) and not (is_call and literal.is_path)):
            why, hint = (
                "looks like JSONPath",
                'In JSONata write an expression, as in "total": "{% $states.input.total %}".',
            )
        elif _STATES_READ.match(text):
            why, hint = "looks like an expression", 'Write it as "{% ... %}".'
        else:
            return
    elif is_jsonata(text):
        why, hint = (
            "is a JSONata expression",
            'This state is in JSONPath. Give it "QueryLanguage": "JSONata" to have it computed.',
        )
    else:
        return
    report.warn(
        literal.place, f"The text {why}, and is handed on as it is written", DiagnosticCode.NOT_COMPUTED, hint=hint
    )


def _check_call(report: Report, text: str, place: Place) -> None:
    try:
        fault = sure_fault(compile_intrinsic(text).call)
    except InvalidQueryError:
        return  # validation says so
    if fault is not None:
        report.warn(
            place,
            f"This call fails every time. {fault}",
            DiagnosticCode.FAILING_CALL,
            hint="It raises States.IntrinsicFailure, whatever the input is.",
        )
