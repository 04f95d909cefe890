"""What the value of each kind of field must be: one check a `Kind`, for the kinds that hold no fields of their own.

Messages are AWS's where they are recorded. It must not know where a field stands nor what the machine does with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from stepwell.engine import limits
from stepwell.engine.asl import query_rules
from stepwell.engine.asl.diagnostics import DiagnosticCode
from stepwell.engine.asl.fields import CHOSEN_VALUES, Kind
from stepwell.engine.asl.language import QueryLanguage
from stepwell.engine.asl.placeholders import left_open
from stepwell.engine.asl.query_rules import Check
from stepwell.engine.asl.report import Place, Report
from stepwell.engine.jsontypes import Json
from stepwell.engine.query.jsonata import is_jsonata
from stepwell.engine.query.timestamps import parse_timestamp_ns

FORBIDDEN_IN_NAMES: Final = re.compile(
    r"[\s<>{}\[\]?*\"#%\\^|~`$&,;:/\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\U0010ffff]"
)
"""What names of machines, executions and labels may not have (API reference, CreateStateMachine `name`)."""


def _expected(kind: str) -> Check:
    message = f"Expected value of type {kind}"
    types: dict[str, tuple[type, ...]] = {"String": (str,), "Boolean": (bool,), "Object": (dict,)}

    def check(report: Report, value: Json, place: Place, language: QueryLanguage) -> None:
        if not isinstance(value, types[kind]):
            report.error(place, message, hint=_boolean_hint(value) if kind == "Boolean" else None)

    return check


_YES_AND_NO: Final = ("yes", "no", "on", "off", "y", "n")


def _boolean_hint(value: Json) -> str | None:
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return f"Write {value.lower()} without quotes."
    if isinstance(value, str) and value.lower() in _YES_AND_NO:
        return f"'{value}' is a string, in YAML 1.2 as well: write true or false."
    return None


def check_any(report: Report, value: Json, place: Place, language: QueryLanguage) -> None:
    """Anything is right."""


check_string: Final = _expected("String")


def _chosen(kind: Kind) -> Check:
    values = CHOSEN_VALUES[kind]

    def check(report: Report, value: Json, place: Place, language: QueryLanguage) -> None:
        if not (isinstance(value, str) and value in values):
            name = place[1] if place else ""
            near = report.nearest(value, values) if isinstance(value, str) else None
            report.error(
                place,
                f"The field '{name}' should have one of these values: [{', '.join(values)}]",
                hint=f"Did you mean '{near}'?" if near else None,
            )

    return check


def _integer(low: int, high: int | None, *, computed: bool = True) -> Check:
    """An integer in a range; where `computed`, JSONata may give it."""

    def check(report: Report, value: Json, place: Place, language: QueryLanguage) -> None:
        if computed and language is QueryLanguage.JSONATA and isinstance(value, str):
            query_rules.check_jsonata_text(report, value, place)
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
            query_rules.check_jsonata_text(report, value, place)
        elif type(value) is not int and type(value) is not float:
            report.error(place, "Expected value of type Number")
        elif not value >= low:
            report.error(place, f"Value must be at least {low:g}")
        elif high is not None and value > high:
            report.error(place, f"Value must be at most {high:g}")

    return check


def check_timestamp(report: Report, value: Json, place: Place, language: QueryLanguage) -> None:
    """An RFC 3339 timestamp with a capital T and a zone."""
    if language is QueryLanguage.JSONATA and is_jsonata(value):
        query_rules.check_jsonata_value(report, value, place, language)
    elif not isinstance(value, str):
        report.error(place, "Expected value of type String")
    elif parse_timestamp_ns(value) is None:
        report.error(
            place,
            "String does not match RFC3339 timestamp",
            hint="Write it as 2030-01-31T23:59:00Z or with an offset like +02:00.",
        )


def check_string_or_jsonata(report: Report, value: Json, place: Place, language: QueryLanguage) -> None:
    """A string; in JSONPath one that looks like a path was probably meant as one."""
    if not isinstance(value, str):
        report.error(place, "Expected value of type String")
    elif language is QueryLanguage.JSONPATH:
        if query_rules.LOOKS_LIKE_QUERY.match(value):
            report.warn(
                place,
                f"The value of the field '{place[1] if place else ''}' looks like a path",
                DiagnosticCode.NO_PATH,
                hint=f"Name the field '{place[1] if place else ''}Path' to have the value computed.",
            )
    else:
        query_rules.check_jsonata_value(report, value, place, language)


def check_error_names(report: Report, value: Json, place: Place, language: QueryLanguage) -> None:
    """A non-empty array of error names, States.ALL alone."""
    if not isinstance(value, list):
        report.error(place, "Expected value of type Array")
    elif not value:
        report.error(place, "Value cannot be empty")
    else:
        for index, name in enumerate(value):
            if not isinstance(name, str) and not left_open(report, name, (place, index)):
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
    Kind.TRUE: _expected("Boolean"),
    Kind.STATE_NAME: check_string,
    Kind.ERROR_NAMES: check_error_names,
    Kind.TEMPLATE: query_rules.check_template,
    Kind.OBJECT_TEMPLATE: query_rules.check_object_template,
    Kind.JSONATA_VALUE: query_rules.check_jsonata_value,
    Kind.JSONATA_OBJECT: query_rules.check_jsonata_object,
    Kind.CONDITION: query_rules.check_condition,
    Kind.ITEMS: query_rules.check_items,
    Kind.PATH_OR_NULL: query_rules.path_check(query_rules.path_fault, "a valid JSONPath", nullable=True),
    Kind.REFERENCE_PATH: query_rules.path_check(query_rules.reference_path_fault, "a Reference Path"),
    Kind.RESULT_PATH: query_rules.path_check(query_rules.result_path_fault, "a Reference Path", nullable=True),
    Kind.PATH_OR_INTRINSIC: query_rules.path_check(
        query_rules.text_query_fault, "a Reference Path or an intrinsic function call that gives a string"
    ),
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
