"""The comparison operators of Choice rules: one table, what each takes as operand, and what it compiles to.

A value of another type than the operator compares never matches, and is no error. It must not know And, Or, Not or
where a rule leads; `compile_condition` joins one Variable with one operator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypeAlias, cast

from stepwell.engine.errors import EffortError, InvalidQueryError, QueryError
from stepwell.engine.jsontypes import Json
from stepwell.engine.query.effort import spend_on_text
from stepwell.engine.query.failures import choice_value_missing
from stepwell.engine.query.jsonpath import JsonPath, compile_jsonpath
from stepwell.engine.query.scope import Expression, Scope
from stepwell.engine.query.timestamps import parse_timestamp_ns
from stepwell.engine.query.values import is_number

Comparison: TypeAlias = Callable[[Scope, Json], bool]
"""From the scope (for operands that are paths) and the Variable's value to whether the rule matches."""

Reader: TypeAlias = Callable[[Json], Any]
"""From a value to what can be compared, or None for a value of another type."""

# Characters that are looked through in the time of one step.
_MATCHED: Final = 64
_ENCODED: Final = 1_024


class _Missing:
    __slots__ = ()

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = cast(Json, _Missing())
"""Given to IsPresent, and to it alone, as the value of a Variable whose path leads nowhere."""


class OperandKind(StrEnum):
    """What the operand of an operator must be in the definition."""

    STRING = "string"
    NUMBER = "number"
    BOOLEAN = "boolean"
    TIMESTAMP = "timestamp"
    PATH = "path"


@dataclass(frozen=True, slots=True)
class Operator:
    """One row of the table. `build` makes the test from the operand, a literal or, for a path, its reader."""

    name: str
    operand: OperandKind
    build: Callable[[Json], Comparison]

    def check(self, operand: Json) -> str | None:
        """Why the operand cannot be used, or None."""
        return _CHECKS[self.operand](operand)


def _read_number(value: Json) -> Any:
    return value if is_number(value) else None


def _read_text(value: Json) -> Any:
    return value if isinstance(value, str) else None


def _read_boolean(value: Json) -> Any:
    return value if isinstance(value, bool) else None


def _read_timestamp(value: Json) -> Any:
    if not isinstance(value, str):
        return None
    spend_on_text(value, _MATCHED)
    return parse_timestamp_ns(value)


def _order_key(value: Json) -> Any:
    if not isinstance(value, str):
        return None
    spend_on_text(value, _ENCODED)
    # AWS orders strings by UTF-16 units, which Python's own order is not beyond the basic plane.
    return value.encode("utf-16-be", "surrogatepass")


_RELATIONS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "Equals": lambda left, right: bool(left == right),
    "LessThan": lambda left, right: bool(left < right),
    "GreaterThan": lambda left, right: bool(left > right),
    "LessThanEquals": lambda left, right: bool(left <= right),
    "GreaterThanEquals": lambda left, right: bool(left >= right),
}


def _literal_comparison(read: Reader, relation: Callable[[Any, Any], bool]) -> Callable[[Json], Comparison]:
    def build(operand: Json) -> Comparison:
        right = read(operand)

        def compare(scope: Scope, value: Json) -> bool:
            left = read(value)
            return left is not None and relation(left, right)

        return compare

    return build


def _path_comparison(read: Reader, relation: Callable[[Any, Any], bool]) -> Callable[[Json], Comparison]:
    def build(operand: Json) -> Comparison:
        read_operand = _choice_reader(compile_jsonpath(str(operand)))

        def compare(scope: Scope, value: Json) -> bool:
            right = read(read_operand(scope))
            left = read(value)
            return left is not None and right is not None and relation(left, right)

        return compare

    return build


def _type_test(test: Callable[[Json], bool]) -> Callable[[Json], Comparison]:
    return lambda operand: lambda scope, value: test(value) is operand


def _matches(operand: Json) -> Comparison:
    matches = compile_wildcards(str(operand))
    return lambda scope, value: isinstance(value, str) and matches(value)


def compile_wildcards(pattern: str) -> Callable[[str], bool]:
    r"""StringMatches: `*` stands for any characters, `\*` for an asterisk, `\\` for a backslash. Linear in the text."""
    pieces = _pieces(pattern)
    if len(pieces) == 1:
        whole = pieces[0]
        return lambda text: text == whole
    head, *middle, tail = pieces
    shortest = len(head) + len(tail)

    def matches(text: str) -> bool:
        spend_on_text(text, _MATCHED)
        if len(text) < shortest or not text.startswith(head) or not text.endswith(tail):
            return False
        position, end = len(head), len(text) - len(tail)
        for piece in middle:
            found = text.find(piece, position, end)
            if found < 0:
                return False
            position = found + len(piece)
        return True

    return matches


