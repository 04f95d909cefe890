"""Text that looks as if it were computed, and is not: paths in JSONata states, expressions in JSONPath states; and calls of intrinsic
functions whose literals make them fail every time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from stepwell.engine.asl.diagnostics import DiagnosticCode
from stepwell.engine.asl.language import QueryLanguage
from stepwell.engine.asl.lints.references import expressions_of
from stepwell.engine.asl.lints.walk import Machine, StateAt
from stepwell.engine.asl.query_rules import LOOKS_LIKE_QUERY
from stepwell.engine.asl.report import Place, Report
from stepwell.engine.errors import InvalidQueryError
from stepwell.engine.jsontypes import Json
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

_STATES_READ: Final = re.compile(r"\$states\.(?:input|context|result|errorOutput)\b")


def check_literals(report: Report, machine: Machine) -> None:
    """Look at every state."""
    for state in machine.states:
        for holder, place in _holders(state):
            for field in _VALUES[state.language]:
                if field in holder:
                    for key, text, at in _strings(holder[field], (place, field)):
                        _check_text(report, state.language, key, text, at)
        if state.language is QueryLanguage.JSONPATH:
            for text, at in expressions_of(state):
                if text.startswith("States."):
                    _check_call(report, text, at)


def _holders(state: StateAt) -> Iterator[tuple[Mapping[str, Json], Place]]:
    """A state and the objects in it that have fields of the language."""
    yield state.fields, state.place
    for field in _PARTS:
        part = state.fields.get(field)
        if isinstance(part, dict):
            yield part, (state.place, field)
    for field in ("Choices", "Catch"):
        yield from state.entries(field)


def _strings(value: Json, place: Place, key: str = "") -> Iterator[tuple[str, str, Place]]:
    """Each string with the name it has, and each name that ends as those of computed fields do."""
    if isinstance(value, str):
        yield key, value, place
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _strings(inner, (place, name), name)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _strings(inner, (place, index), key)


def _check_text(report: Report, language: QueryLanguage, key: str, text: str, place: Place) -> None:
    if language is QueryLanguage.JSONATA:
        if is_jsonata(text):
            return
        if 0 <= text.find("{%") < text.rfind("%}"):
            why, hint = "has an expression in it", "An expression is the whole string, as in \"{% 'Order ' & $id %}\"."
        elif key.endswith(".$") or LOOKS_LIKE_QUERY.match(text):
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
    report.warn(place, f"The text {why}, and is handed on as it is written", DiagnosticCode.NOT_COMPUTED, hint=hint)


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
