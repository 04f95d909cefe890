"""What JSON values are to a query: their kinds and their equality, told apart from Python's.

Python holds that `True == 1`; JSON does not. Everything in `query` that compares values goes through here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final, TypeGuard

from stepwell.engine.jsontypes import Json

_SCALARS: Final = frozenset({int, float, bool, type(None)})
_OFTEN: Final = 4_096


def is_number(value: object) -> TypeGuard[int | float]:
    """A JSON number: int or float, never a bool."""
    kind = type(value)
    return kind is int or kind is float


def is_integer(value: object) -> TypeGuard[int | float]:
    """A number without a fraction, 3 and 3.0 alike."""
    return type(value) is int or (type(value) is float and value.is_integer())


def kind_of(value: Json) -> str:
    """The name JSON gives the value's type: object, array, string, number, boolean or null."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "string"
    if isinstance(value, int | float):
        return "number"
    return "object" if isinstance(value, dict) else "array"


def json_equal(left: Json, right: Json) -> bool:
    """Deep equality of JSON values: 1 equals 1.0, true equals neither 1 nor "true", objects ignore the order of keys."""
    if isinstance(left, dict):
        return (
            isinstance(right, dict)
            and left.keys() == right.keys()
            and all(json_equal(value, right[key]) for key, value in left.items())
        )
    if isinstance(left, list):
        return (
            isinstance(right, list)
            and len(left) == len(right)
            and all(json_equal(a, b) for a, b in zip(left, right, strict=True))
        )
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    return left == right


def larger_than(value: Json, most: int, spend: Callable[[int], None]) -> bool:
    """Whether the text of a value surely has more than `most` bytes. Stops as soon as it has; the value may be far larger.
    `spend` is told, now and then, how many parts have been looked at."""
    stack = [value]
    looked = 0
    while stack:
        each = stack.pop()
        if isinstance(each, str):
            most -= len(each) + 2
        elif isinstance(each, dict | list):
            most -= 2 + len(each)
            if isinstance(each, dict):
                most -= 3 * len(each) + sum(map(len, each))
                members: Collection[Json] = each.values()
            else:
                members = each
            looked += len(each) >> 4
            if most >= 0 and not _SCALARS.issuperset(map(type, members)):
                looked += len(each)
                stack.extend(members)
            if looked > _OFTEN:
                spend(looked)
                looked = 0
        if most < 0:
            return True
    return False


def frozen(value: Json) -> object:
    """A hashable stand-in for the value: two are equal exactly when `json_equal` says so of their values."""
    if isinstance(value, dict):
        return ("object", frozenset((key, frozen(item)) for key, item in value.items()))
    if isinstance(value, list):
        return ("array", tuple(frozen(item) for item in value))
    return ("boolean", value) if isinstance(value, bool) else ("scalar", value)