def _pieces(pattern: str) -> list[str]:
    pieces, position = [""], 0
    while position < len(pattern):
        char = pattern[position]
        if char == "\\" and pattern[position + 1 : position + 2] in ("*", "\\"):
            position += 1
            pieces[-1] += pattern[position]
        elif char == "*":
            pieces.append("")
        else:
            pieces[-1] += char
        position += 1
    return pieces


def _rows() -> Iterator[Operator]:
    ordered: tuple[tuple[str, OperandKind, Reader], ...] = (
        ("String", OperandKind.STRING, _order_key),
        ("Numeric", OperandKind.NUMBER, _read_number),
        ("Timestamp", OperandKind.TIMESTAMP, _read_timestamp),
    )
    for prefix, kind, read in ordered:
        for suffix, relation in _RELATIONS.items():
            reader = _read_text if prefix == "String" and suffix == "Equals" else read
            yield Operator(prefix + suffix, kind, _literal_comparison(reader, relation))
            yield Operator(prefix + suffix + "Path", OperandKind.PATH, _path_comparison(reader, relation))
    equals = _RELATIONS["Equals"]
    yield Operator("BooleanEquals", OperandKind.BOOLEAN, _literal_comparison(_read_boolean, equals))
    yield Operator("BooleanEqualsPath", OperandKind.PATH, _path_comparison(_read_boolean, equals))
    yield Operator("StringMatches", OperandKind.STRING, _matches)
    tests: dict[str, Callable[[Json], bool]] = {
        "IsNull": lambda value: value is None,
        "IsPresent": lambda value: value is not MISSING,
        "IsNumeric": is_number,
        "IsString": lambda value: isinstance(value, str),
        "IsBoolean": lambda value: isinstance(value, bool),
        "IsTimestamp": lambda value: _read_timestamp(value) is not None,
    }
    for name, test in tests.items():
        yield Operator(name, OperandKind.BOOLEAN, _type_test(test))


def _path_problem(operand: Json) -> str | None:
    if not isinstance(operand, str):
        return "must be a path"
    try:
        compile_jsonpath(operand)
    except InvalidQueryError as error:
        return f"must be a path: {error}"
    return None


_CHECKS: Final[dict[OperandKind, Callable[[Json], str | None]]] = {
    OperandKind.STRING: lambda value: None if isinstance(value, str) else "must be a string",
    OperandKind.NUMBER: lambda value: None if is_number(value) else "must be a number",
    OperandKind.BOOLEAN: lambda value: None if isinstance(value, bool) else "must be true or false",
    OperandKind.TIMESTAMP: lambda value: (
        None if _read_timestamp(value) is not None else "must be a timestamp such as 2026-01-02T03:04:05Z"
    ),
    OperandKind.PATH: _path_problem,
}

OPERATORS: Final[dict[str, Operator]] = {row.name: row for row in _rows()}
"""Every comparison operator of the States Language, by name."""

LIGHT: Final = frozenset(
    {"BooleanEquals", "IsBoolean", "IsNull", "IsNumeric", "IsPresent", "IsString", "StringEquals"}
    | {name for name in OPERATORS if name.startswith("Numeric") and not name.endswith("Path")}
)
"""The operators that look through no text, nor read another path."""


def compile_comparison(name: str, operand: Json) -> Comparison:
    """Compile one operator with its operand. Raises `InvalidQueryError` for an unknown name or an unfit operand."""
    operator = OPERATORS.get(name)
    if operator is None:
        raise InvalidQueryError(f"'{name}' is not a comparison operator.")
    problem = operator.check(operand)
    if problem is not None:
        raise InvalidQueryError(f"The value of '{name}' {problem}.")
    return operator.build(operand)


def compile_condition(variable: str, name: str, operand: Json) -> Callable[[Scope], bool]:
    """Compile `{"Variable": variable, name: operand}`.

    A Variable that leads nowhere is what IsPresent asks about; to every other operator it is `StatesError`
    States.Runtime with AWS's cause. What takes too long is `EffortError` to all of them.
    """
    path = compile_jsonpath(variable)
    compare = compile_comparison(name, operand)
    read = _presence_reader(path) if name == "IsPresent" else _choice_reader(path)
    return lambda scope: compare(scope, read(scope))


def _presence_reader(path: JsonPath) -> Expression:
    def read(scope: Scope) -> Json:
        try:
            return path.expression(scope)
        except EffortError:
            raise
        except QueryError:
            return MISSING

    return read


def _choice_reader(path: JsonPath) -> Expression:
    def read(scope: Scope) -> Json:
        try:
            return path.expression(scope)
        except EffortError:
            raise
        except QueryError:
            raise choice_value_missing(path.text) from None

    return read
