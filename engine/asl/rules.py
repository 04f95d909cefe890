"""What the value of each kind of field must be: one check a `Kind`, for the kinds that hold no fields of their own.

Messages are AWS's where they are recorded. It must not know where a field stands nor what the machine does with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final, TypeAlias

from stepwell.engine import limits
from stepwell.engine.asl.diagnostics import DiagnosticCode
from stepwell.engine.asl.fields import CHOSEN_VALUES, Kind
from stepwell.engine.asl.report import Place, Report
from stepwell.engine.asl.states import QueryLanguage
from stepwell.engine.errors import InvalidQueryError
from stepwell.engine.jsontypes import Json
from stepwell.engine.query.intrinsics import compile_intrinsic
from stepwell.engine.query.intrinsics.syntax import Call, Text, parse_intrinsic
from stepwell.engine.query.jsonpath import JsonPath, compile_jsonpath
from stepwell.engine.query.paths import ReferencePath

Check: TypeAlias = Callable[[Report, Json, Place, QueryLanguage], None]

TIMESTAMP: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)", re.ASCII)
FORBIDDEN_IN_NAMES: Final = re.compile(
    r"[\s<>{}\[\]?*\"#%\\^|~`$&,;:/\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\U0010ffff]"
)
"""What names of machines, executions and labels may not have (API reference, CreateStateMachine `name`)."""

PLACEHOLDER: Final = re.compile(r"\$\{[^{}]+\}")
"""A substitution that a deployment tool (SAM, CloudFormation, the Serverless Framework) makes before it creates a machine."""

_NUMERIC_FUNCTIONS: Final = frozenset({"States.ArrayRange", "States.MathAdd", "States.MathRandom"})
_LOOKS_LIKE_QUERY: Final = re.compile(r"\$\$?[.\[]|States\.[A-Za-z]+\(")


def is_jsonata(value: Json) -> bool:
    """Whether a value is a JSONata expression: a string from `{%` to `%}`."""
    return isinstance(value, str) and len(value) >= 4 and value.startswith("{%") and value.endswith("%}")


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
        path: JsonPath = compile_jsonpath(text)
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


def _expected(kind: str) -> Check:
    message = f"Expected value of type {kind}"
    types: dict[str, tuple[type, ...]] = {"String": (str,), "Boolean": (bool,), "Object": (dict,)}

    def check(report: Report, value: Json, place: Place, language: QueryLanguage) -> None:
        if not isinstance(value, types[kind]):
            report.error(place, message)

    return check


def check_any(report: Report, value: Json, place: Place, language: QueryLanguage) -> None:
    """Anything is right."""


check_object: Final = _expected("Object")
check_string: Final = _expected("String")


def _chosen(kind: Kind) -> Check:
    values = CHOSEN_VALUES[kind]

    def check(report: Report, value: Json, place: Place, language: QueryLanguage) -> None:
        if not (isinstance(value, str) and value in values):
            name = place[1] if place else ""
            report.error(place, f"The field '{name}' should have one of these values: [{', '.join(values)}]")

    return check


def _integer(low: int, high: int | None, *, computed: bool = True) -> Check:
    """An integer in a range; where `computed`, JSONata may give it."""

    def check(report: Report, value: Json, place: Place, language: QueryLanguage) -> None:
        if computed and language is QueryLanguage.JSONATA and isinstance(value, str):
            check_jsonata_text(report, value, place)
        elif type(value) is not int:
            report.error(place, "Expected value of type Integer")
        elif value < low:
            report.error(place, f"Value must be at least {low}")
        elif high is not None and value > high:
            report.error(place, f"Value must be at most {high}")

    return check


def _number(low: float, high: float | None, *, computed: bool = True) -> Check:
    def check(report: Report, value: Json, place: Place, language: QueryLanguage) -> None:
        if computed and language is QueryLanguage.JSONATA and isinstance(value, str):
            check_jsonata_text(report, value, place)
        elif type(value) is not int and type(value) is not float:
            report.error(place, "Expected value of type Number")
        elif not value >= low:
            report.error(place, f"Value must be at least {low:g}")
        elif high is not None and value > high:
            report.error(place, f"Value must be at most {high:g}")

    return check


def check_jsonata_text(report: Report, value: str, place: Place) -> None:
    """A string which must be a JSONata expression."""
    if not is_jsonata(value):
        report.error(
            place,
            "Value must be a JSONata expression enclosed in '{%' and '%}'",
            hint='Write it as "{% ... %}", with nothing before or after.',
        )


def check_jsonata_value(report: Report, value: Json, place: Place, language: QueryLanguage) -> None:
    """Any JSON; strings that begin or end like an expression must be whole ones."""
    if isinstance(value, str):
        if value.startswith("{%") != value.endswith("%}") or (value.startswith("{%") and not is_jsonata(value)):
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
                if fault is not None:
                    report.error(
                        place,
                        f"The value for the field '{key}' must be a valid JSONPath or a valid intrinsic function call",
                        hint=f"At {'.'.join(map(str, _inside(inner, place)))}: {fault}" if inner != place else fault,
                    )
                if key[:-2] in value:
                    report.error(place, f"The field '{key[:-2]}' is there both with and without '.$'")
            elif isinstance(item, str):
                if _LOOKS_LIKE_QUERY.match(item):
                    report.warn(
                        place,
                        f"The value of the field '{key}' looks like a JSONPath or an intrinsic function call",
                        DiagnosticCode.NO_DOLLAR,
                        hint=f"Name the field '{key}.$' to have the value computed.",
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


def check_assign(report: Report, value: Json, place: Place, language: QueryLanguage) -> None:
    """An object from variable names to values."""
    if not isinstance(value, dict):
        report.error(place, "Expected value of type Object")
        return
    for key in value:
        name = key.removesuffix(".$") if language is QueryLanguage.JSONPATH else key
        if name == "states":
            report.error(place, "The variable name 'states' is reserved")
        elif not name.isidentifier() or len(name) > limits.MAX_VARIABLE_NAME_CHARS:
            report.error(
                place,
                f"The variable name '{name}' is not valid",
                hint=f"Letters, digits and underscores, a letter first, at most {limits.MAX_VARIABLE_NAME_CHARS}.",
            )
    if language is QueryLanguage.JSONPATH:
        _template_value(report, value, place, place)
    else:
        check_jsonata_value(report, value, place, language)


def _path(fault: Callable[[str], str | None], name: str, *, nullable: bool = False) -> Check:
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


_check_variable_path: Final = _path(path_fault, "a valid JSONPath")


def check_variable(report: Report, value: Json, place: Place) -> None:
    """The Variable of a choice rule."""
    _check_variable_path(report, value, place, QueryLanguage.JSONPATH)


def wrong_language(field: str, language: QueryLanguage) -> str:
    """AWS's message for a field that exists in the other query language only."""
    other = QueryLanguage.JSONPATH if language is QueryLanguage.JSONATA else QueryLanguage.JSONATA
    return f"The QueryLanguage is set to '{language}', but field '{field}' is only supported for the '{other}' QueryLanguage"


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


