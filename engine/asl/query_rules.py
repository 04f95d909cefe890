"""What fields that hold queries must be: paths, intrinsic calls, payload templates, variables, JSONata expressions.

Every expression is compiled here to see whether it can be. It must not know where a field stands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Final, TypeAlias

from stepwell.engine import limits
from stepwell.engine.asl.diagnostics import DiagnosticCode
from stepwell.engine.asl.language import QueryLanguage
from stepwell.engine.asl.placeholders import is_open
from stepwell.engine.asl.report import Place, Report, steps_of
from stepwell.engine.errors import InvalidQueryError
from stepwell.engine.jsontypes import Json
from stepwell.engine.query.intrinsics import compile_intrinsic
from stepwell.engine.query.intrinsics.syntax import Call, Text, parse_intrinsic
from stepwell.engine.query.jsonata import compile_jsonata, is_jsonata
from stepwell.engine.query.jsonpath import compile_jsonpath
from stepwell.engine.query.paths import ReferencePath

Check: TypeAlias = Callable[[Report, Json, Place, QueryLanguage], None]

_NUMERIC_FUNCTIONS: Final = frozenset({"States.ArrayRange", "States.MathAdd", "States.MathRandom"})
_TEXT_FUNCTIONS: Final = (
    "States.ArrayGetItem", "States.Base64Decode", "States.Base64Encode", "States.Format", "States.Hash",
    "States.JsonToString", "States.UUID",
)  # fmt: skip
"""The functions that can give a string (AWS guide, "Fail workflow state")."""
LOOKS_LIKE_QUERY: Final = re.compile(r"\$\$?[.\[]|States\.[A-Za-z]+\(")


def path_fault(text: str) -> str | None:
    """What is wrong with a JSONPath; None for a valid one."""
    try:
        compile_jsonpath(text)
    except InvalidQueryError as error:
        return str(error)
    return None


def query_fault(text: str) -> str | None:
    """What is wrong with a JSONPath or an intrinsic function call; None for a valid one."""
    if text.startswith("$"):
        return path_fault(text)
    try:
        compile_intrinsic(text)
        return _literal_fault(parse_intrinsic(text))
    except InvalidQueryError as error:
        return str(error)


def text_query_fault(text: str) -> str | None:
    """What is wrong with a Reference Path or intrinsic call that is to give a string; None for a valid one."""
    if text.startswith("$"):
        return reference_path_fault(text)
    fault = query_fault(text)
    if fault is None and (name := parse_intrinsic(text).name) not in _TEXT_FUNCTIONS:
        return f"{name} gives no string; {', '.join(_TEXT_FUNCTIONS)} do"
    return fault


def _literal_fault(call: Call) -> str | None:
    """A string literal given to a function that takes numbers alone: such a call can only ever fail."""
    for argument in call.arguments:
        if isinstance(argument, Call):
            fault = _literal_fault(argument)
            if fault is not None:
                return fault
        elif isinstance(argument, Text) and call.name in _NUMERIC_FUNCTIONS:
            return f"{call.name} takes numbers, not the string '{argument.value}'"
    return None


def reference_path_fault(text: str) -> str | None:
    """What is wrong with a Reference Path; None for a valid one."""
    try:
        path = compile_jsonpath(text)
    except InvalidQueryError as error:
        return str(error)
    return None if path.is_reference else f"'{text}' can select more than one value"


def result_path_fault(text: str) -> str | None:
    """What is wrong with a ResultPath; None for a valid one."""
    try:
        ReferencePath.parse(text)
    except InvalidQueryError as error:
        return str(error)
    return None


def check_jsonata_text(report: Report, value: str, place: Place) -> None:
    """A string which must be a JSONata expression."""
    if not is_jsonata(value):
        report.error(
            place,
            "Value must be a JSONata expression enclosed in '{%' and '%}'",
            hint='Write it as "{% ... %}", with nothing before or after.',
        )
    elif value not in report.expressions:
        _compile_expression(report, value, place)


def _compile_expression(report: Report, text: str, place: Place) -> None:
    field = next((step for step in reversed(steps_of(place)) if isinstance(step, str)), "")
    try:
        report.expressions[text] = compile_jsonata(text, field)
    except InvalidQueryError as error:
        if not (report.placeholders and is_open(text)):
            report.error(place, "Value is not a valid JSONata expression", hint=str(error))


def check_jsonata_value(report: Report, value: Json, place: Place, language: QueryLanguage) -> None:
    """Any JSON; strings that begin or end like an expression must be whole ones."""
    if isinstance(value, str):
        if value.startswith("{%") or value.endswith("%}"):
            check_jsonata_text(report, value, place)
    elif isinstance(value, dict):
        for key, item in value.items():
            check_jsonata_value(report, item, (place, key), language)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            check_jsonata_value(report, item, (place, index), language)


def check_jsonata_object(report: Report, value: Json, place: Place, language: QueryLanguage) -> None:
    """An object, or an expression that gives one."""
    if isinstance(value, str):
        check_jsonata_text(report, value, place)
    elif not isinstance(value, dict):
        report.error(place, "Expected value of type Object or a JSONata expression")
    else:
        check_jsonata_value(report, value, place, language)


def check_items(report: Report, value: Json, place: Place, language: QueryLanguage) -> None:
    """An array, or an expression that gives one."""
    if isinstance(value, str):
        check_jsonata_text(report, value, place)
    elif not isinstance(value, list):
        report.error(place, "Expected value of type Array or a JSONata expression")
    else:
        check_jsonata_value(report, value, place, language)


def check_condition(report: Report, value: Json, place: Place, language: QueryLanguage) -> None:
    """A boolean, or an expression that gives one."""
    if isinstance(value, str):
        check_jsonata_text(report, value, place)
    elif not isinstance(value, bool):
        report.error(place, "Expected value of type Boolean or a JSONata expression")


def check_template(report: Report, value: Json, place: Place, language: QueryLanguage) -> None:
    """A payload template: each field `name.$` holds a path or an intrinsic call, and no name is there twice."""
    _template_value(report, value, place, place)


def check_object_template(report: Report, value: Json, place: Place, language: QueryLanguage) -> None:
    """A payload template which is an object."""
    if isinstance(value, dict):
        _template_value(report, value, place, place)
    else:
        report.error(place, "Expected value of type Object")


def _template_value(report: Report, value: Json, place: Place, inner: Place) -> None:
    """`place` is the field of the state, which AWS names; `inner` is where in it the value stands."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key.endswith(".$"):
                fault = query_fault(item) if isinstance(item, str) else "the value is not a string"
                if fault is not None and not (report.placeholders and is_open(item)):
                    report.error(
                        place,
                        f"The value for the field '{key}' must be a valid JSONPath or a valid intrinsic function call",
                        hint=f"At {'.'.join(map(str, _inside(inner, place)))}: {fault}" if inner != place else fault,
                        at=(inner, key),
                    )
                if key[:-2] in value:
                    report.error(place, f"The field '{key[:-2]}' is there both with and without '.$'", at=(inner, key))
            elif isinstance(item, str):
                if LOOKS_LIKE_QUERY.match(item):
                    report.warn(
                        place,
                        f"The value of the field '{key}' looks like a JSONPath or an intrinsic function call",
                        DiagnosticCode.NO_DOLLAR,
                        hint=f"Name the field '{key}.$' to have the value computed.",
                        at=(inner, key),
                    )
            else:
                _template_value(report, item, place, (inner, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _template_value(report, item, place, (inner, index))


def _inside(inner: Place, place: Place) -> list[str | int]:
    steps: list[str | int] = []
    while inner is not None and inner != place:
        inner, step = inner
        steps.append(step)
    return steps[::-1]


VARIABLE_NAMES: Final = (
    f"Letters, digits and underscores, a letter first, at most {limits.MAX_VARIABLE_NAME_CHARS} in all."
)


def invalid_variable(name: str) -> str:
    """What is said of a name that no variable can have."""
    return f"The variable name '{name}' is not valid"


def check_assign(report: Report, value: Json, place: Place, language: QueryLanguage) -> None:
    """An object from variable names to values. A name may have hyphens, which only makes it useless; but AWS refuses it."""
    if not isinstance(value, dict):
        report.error(place, "Expected value of type Object")
        return
    for key in value:
        name = key.removesuffix(".$") if language is QueryLanguage.JSONPATH else key
        if name == "states":
            report.error(place, "The variable name 'states' is reserved")
        elif not name.replace("-", "_").isidentifier() or len(name) > limits.MAX_VARIABLE_NAME_CHARS:
            report.error(place, invalid_variable(name), hint=VARIABLE_NAMES)
    if language is QueryLanguage.JSONPATH:
        _template_value(report, value, place, place)
    else:
        check_jsonata_value(report, value, place, language)


_TEXT: Final = re.compile(r"'(?:[^'\\]|\\.?)*+(?:'|\Z)|\"(?:[^\"\\]|\\.?)*+(?:\"|\Z)")
_MEMBER: Final = re.compile(r"\$states\s*\.\s*`?(result|errorOutput)\b")
_WITH_RESULT: Final = frozenset({"Task", "Parallel", "Map"})
_CONTAINERS: Final = ("Branches", "ItemProcessor", "Iterator")
_EXISTS_IN: Final = {
    "result": "It exists in Output and Assign of a Task, Parallel or Map.",
    "errorOutput": "It exists in Output and Assign of a catcher.",
}


def check_states_members(report: Report, state: Mapping[str, Json], place: Place) -> None:
    """Note expressions that read `$states.result` or `$states.errorOutput` in fields where there is none (AWS guide, "Transforming
    data with JSONata": caught at creation). An expression that asks whether it exists is let pass."""
    for field, value in state.items():
        if field in _CONTAINERS:
            continue
        there = {
            "result": field in ("Output", "Assign") and state.get("Type") in _WITH_RESULT,
            "errorOutput": field == "Catch",
        }
        for text, at in jsonata_strings(value, (place, field)):
            expression = report.expressions.get(text)
            if expression is None or "$exists" in expression.source:
                continue
            for member in sorted(set(_MEMBER.findall(_TEXT.sub("''", expression.source))) & expression.states):
                if not there[member]:
                    report.error(
                        at, f"'$states.{member}' is not accessible in the field '{field}'", hint=_EXISTS_IN[member]
                    )


def jsonata_strings(value: Json, place: Place) -> Iterator[tuple[str, Place]]:
    """The JSONata expressions in a value, with their delimiters, each with its place."""
    if isinstance(value, str):
        if is_jsonata(value):
            yield value, place
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from jsonata_strings(item, (place, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from jsonata_strings(item, (place, index))


def path_check(fault: Callable[[str], str | None], name: str, *, nullable: bool = False) -> Check:
    """The check of a string in which `fault` finds nothing; `name` says in messages what it should be."""

    def check(report: Report, value: Json, place: Place, language: QueryLanguage) -> None:
        if value is None and nullable:
            return
        if not isinstance(value, str):
            report.error(place, "Expected value of type String")
            return
        found = fault(value)
        if found is not None:
            report.error(place, f"Value is not {name}: {found}")

    return check


_variable_check: Final = path_check(path_fault, "a valid JSONPath")


def check_variable(report: Report, value: Json, place: Place) -> None:
    """The Variable of a choice rule."""
    _variable_check(report, value, place, QueryLanguage.JSONPATH)


_MEANT_INSTEAD: Final = {
    QueryLanguage.JSONPATH: {
        "Arguments": ("Parameters",), "Output": ("ResultSelector", "Parameters", "OutputPath", "ResultPath"),
        "Items": ("ItemsPath",), "Condition": ("Variable with a comparison such as StringEquals",),
    },
    QueryLanguage.JSONATA: {
        "Parameters": ("Arguments", "ItemSelector", "Output"), "InputPath": ("Arguments", "Items", "Output"),
        "ResultSelector": ("Output",), "ResultPath": ("Output or Assign",), "OutputPath": ("Output",),
        "Result": ("Output",), "ItemsPath": ("Items",), "Variable": ("Condition",), "And": ("Condition",),
        "Or": ("Condition",), "Not": ("Condition",),
    },
}  # fmt: skip
"""What does in each the work of the other query language's field: the first that the object in question can have."""


def wrong_language(
    report: Report, place: Place, field: str, language: QueryLanguage, known: Collection[str] = ()
) -> None:
    """Note, in AWS's words, a field that exists in the other query language only. `known`: the fields there are."""
    other = QueryLanguage.JSONPATH if language is QueryLanguage.JSONATA else QueryLanguage.JSONATA
    names = _MEANT_INSTEAD[language].get(field, ())
    instead = next((name for name in names if name in known), names[-1] if names else None)
    if instead is None and language is QueryLanguage.JSONATA:
        instead = f"{field.removesuffix('Path')} with an expression" if field.endswith("Path") else "Condition"
    elif other is QueryLanguage.JSONATA:
        instead = f'{instead or "another field"}, or give the state "QueryLanguage": "JSONata"'
    report.error(
        place,
        f"The QueryLanguage is set to '{language}', but field '{field}' is only supported for the '{other}' QueryLanguage",
        hint=f"Use {instead}." if instead else None,
        at=(place, field),
    )


def check_static_result(report: Report, value: Json, place: Place) -> None:
    """Result of a Pass state: it is handed on as it is written, paths in it are not followed."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key.endswith(".$"):
                report.warn(
                    place,
                    f"The field '{key}' in the Result of a Pass state is static; it is not computed",
                    DiagnosticCode.PASS_RESULT_IS_STATIC,
                    hint="Use Parameters instead of Result.",
                )
            else:
                check_static_result(report, item, place)
    elif isinstance(value, list):
        for item in value:
            check_static_result(report, item, place)
