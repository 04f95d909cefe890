"""The canonical form of a definition: fields in one order, two spaces of indentation. The meaning is the same, by construction.

Only fields of the language are put in order. States stay in the order they are in, and so does all user data: names in templates,
Assign, Result, Arguments. It must not know whether a definition is valid.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from enum import Enum, auto
from typing import Final, TypeVar

from stepwell.engine.asl.placeholders import UNQUOTED
from stepwell.engine.jsontypes import Json
from stepwell.engine.query.choice_operators import OPERATORS

WIDTH: Final = 100
"""An array of plain values is written on one line if it ends before this column."""
INDENT: Final = 2

_T = TypeVar("_T")


class Role(Enum):
    """What an object of a definition is, which decides the order of its fields."""

    CONTAINER = auto()
    """A machine, branch or item processor."""
    STATES = auto()
    STATE = auto()
    RETRIER = auto()
    CATCHER = auto()
    RULE = auto()
    PROCESSOR_CONFIG = auto()
    ITEM_READER = auto()
    READER_CONFIG = auto()
    ITEM_BATCHER = auto()
    RESULT_WRITER = auto()
    WRITER_CONFIG = auto()
    DATA = auto()
    """User data, left as it is."""


ORDER: Final[Mapping[Role, tuple[str, ...]]] = {
    Role.CONTAINER: (
        "Comment", "Version", "QueryLanguage", "ProcessorConfig", "TimeoutSeconds", "StartAt", "States",
    ),
    Role.STATE: (
        "Type", "Comment", "QueryLanguage",
        "InputPath", "ItemReader", "Items", "ItemsPath", "ItemSelector", "ItemBatcher",
        "Resource", "Parameters", "Arguments", "Credentials",
        "Result", "Seconds", "SecondsPath", "Timestamp", "TimestampPath",
        "TimeoutSeconds", "TimeoutSecondsPath", "HeartbeatSeconds", "HeartbeatSecondsPath",
        "Label", "MaxConcurrency", "MaxConcurrencyPath",
        "ToleratedFailureCount", "ToleratedFailureCountPath",
        "ToleratedFailurePercentage", "ToleratedFailurePercentagePath",
        "Branches", "ItemProcessor", "Iterator", "ResultWriter",
        "Error", "ErrorPath", "Cause", "CausePath",
        "ResultSelector", "ResultPath", "Assign", "Output", "OutputPath",
        "Retry", "Catch", "Choices", "Default", "Next", "End",
    ),
    Role.RETRIER: (
        "Comment", "ErrorEquals", "IntervalSeconds", "MaxAttempts", "BackoffRate", "MaxDelaySeconds", "JitterStrategy",
    ),
    Role.CATCHER: ("Comment", "ErrorEquals", "ResultPath", "Assign", "Output", "Next"),
    Role.RULE: ("Comment", "And", "Or", "Not", "Variable", *OPERATORS, "Condition", "Assign", "Output", "Next"),
    Role.PROCESSOR_CONFIG: ("Mode", "ExecutionType"),
    Role.ITEM_READER: ("Resource", "ReaderConfig", "Parameters", "Arguments"),
    Role.READER_CONFIG: (
        "InputType", "Transformation", "ItemsPointer", "CSVHeaderLocation", "CSVHeaders", "CSVDelimiter", "ManifestType",
        "MaxItems", "MaxItemsPath",
    ),
    Role.ITEM_BATCHER: (
        "MaxItemsPerBatch", "MaxItemsPerBatchPath", "MaxInputBytesPerBatch", "MaxInputBytesPerBatchPath", "BatchInput",
    ),
    Role.RESULT_WRITER: ("Resource", "WriterConfig", "Parameters", "Arguments"),
    Role.WRITER_CONFIG: ("OutputType", "Transformation"),
}  # fmt: skip
"""The order of fields. Fields it does not know come before those that say where a state leads."""

_RANKS: Final = {role: {name: rank for rank, name in enumerate(names)} for role, names in ORDER.items()}
_LAST: Final = frozenset({"Default", "Next", "End", "States"})
_INSIDE: Final[Mapping[tuple[Role, str], Role]] = {
    (Role.CONTAINER, "States"): Role.STATES,
    (Role.CONTAINER, "ProcessorConfig"): Role.PROCESSOR_CONFIG,
    (Role.STATE, "Branches"): Role.CONTAINER,
    (Role.STATE, "ItemProcessor"): Role.CONTAINER,
    (Role.STATE, "Iterator"): Role.CONTAINER,
    (Role.STATE, "Retry"): Role.RETRIER,
    (Role.STATE, "Catch"): Role.CATCHER,
    (Role.STATE, "Choices"): Role.RULE,
    (Role.STATE, "ItemReader"): Role.ITEM_READER,
    (Role.STATE, "ItemBatcher"): Role.ITEM_BATCHER,
    (Role.STATE, "ResultWriter"): Role.RESULT_WRITER,
    (Role.RULE, "And"): Role.RULE,
    (Role.RULE, "Or"): Role.RULE,
    (Role.RULE, "Not"): Role.RULE,
    (Role.ITEM_READER, "ReaderConfig"): Role.READER_CONFIG,
    (Role.RESULT_WRITER, "WriterConfig"): Role.WRITER_CONFIG,
}
"""What the value of a field is; the items of an array are what the array is."""


def role_inside(role: Role, name: str) -> Role:
    """What the value of a field is, in an object of a role."""
    return Role.STATE if role is Role.STATES else _INSIDE.get((role, name), Role.DATA)


def in_order(items: Iterable[_T], role: Role, name_of: Callable[[_T], str]) -> list[_T]:
    """The members of an object in canonical order; those that are alike stay as they are."""
    ranks = _RANKS.get(role)
    if ranks is None:
        return list(items)
    unknown = min((rank for name, rank in ranks.items() if name in _LAST), default=len(ranks)) - 0.5
    return sorted(items, key=lambda item: ranks.get(name_of(item), unknown))


def canonical_json(definition: Json) -> str:
    """The canonical text of a definition's value, with a line end."""
    parts: list[str] = []
    _write(parts, definition, Role.CONTAINER, 0, 0)
    return "".join(parts) + "\n"


def _write(parts: list[str], value: Json, role: Role, depth: int, column: int) -> None:
    if isinstance(value, dict) and value:
        indent = " " * (INDENT * (depth + 1))
        separator = "{\n"
        for name, item in in_order(value.items(), role, lambda member: member[0]):
            key = f"{indent}{_text(name)}: "
            parts.append(f"{separator}{key}")
            _write(parts, item, role_inside(role, name), depth + 1, len(key))
            separator = ",\n"
        parts.append(f"\n{indent[INDENT:]}}}")
    elif isinstance(value, list) and value:
        line = None if any(isinstance(item, dict | list) for item in value) else f"[{', '.join(map(_scalar, value))}]"
        if line is not None and column + len(line) < WIDTH:
            parts.append(line)
            return
        indent = " " * (INDENT * (depth + 1))
        separator = "[\n"
        for item in value:
            parts.append(f"{separator}{indent}")
            _write(parts, item, role, depth + 1, len(indent))
            separator = ",\n"
        parts.append(f"\n{indent[INDENT:]}]")
    else:
        parts.append(_scalar(value))


def _scalar(value: Json) -> str:
    if isinstance(value, str):
        return f"${{{value[1:]}}}" if UNQUOTED.fullmatch(value) else _text(value)
    return json.dumps(value)


def _text(text: str) -> str:
    """A JSON string; characters that nobody sees are escaped."""
    written = json.dumps(text, ensure_ascii=False)
    if written.isprintable():
        return written
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in written)
