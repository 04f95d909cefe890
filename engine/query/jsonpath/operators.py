"""The comparison operators of filters, one table, with the dialect's ideas of equality ('2' equals 2) and order."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, Final, TypeAlias, cast

from stepwell.engine.errors import QueryError
from stepwell.engine.jsontypes import Json, write_text
from stepwell.engine.query.effort import LONG_TEXT, spend, spend_on
from stepwell.engine.query.values import is_number, json_equal, kind_of

_NUMBER_STARTS: Final = frozenset("+-. \t\r\n\f\v")

Test: TypeAlias = Callable[[Json, Json], bool]


class _Undefined:
    __slots__ = ()

    def __repr__(self) -> str:
        return "UNDEFINED"


UNDEFINED: Final = cast(Json, _Undefined())
"""What an operand path that leads nowhere reads as."""


class MismatchError(Exception):
    """An operand is of a kind that its operator cannot take: then the whole filter does not hold, whatever else it says. Never
    leaves this package."""


class Operand:
    """One side of a comparison: a constant, a pattern, or something to read from (item, document)."""

    __slots__ = ("constant", "is_constant", "pattern", "read")

    def __init__(
        self,
        *,
        constant: Json = None,
        read: Callable[[Json, Json], Json] | None = None,
        pattern: Callable[[str], bool] | None = None,
    ) -> None:
        self.constant = constant
        self.pattern = pattern
        self.is_constant = read is None and pattern is None
        self.read: Callable[[Json, Json], Json] = read if read is not None else lambda item, root: constant


def equal(left: Json, right: Json) -> bool:
    if left is UNDEFINED or right is UNDEFINED:
        return False
    if is_number(left) and isinstance(right, str):
        try:
            return float(right) == left
        except ValueError:
            return False
    if isinstance(left, str) and is_number(right):
        return left == write_text(right)
    if isinstance(left, list | dict) or (isinstance(left, str) and len(left) > LONG_TEXT):
        spend_on(left)
    return json_equal(left, right)


def _same_type(left: Json, right: Json) -> bool:
    return left is not UNDEFINED and right is not UNDEFINED and kind_of(left) == kind_of(right)


def _ordered(compare: Callable[[Any, Any], bool]) -> Test:
    def test(left: Json, right: Json) -> bool:
        kind = type(left)
        other = type(right)
        if kind is int or kind is float:
            return (other is int or other is float) and compare(left, right)
        return kind is str and other is str and compare(left, right)

    return test


def _among(value: Json, items: list[Json]) -> bool:
    spend(len(items) >> 3)  # a glance at each
    # Two short cuts, where Python's equality is the dialect's: it differs for 0, 1 and numbers written as text.
    if isinstance(value, str) and not _may_be_number(value):
        return value in items
    if is_number(value) and value not in (0, 1):
        if value in items:
            return True
        texts = [item for item in items if type(item) is str and _may_be_number(item)]
        spend(len(texts))
        return any(equal(value, text) for text in texts)
    spend(len(items) >> 1)
    return any(equal(value, item) for item in items)


def _may_be_number(text: str) -> bool:
    return text[:1].isdigit() or text[:1] in _NUMBER_STARTS


def _list(value: Json) -> list[Json] | None:
    """The list to look into; None for an object, in which nothing is found. Raises `MismatchError` for anything else."""
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        return None
    raise MismatchError


def _in(left: Json, right: Json) -> bool:
    items = _list(right)
    return items is not None and _among(left, items)


def _contains(left: Json, right: Json) -> bool:
    if isinstance(left, str) and isinstance(right, str):
        if len(left) > LONG_TEXT:
            spend(len(left) >> 6)
        return right in left
    return isinstance(left, list) and _among(right, left)


def _all(left: Json, right: Json) -> bool:
    raise MismatchError  # the dialect takes no list that can be written in a path


def _of_lists(test: Callable[[list[Json], list[Json]], bool]) -> Test:
    def of_lists(left: Json, right: Json) -> bool:
        items = _list(right)
        own = None if items is None else _list(left)
        return items is not None and own is not None and test(own, items)

    return of_lists


def _size(left: Json, right: Json) -> bool:
    if not is_number(right) or not math.isfinite(right) or not isinstance(left, str | list | dict):
        return False
    return (-1 if isinstance(left, dict) else len(left)) == int(right)


def _empty(left: Json, right: Json) -> bool:
    if isinstance(left, dict):
        raise QueryError("'empty' asks texts and lists whether they are empty, and cannot ask an object")
    if not isinstance(left, str | list):
        return False
    if not isinstance(right, bool):
        raise MismatchError
    return (not left) is right


_TESTS: Final[dict[str, Test]] = {
    "==": equal,
    "!=": lambda left, right: not equal(left, right),
    "===": lambda left, right: _same_type(left, right) and equal(left, right),
    "!==": lambda left, right: not (_same_type(left, right) and equal(left, right)),
    "<": _ordered(operator.lt),
    "<=": _ordered(operator.le),
    ">": _ordered(operator.gt),
    ">=": _ordered(operator.ge),
    "in": _in,
    "nin": lambda left, right: not _in(left, right),
    "contains": _contains,
    "all": _all,
    "subsetof": _of_lists(lambda own, items: all(_among(item, items) for item in own)),
    "anyof": _of_lists(lambda own, items: any(_among(item, items) for item in own)),
    "noneof": _of_lists(lambda own, items: not any(_among(item, items) for item in own)),
    "size": _size,
    "empty": _empty,
}


_EQUALITIES: Final = frozenset({"==", "!=", "===", "!=="})


def _comparison(name: str) -> Callable[[Operand, Operand], Callable[[Json, Json], bool]]:
    test = _TESTS[name]

    def build(left: Operand, right: Operand) -> Callable[[Json, Json], bool]:
        written = left.is_constant and isinstance(left.constant, list | dict)
        if left.pattern is not None or right.pattern is not None or (written and name in _EQUALITIES):
            # A regular expression equals nothing, nor does a list or an object that is written on the left.
            differs = name in ("!=", "!==")
            return lambda item, root: differs
        read = left.read
        if right.is_constant:
            constant = right.constant
            return lambda item, root: test(read(item, root), constant)
        other = right.read
        return lambda item, root: test(read(item, root), other(item, root))

    return build


def _as_text(value: Json) -> str:
    if isinstance(value, str):
        return value
    return write_text(value) if isinstance(value, int | float) else ""


def _regex(left: Operand, right: Operand) -> Callable[[Json, Json], bool]:
    pattern, other = (right.pattern, left) if right.pattern is not None else (left.pattern, right)
    if pattern is None or other.pattern is not None:
        return lambda item, root: False
    read, matches = other.read, pattern

    def test(item: Json, root: Json) -> bool:
        value = read(item, root)
        if isinstance(value, list):
            return any(matches(_as_text(element)) for element in value)
        return matches(_as_text(value))

    return test


OPERATORS: Final[dict[str, Callable[[Operand, Operand], Callable[[Json, Json], bool]]]] = {
    **{name: _comparison(name) for name in _TESTS},
    "=~": _regex,
}
"""By name, lower case. Jayway's `type` and `matches` need host objects and are not part of path text."""