def check_timestamp(report: Report, value: Json, place: Place, language: QueryLanguage) -> None:
    """An RFC 3339 timestamp with a capital T and a zone."""
    if language is QueryLanguage.JSONATA and is_jsonata(value):
        return
    if not isinstance(value, str):
        report.error(place, "Expected value of type String")
    elif not is_timestamp(value):
        report.error(
            place,
            "String does not match RFC3339 timestamp",
            hint="Write it as 2030-01-31T23:59:00Z or with an offset like +02:00.",
        )


def is_timestamp(text: str) -> bool:
    """Whether a text is an RFC 3339 timestamp as the States Language wants it (capital T, capital Z or an offset)."""
    if TIMESTAMP.fullmatch(text) is None:
        return False
    try:
        datetime.fromisoformat(text[:19])
        if text[-1] != "Z":
            datetime.fromisoformat(text[:19] + text[-6:])
    except ValueError:
        return False
    return True


def check_string_or_jsonata(report: Report, value: Json, place: Place, language: QueryLanguage) -> None:
    """A string; in JSONPath one that looks like a path was probably meant as one."""
    if not isinstance(value, str):
        report.error(place, "Expected value of type String")
    elif language is QueryLanguage.JSONPATH:
        if _LOOKS_LIKE_QUERY.match(value):
            report.warn(
                place,
                f"The value of the field '{place[1] if place else ''}' looks like a path",
                DiagnosticCode.NO_PATH,
                hint=f"Name the field '{place[1] if place else ''}Path' to have the value computed.",
            )
    else:
        check_jsonata_value(report, value, place, language)


