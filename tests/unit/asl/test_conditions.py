from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell.engine.asl.conditions import check_rule
from stepwell.engine.asl.report import Report
from stepwell.engine.query.choice_operators import OPERATORS, OperandKind
from stepwell.engine.query.choice_rules import compile_rule
from stepwell.engine.query.scope import Scope
from stepwell.engine.states_errors import ErrorName, StatesError
from tests.unit.asl.definitions import body, errors, jsonata, machine, texts

OPERANDS: dict[OperandKind, tuple[Any, Any]] = {
    OperandKind.STRING: ("x", 1),
    OperandKind.NUMBER: (1.5, "1"),
    OperandKind.BOOLEAN: (True, "true"),
    OperandKind.TIMESTAMP: ("2030-01-01T00:00:00Z", "tomorrow"),
    OperandKind.PATH: ("$.other", "other"),
}
"""A right and a wrong operand of each kind."""

NULL = {"Variable": "$.a", "IsNull": True}


def faults(rule: Any, *, top: bool = False) -> list[str]:
    report = Report()
    check_rule(report, rule, None, top=top)
    return [finding.message for finding in report.findings]


@pytest.mark.parametrize(
    ("name", "hint"),
    (
        ("NumericEquls", "Did you mean 'NumericEquals'?"),
        ("numericEquals", "Field names are case-sensitive: write 'NumericEquals'."),
        ("Varaible", "Did you mean 'Variable'?"),
        ("Whatever", None),
    ),
)
def test_the_field_that_was_meant_is_guessed(name: str, hint: str | None) -> None:
    report = Report()
    check_rule(report, {"Variable": "$.a", "IsNull": True, name: 1}, None, top=False)
    (found,) = report.findings
    assert (found.message, found.hint) == (f"Field '{name}' is not supported", hint)


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_with_a_right_and_a_wrong_operand(name: str) -> None:
    right, wrong = OPERANDS[OPERATORS[name].operand]
    assert faults({"Variable": "$.a", name: right}) == []
    (message,) = faults({"Variable": "$.a", name: wrong})
    assert f"'{name}'" in message
    assert len(faults({"Variable": "$.a", name: None})) == 1


@pytest.mark.parametrize(
    ("rule", "message"),
    (
        ({"Variable": "$.a"}, "exactly one comparison operator"),
        ({"Variable": "$.a", "IsNull": True, "IsString": True}, "exactly one comparison operator"),
        ({"And": [NULL], "Or": [NULL]}, "found: And, Or"),
        ({"IsNull": True}, "The field 'Variable' is required but was missing"),
        ({"Variable": "States.UUID()", "IsNull": True}, "not a valid JSONPath"),
        ({"Variable": 1, "IsNull": True}, "Expected value of type String"),
        ({"And": []}, "Value cannot be empty"),
        ({"And": {}}, "Expected value of type Array"),
        ({"Not": []}, "Expected value of type Object"),
        ({"Or": [1]}, "Expected value of type Object"),
        ({"Not": {**NULL, "Next": "X"}}, "Field 'Next' is not supported"),
        ({"And": [{**NULL, "Assign": {}}]}, "Field 'Assign' is not supported"),
        ({**NULL, "Wrong": 1}, "Field 'Wrong' is not supported"),
        ({"Not": NULL, "Variable": "$.a"}, "Field 'Variable' is not supported"),
        ({**NULL, "Condition": True}, "only supported for the 'JSONata' QueryLanguage"),
        ({**NULL, "Comment": 1}, "Expected value of type String"),
    ),
)
def test_rules_with_a_fault(rule: Any, message: str) -> None:
    (found,) = faults(rule)
    assert message in found


def test_rules_without_fault() -> None:
    deep = {"And": [{"Or": [NULL, {"Not": NULL}]}, {"Not": {"And": [NULL]}}], "Comment": "c"}
    assert faults(deep) == []
    assert faults({**deep, "Next": "X", "Assign": {"v.$": "$.a"}}, top=True) == []
    assert faults(deep, top=True) == ["The field 'Next' is required but was missing"]


def test_the_place_of_a_fault_deep_in_a_rule() -> None:
    rule = {"And": [NULL, {"Not": {"Variable": "$.a", "IsNull": "x"}}], "Next": "End"}
    (found,) = errors(machine(body("Choice", Choices=[rule])))
    assert found.location == "/States/X/Choices[0]/And[1]/Not/IsNull"


@pytest.mark.parametrize(
    ("rule", "count"),
    (
        ({"Condition": "{% true %}", "Next": "End"}, 0),
        ({"Condition": True, "Next": "End", "Output": "{% 1 %}", "Assign": {"a": 1}, "Comment": "c"}, 0),
        ({"Condition": "true", "Next": "End"}, 1),
        ({"Condition": 1, "Next": "End"}, 1),
        ({"Condition": True}, 1),
        ({"Condition": True, "Next": "End", "Wrong": 1}, 1),
    ),
)
def test_rules_in_jsonata(rule: Any, count: int) -> None:
    definition = jsonata(body("Choice", Choices=[rule]))
    definition["States"]["End"] = {"Type": "Succeed"}
    assert len(texts(definition)) == count


def truth(rule: Any, document: Any) -> bool:
    return compile_rule(rule)(Scope(document))


LEAVES = st.sampled_from(("$.t", "$.f")).map(lambda path: {"Variable": path, "BooleanEquals": True})
RULES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda rules: {"And": rules}),
        st.lists(inner, min_size=1, max_size=3).map(lambda rules: {"Or": rules}),
        inner.map(lambda rule: {"Not": rule}),
    ),
    max_leaves=10,
)


def reference(rule: dict[str, Any]) -> bool:
    if "And" in rule:
        return all(reference(inner) for inner in rule["And"])
    if "Or" in rule:
        return any(reference(inner) for inner in rule["Or"])
    return not reference(rule["Not"]) if "Not" in rule else bool(rule["Variable"] == "$.t")


@given(RULES)
def test_combinations_are_those_of_logic(rule: dict[str, Any]) -> None:
    assert faults(rule) == []
    assert truth(rule, {"t": True, "f": False}) is reference(rule)


def test_what_decides_the_rule_ends_its_evaluation() -> None:
    missing = {"Variable": "$.missing", "IsNull": True}
    true = {"Variable": "$.t", "BooleanEquals": True}
    assert truth({"Or": [true, missing]}, {"t": True}) is True
    assert truth({"And": [{"Not": true}, missing]}, {"t": True}) is False


def test_a_missing_variable_fails_as_recorded() -> None:
    with pytest.raises(StatesError) as caught:
        truth({"Variable": "$.missing", "IsNull": True}, {})
    assert caught.value.error == ErrorName.RUNTIME
    assert caught.value.cause == (
        "Invalid path '$.missing': The choice state's condition path references an invalid value."
    )
    assert truth({"Variable": "$.missing", "IsPresent": False}, {}) is True
