from __future__ import annotations

import fnmatch
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell.engine.errors import InvalidQueryError
from stepwell.engine.jsontypes import Json
from stepwell.engine.query.choice_operators import (
    OPERATORS,
    OperandKind,
    compile_comparison,
    compile_condition,
    compile_wildcards,
)
from stepwell.engine.query.scope import Scope
from stepwell.engine.states_errors import StatesError

T1, T2 = "2026-01-02T03:04:05Z", "2026-01-02T04:04:06+01:00"


def test_the_list_is_the_specifications() -> None:
    relations = ("Equals", "LessThan", "GreaterThan", "LessThanEquals", "GreaterThanEquals")
    ordered = {f"{kind}{relation}" for kind in ("String", "Numeric", "Timestamp") for relation in relations}
    compared = ordered | {"BooleanEquals"}
    tests = {"IsNull", "IsPresent", "IsNumeric", "IsString", "IsBoolean", "IsTimestamp"}
    assert set(OPERATORS) == compared | {f"{name}Path" for name in compared} | tests | {"StringMatches"}
    assert len(OPERATORS) == 39


def test_recorded_results(conformance_cases: Path) -> None:
    compared = 0
    for case in json.loads((conformance_cases / "asl" / "choice_operators.json").read_text()):
        for state in case["definition"]["States"].values():
            if state["Type"] != "Choice" or "Variable" not in state["Choices"][0]:
                continue
            rule = {key: value for key, value in state["Choices"][0].items() if key != "Next"}
            variable = rule.pop("Variable")
            ((name, operand),) = rule.items()
            result = compile_condition(variable, name, operand)(Scope(json.loads(case["input"])))
            assert result is (case["expected"]["output"]["TestResult.$"] == "ConditionTrue"), (rule, case["input"])
            compared += 1
    assert compared > 200


@pytest.mark.parametrize(
    ("name", "operand", "value", "expected"),
    (
        ("NumericEquals", 1, True, False),
        ("NumericEquals", 1, 1.0, True),
        ("NumericEquals", 2**70, 2**70, True),
        ("NumericLessThan", 0.5, False, False),
        ("BooleanEquals", True, 1, False),
        ("BooleanEquals", False, False, True),
        ("StringEquals", "1", 1, False),
        ("StringLessThan", "b", "a", True),
        ("StringLessThan", "\uffff", "\U0001f600", True),
        ("StringLessThanEquals", "a", "B", True),
        ("StringMatches", "log-*.txt", "log-1.txt", True),
        ("StringMatches", "*", 5, False),
        ("TimestampEquals", "2026-01-02T03:04:05.000000001Z", T1, False),
        ("TimestampLessThan", T2, T1, True),
        ("TimestampGreaterThanEquals", T1, "2026-01-02T03:04:05.000Z", True),
        ("TimestampEquals", T1, "2026-01-02 03:04:05Z", False),
        ("IsTimestamp", True, T2, True),
        ("IsTimestamp", True, "2026-01-02", False),
        ("IsTimestamp", False, "2026-01-02", True),
        ("IsNumeric", True, True, False),
        ("IsNull", False, 0, True),
        ("IsString", True, "", True),
        ("IsPresent", True, None, True),
        ("NumericEqualsPath", "$.limit", 3.0, True),
        ("NumericEqualsPath", "$$.Retries", 3, False),
        ("NumericEqualsPath", "$v", 5, True),
        ("NumericEqualsPath", "$.text", 3, False),
        ("BooleanEqualsPath", "$.limit", True, False),
        ("StringEqualsPath", "$.text", "x", True),
    ),
)
def test_comparisons(name: str, operand: Json, value: Json, expected: bool) -> None:
    scope = Scope({"limit": 3, "text": "x"}, variables={"v": 5}, context=lambda: {"Retries": 0})
    assert compile_comparison(name, operand)(scope, value) is expected


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_operands_are_checked(name: str) -> None:
    fit: dict[OperandKind, Json] = {
        OperandKind.STRING: "a",
        OperandKind.NUMBER: 1.5,
        OperandKind.BOOLEAN: False,
        OperandKind.TIMESTAMP: T1,
        OperandKind.PATH: "$.a",
    }
    kind = OPERATORS[name].operand
    compile_comparison(name, fit[kind])
    accepted = {OperandKind.STRING: {OperandKind.STRING, OperandKind.TIMESTAMP, OperandKind.PATH}}.get(kind, {kind})
    for other, value in fit.items():
        if other not in accepted:
            with pytest.raises(InvalidQueryError, match=f"'{name}' must be"):
                compile_comparison(name, value)
    with pytest.raises(InvalidQueryError):
        compile_comparison(name, None)


def test_unknown_operators_are_refused() -> None:
    with pytest.raises(InvalidQueryError, match="'StringLike' is not a comparison operator"):
        compile_comparison("StringLike", "a")


def test_absent_values() -> None:
    scope = Scope({"a": {}})
    assert compile_condition("$.a.b", "IsPresent", False)(scope) is True
    assert compile_condition("$.x.y", "IsPresent", True)(scope) is False
    assert compile_condition("$v", "IsPresent", True)(scope) is False
    for name, operand in (("IsNull", True), ("StringEquals", "a"), ("NumericEqualsPath", "$.a")):
        with pytest.raises(StatesError) as caught:
            compile_condition("$.a.b", name, operand)(scope)
        assert caught.value.error == "States.Runtime"
        assert caught.value.cause == (
            "Invalid path '$.a.b': The choice state's condition path references an invalid value."
        )
    with pytest.raises(StatesError, match=r"'\$\.nope'"):
        compile_condition("$.a", "StringEqualsPath", "$.nope")(scope)


@given(st.text(alphabet="ab*", max_size=8), st.text(alphabet="ab", max_size=10))
def test_wildcards_agree_with_fnmatch(pattern: str, text: str) -> None:
    assert compile_wildcards(pattern)(text) is fnmatch.fnmatchcase(text, pattern)


@given(st.text(alphabet="ab*\\", max_size=8))
def test_escaped_wildcards_match_themselves(text: str) -> None:
    escaped = text.replace("\\", "\\\\").replace("*", "\\*")
    assert compile_wildcards(escaped)(text)
    assert not compile_wildcards(escaped)(text + "a")


def test_wildcards_take_linear_time() -> None:
    assert not compile_wildcards("*a" * 50 + "b")("a" * 100_000)
