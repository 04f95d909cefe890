"""The comparison operators of filters, one table, with the dialect's ideas of equality ('2' equals 2) and order."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Final, TypeAlias, cast

from stepwell.engine.errors import InvalidQueryError
from stepwell.engine.jsontypes import Json, write_text
from stepwell.engine.query.jsonpath.effort import spend, spend_on
from stepwell.engine.query.values import is_number, json_equal, kind_of

_NUMBER_STARTS: Final = frozenset("+-. \t\r\n\f\v")
LONG_TEXT: Final = 1_024
"""Characters from which on looking at a text counts."""

Test: TypeAlias = Callable[[Json, Json], bool]


class _Undefined:
    __slots__ = ()

    def __repr__(self) -> str:
        return "UNDEFINED"


UNDEFINED: Final = cast(Json, _Undefined())
"""What an operand path that leads nowhere reads as."""


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


def _among(value: Json, items: Json) -> bool:
    if not isinstance(items, list):
        return False
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


def _contains(left: Json, right: Json) -> bool:
    if isinstance(left, str) and isinstance(right, str):
        if len(left) > LONG_TEXT:
            spend(len(left) >> 6)
        return right in left
    return _among(right, left)


def _all(left: Json, right: Json) -> bool:
    return isinstance(left, list) and isinstance(right, list) and all(_among(item, left) for item in right)


def _subset(left: Json, right: Json) -> bool:
    return isinstance(left, list) and isinstance(right, list) and all(_among(item, right) for item in left)


def _any_of(left: Json, right: Json) -> bool:
    return isinstance(left, list) and isinstance(right, list) and any(_among(item, right) for item in left)


def _none_of(left: Json, right: Json) -> bool:
    return isinstance(left, list) and isinstance(right, list) and not _any_of(left, right)


def _size(left: Json, right: Json) -> bool:
    return isinstance(left, str | list | dict) and is_number(right) and len(left) == right


def _empty(left: Json, right: Json) -> bool:
    return isinstance(left, str | list | dict) and isinstance(right, bool) and (not left) is right


_TESTS: Final[dict[str, Test]] = {
    "==": equal,
    "!=": lambda left, right: not equal(left, right),
    "===": lambda left, right: _same_type(left, right) and equal(left, right),
    "!==": lambda left, right: not (_same_type(left, right) and equal(left, right)),
    "<": _ordered(operator.lt),
    "<=": _ordered(operator.le),
    ">": _ordered(operator.gt),
    ">=": _ordered(operator.ge),
    "in": _among,
    "nin": lambda left, right: not _among(left, right),
    "contains": _contains,
    "all": _all,
    "subsetof": _subset,
    "anyof": _any_of,
    "noneof": _none_of,
    "size": _size,
    "empty": _empty,
}


def _comparison(test: Test) -> Callable[[Operand, Operand], Callable[[Json, Json], bool]]:
    def build(left: Operand, right: Operand) -> Callable[[Json, Json], bool]:
        if left.pattern is not None or right.pattern is not None:
            raise InvalidQueryError("A regular expression is compared with =~ only.")
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
        raise InvalidQueryError("=~ compares a value with a regular expression, as in @.name =~ /a.*/i.")
    read, matches = other.read, pattern

    def test(item: Json, root: Json) -> bool:
        value = read(item, root)
        if isinstance(value, list):
            return any(matches(_as_text(element)) for element in value)
        return matches(_as_text(value))

    return test


OPERATORS: Final[dict[str, Callable[[Operand, Operand], Callable[[Json, Json], bool]]]] = {
    **{name: _comparison(test) for name, test in _TESTS.items()},
    "=~": _regex,
}
"""By name, lower case. Jayway's `type` and `matches` need host objects and are not part of path text."""