def check_error_names(report: Report, value: Json, place: Place, language: QueryLanguage) -> None:
    """A non-empty array of error names, States.ALL alone."""
    if not isinstance(value, list):
        report.error(place, "Expected value of type Array")
    elif not value:
        report.error(place, "Value cannot be empty")
    else:
        for index, name in enumerate(value):
            if not isinstance(name, str):
                report.error((place, index), "Expected value of type String")
        if "States.ALL" in value and len(value) > 1:
            report.error(place, "'States.ALL' must appear alone in 'ErrorEquals'")


def check_label(report: Report, value: Json, place: Place, language: QueryLanguage) -> None:
    """The Label of a Distributed Map."""
    if not isinstance(value, str):
        report.error(place, "Expected value of type String")
    elif not value:
        report.error(place, "Label cannot be empty", DiagnosticCode.INVALID_LABEL_NAME)
    elif len(value) > limits.MAX_LABEL_CHARS:
        report.error(
            place, f"Label cannot exceed {limits.MAX_LABEL_CHARS} characters", DiagnosticCode.INVALID_LABEL_NAME
        )
    elif (match := FORBIDDEN_IN_NAMES.search(value)) is not None:
        report.error(place, f"Label contains invalid character: {match[0]!r}", DiagnosticCode.INVALID_LABEL_NAME)


def check_csv_headers(report: Report, value: Json, place: Place, language: QueryLanguage) -> None:
    """An array of column names."""
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        report.error(place, "Expected value of type Array of String")


VALUE_CHECKS: Final[Mapping[Kind, Check]] = {
    **{kind: _chosen(kind) for kind in CHOSEN_VALUES},
    Kind.ANY: check_any,
    Kind.STRING: check_string,
    Kind.COMPUTED_STRING: check_string_or_jsonata,
    Kind.BOOLEAN: _expected("Boolean"),
    Kind.TRUE: _expected("Boolean"),
    Kind.OBJECT: check_object,
    Kind.STATE_NAME: check_string,
    Kind.ERROR_NAMES: check_error_names,
    Kind.TEMPLATE: check_template,
    Kind.OBJECT_TEMPLATE: check_object_template,
    Kind.ASSIGN: check_assign,
    Kind.JSONATA_VALUE: check_jsonata_value,
    Kind.JSONATA_OBJECT: check_jsonata_object,
    Kind.CONDITION: check_condition,
    Kind.ITEMS: check_items,
    Kind.PATH: _path(path_fault, "a valid JSONPath"),
    Kind.PATH_OR_NULL: _path(path_fault, "a valid JSONPath", nullable=True),
    Kind.REFERENCE_PATH: _path(reference_path_fault, "a Reference Path"),
    Kind.RESULT_PATH: _path(result_path_fault, "a Reference Path", nullable=True),
    Kind.PATH_OR_INTRINSIC: _path(query_fault, "a valid JSONPath or a valid intrinsic function call"),
    Kind.SECONDS: _integer(0, limits.MAX_WAIT_SECONDS),
    Kind.POSITIVE_SECONDS: _integer(1, limits.MAX_TASK_SECONDS),
    Kind.MACHINE_SECONDS: _integer(1, limits.MAX_MACHINE_TIMEOUT_SECONDS, computed=False),
    Kind.INTERVAL_SECONDS: _integer(1, limits.MAX_RETRY_INTERVAL_SECONDS, computed=False),
    Kind.MAX_ATTEMPTS: _integer(0, limits.MAX_RETRY_ATTEMPTS, computed=False),
    Kind.BACKOFF_RATE: _number(1.0, None, computed=False),
    Kind.MAX_DELAY_SECONDS: _integer(1, limits.MAX_RETRY_DELAY_SECONDS - 1, computed=False),
    Kind.TIMESTAMP: check_timestamp,
    Kind.NON_NEGATIVE_INTEGER: _integer(0, None),
    Kind.POSITIVE_INTEGER: _integer(1, None),
    Kind.PERCENTAGE: _number(0, 100),
    Kind.MAX_ITEMS: _integer(0, limits.MAX_READER_ITEMS),
    Kind.BATCH_BYTES: _integer(1, limits.MAX_BATCH_INPUT_BYTES),
    Kind.LABEL: check_label,
    Kind.CSV_HEADERS: check_csv_headers,
}
"""The checks of the kinds that hold no fields of their own."""
