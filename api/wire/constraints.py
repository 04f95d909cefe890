"""Constraints of the API model and how AWS says that a request breaks them.

A request is checked against a table of members (`members`), transcribed from the API model; the frame of the message is
that of AWS's request validation. It must not know what an operation does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

from stepwell.engine.jsontypes import Json, write_text
from stepwell.engine.service import refusals
from stepwell.engine.service.refusals import ErrorCode, ServiceError

T = TypeVar("T")

_SHOWN_CHARS: Final = 4_096
"""AWS repeats the whole offending value; longer ones are cut here."""


@dataclass(frozen=True, slots=True)
class Text:
    """A string. `pattern` is shown as it is written in the model."""

    low: int = 0
    high: int | None = None
    pattern: str | None = None


@dataclass(frozen=True, slots=True)
class Number:
    """An integer; with `fraction` any number."""

    low: int | None = None
    high: int | None = None
    fraction: bool = False
    """Whether it may have a fraction."""


@dataclass(frozen=True, slots=True)
class Flag:
    """A boolean."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a set of strings, in the order AWS names them."""

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list."""

    item: Shape
    low: int = 0
    high: int | None = None


@dataclass(frozen=True, slots=True)
class Structure:
    """An object."""

    members: Mapping[str, Shape]
    required: tuple[str, ...] = ()


Shape: TypeAlias = Text | Number | Flag | Choice | ListOf | Structure


def structure(required: str = "", **members: Shape) -> Structure:
    """A structure; `required` names members, separated by spaces."""
    return Structure(members, tuple(required.split()))


def check(shape: Structure, request: Mapping[str, Json]) -> None:
    """Raise ValidationException with every constraint a request breaks, or SerializationException for a wrong type."""
    breaches: list[str] = []
    _check_structure(shape, request, "", breaches)
    if breaches:
        raise refusals.constraints_broken(breaches)


def _check_structure(shape: Structure, value: Mapping[str, Json], path: str, breaches: list[str]) -> None:
    breaches.extend(
        refusals.constraint(path + name, "null", "not be null") for name in shape.required if value.get(name) is None
    )
    members = shape.members
    for name, member in value.items():
        if member is not None and name in members:
            _check_value(members[name], member, path + name, breaches)


def _check_value(shape: Shape, value: Json, path: str, breaches: list[str]) -> None:
    match shape:
        case Text():
            _check_text(shape, _typed(value, str, "String"), path, breaches)
        case Number():
            if shape.fraction and isinstance(value, float):
                _check_number(shape, value, path, breaches)
            else:
                _check_number(shape, _typed(value, int, "Float" if shape.fraction else "Integer"), path, breaches)
        case Flag():
            _typed(value, bool, "Boolean")
        case Choice():
            if _typed(value, str, "String") not in shape.values:
                rule = f"satisfy enum value set: [{', '.join(shape.values)}]"
                breaches.append(refusals.constraint(path, _shown(str(value)), rule))
        case ListOf():
            items = _typed(value, list, "List")
            _check_length(shape.low, shape.high, len(items), write_text(items), path, breaches)
            for index, item in enumerate(items, 1):
                if item is not None:
                    _check_value(shape.item, item, f"{path}.{index}.member", breaches)
        case Structure():
            _check_structure(shape, _typed(value, dict, "Structure"), f"{path}.", breaches)


def _typed(value: Json, wanted: type[T], name: str) -> T:
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        raise _wrong_type(value, name)
    return value


def _check_number(shape: Number, value: float, path: str, breaches: list[str]) -> None:
    if shape.low is not None and value < shape.low:
        breaches.append(refusals.constraint(path, f"'{value}'", f"have value greater than or equal to {shape.low}"))
    if shape.high is not None and value > shape.high:
        breaches.append(refusals.constraint(path, f"'{value}'", f"have value less than or equal to {shape.high}"))


def _check_text(shape: Text, value: str, path: str, breaches: list[str]) -> None:
    _check_length(shape.low, shape.high, len(value), value, path, breaches)
    if shape.pattern is not None and not re.fullmatch(shape.pattern.replace(r"\p{ASCII}", r"[\x00-\x7f]"), value):
        rule = f"satisfy regular expression pattern: {shape.pattern}"
        breaches.append(refusals.constraint(path, _shown(value), rule))


def _check_length(low: int, high: int | None, length: int, shown: str, path: str, breaches: list[str]) -> None:
    if length < low:
        rule = f"have length greater than or equal to {low}"
        breaches.append(refusals.constraint(path, _shown(shown), rule))
    if high is not None and length > high:
        breaches.append(refusals.constraint(path, _shown(shown), f"have length less than or equal to {high}"))


def _shown(value: str) -> str:
    return f"'{value}'" if len(value) <= _SHOWN_CHARS else f"'{value[:_SHOWN_CHARS]}...'"


def _wrong_type(value: Json, wanted: str) -> ServiceError:
    match value:
        case bool():
            found = "TRUE_VALUE" if value else "FALSE_VALUE"
        case str():
            found = "STRING_VALUE"
        case int() | float():
            found = "NUMBER_VALUE"
        case dict():
            found = "START_OBJECT"
        case _:
            found = "START_ARRAY"
    return ServiceError(ErrorCode.SERIALIZATION, f"{found} can not be converted to a {wanted}")
