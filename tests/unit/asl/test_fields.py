from __future__ import annotations

from typing import Any

import pytest

from stepwell.engine.asl import fields, rules, validate
from stepwell.engine.asl.fields import STATE_FIELDS, FieldSet, Kind
from stepwell.engine.asl.parse import _STATE_BUILDERS
from stepwell.engine.asl.states import STATE_CLASSES, QueryLanguage, StateType
from tests.unit.asl.definitions import BODIES, body, errors, jsonata, machine, texts

PATH = QueryLanguage.JSONPATH
ATA = QueryLanguage.JSONATA

SPECIFIED = {
    "InputPath": "Pass Task Choice Wait Succeed Parallel Map",
    "OutputPath": "Pass Task Choice Wait Succeed Parallel Map",
    "ResultPath": "Pass Task Parallel Map",
    "Parameters": "Pass Task Parallel Map",
    "ResultSelector": "Task Parallel Map",
    "Retry": "Task Parallel Map",
    "Catch": "Task Parallel Map",
    "Assign": "Pass Task Choice Wait Parallel Map",
    "Output": "Pass Task Choice Wait Succeed Parallel Map",
    "Arguments": "Task Parallel",
    "Next": "Pass Task Wait Parallel Map",
    "End": "Pass Task Wait Parallel Map",
    "Comment": "Pass Task Choice Wait Succeed Fail Parallel Map",
    "QueryLanguage": "Pass Task Choice Wait Succeed Fail Parallel Map",
}
"""The table of the specification (section "State types", the fields' availability) and of the AWS guide."""


def all_field_sets() -> list[FieldSet]:
    named = [value for value in vars(fields).values() if isinstance(value, FieldSet)]
    return [*named, *STATE_FIELDS.values()]


def test_every_state_type_has_a_table_a_class_and_a_builder() -> None:
    assert set(STATE_FIELDS) == set(STATE_CLASSES) == set(_STATE_BUILDERS) == set(StateType)
    assert set(fields.CHOSEN_VALUES[Kind.STATE_TYPE]) == {member.value for member in StateType} == set(BODIES)


def test_every_kind_has_exactly_one_check() -> None:
    assert not set(rules.VALUE_CHECKS) & set(validate._CONTAINER_CHECKS) - {Kind.LABEL}
    assert set(rules.VALUE_CHECKS) | set(validate._CONTAINER_CHECKS) == set(Kind)


def test_every_kind_is_used() -> None:
    used = {
        kind
        for table in all_field_sets()
        for field in table.fields.values()
        for kind in (field.jsonpath, field.jsonata)
    }
    assert set(Kind) - used == set()


def test_groups_name_fields_of_their_own_table() -> None:
    for table in all_field_sets():
        for group in (*table.exclusive, *table.one_of):
            assert set(group) <= set(table.fields)


@pytest.mark.parametrize("field", SPECIFIED)
def test_a_field_stands_in_the_state_types_the_specification_gives_it(field: str) -> None:
    holders = {state_type.value for state_type, table in STATE_FIELDS.items() if field in table.fields}
    assert holders == set(SPECIFIED[field].split())


@pytest.mark.parametrize("type_name", BODIES)
def test_the_least_of_each_state_type_is_valid(type_name: str) -> None:
    assert texts(machine(body(type_name))) == []


@pytest.mark.parametrize("type_name", BODIES)
def test_an_unknown_field_is_not_supported(type_name: str) -> None:
    assert texts(machine(body(type_name, Wrong=1))) == [
        "SCHEMA_VALIDATION_FAILED: Field 'Wrong' is not supported at /States/X"
    ]


def test_a_field_in_the_wrong_case_gets_a_hint() -> None:
    (finding,) = errors(machine(body("Task", timeoutSeconds=1)))
    assert finding.hint is not None and "'TimeoutSeconds'" in finding.hint


@pytest.mark.parametrize(
    ("type_name", "missing"),
    (("Task", "Resource"), ("Choice", "Choices"), ("Parallel", "Branches"), ("Pass", "Type")),
)
def test_a_required_field_that_is_missing(type_name: str, missing: str) -> None:
    found = texts(machine(body(type_name, **{missing: ...})))
    assert f"SCHEMA_VALIDATION_FAILED: The field '{missing}' is required but was missing at /States/X" in found


@pytest.mark.parametrize(
    ("definition", "message"),
    (
        ({}, "[States, StartAt]"),
        ({"StartAt": "A"}, "[States]"),
        ({"States": {"A": {"Type": "Succeed"}}}, "[StartAt]"),
    ),
)
def test_a_machine_without_its_required_fields(definition: dict[str, Any], message: str) -> None:
    assert texts(definition) == [f"SCHEMA_VALIDATION_FAILED: These fields are required: {message} at /"]


@pytest.mark.parametrize(
    ("type_name", "fields"),
    (
        ("Task", {"TimeoutSeconds": 1, "TimeoutSecondsPath": "$.t"}),
        ("Task", {"HeartbeatSeconds": 1, "HeartbeatSecondsPath": "$.t"}),
        ("Fail", {"Error": "e", "ErrorPath": "$.e"}),
        ("Fail", {"Cause": "c", "CausePath": "$.c"}),
        ("Wait", {"Timestamp": "2030-01-01T00:00:00Z"}),
        ("Map", {"ItemSelector": {}, "Parameters": {}}),
        ("Map", {"MaxConcurrency": 1, "MaxConcurrencyPath": "$.c"}),
        ("Map", {"ToleratedFailureCount": 1, "ToleratedFailureCountPath": "$.c"}),
        ("Map", {"ToleratedFailurePercentage": 1, "ToleratedFailurePercentagePath": "$.c"}),
        ("Map", {"Iterator": BODIES["Map"]["ItemProcessor"]}),
        ("Pass", {"Next": "X"}),
    ),
)
def test_fields_that_exclude_each_other(type_name: str, fields: dict[str, Any]) -> None:
    assert any("Only one of these fields is allowed" in text for text in texts(machine(body(type_name, **fields))))


@pytest.mark.parametrize(
    ("type_name", "fields"),
    (
        ("Task", {"TimeoutSecondsPath": "$.t", "HeartbeatSeconds": 3}),
        ("Fail", {"ErrorPath": "$.e", "Cause": "c"}),
        ("Fail", {"Error": "e", "CausePath": "States.Format('{}', $.c)"}),
        ("Wait", {"Seconds": ..., "Timestamp": "2030-01-01T00:00:00Z"}),
        ("Wait", {"Seconds": ..., "TimestampPath": "$.t"}),
        ("Map", {"Parameters": {"a.$": "$$.Map.Item.Value"}, "MaxConcurrencyPath": "$.c"}),
        ("Map", {"ItemSelector": {}, "ToleratedFailureCountPath": "$.c", "ToleratedFailurePercentagePath": "$.p"}),
        ("Map", {"ItemProcessor": ..., "Iterator": BODIES["Map"]["ItemProcessor"]}),
    ),
)
def test_fields_that_exclude_each_other_stand_alone(type_name: str, fields: dict[str, Any]) -> None:
    assert texts(machine(body(type_name, **fields))) == []


@pytest.mark.parametrize("type_name", ("Pass", "Task", "Wait", "Parallel", "Map"))
def test_a_state_leads_on_or_ends(type_name: str) -> None:
    assert any("[Next, End]" in text for text in texts(machine(body(type_name, End=...))))
    assert any("[Next, End]" in text for text in texts(machine(body(type_name, End=False))))


def test_a_false_end_beside_next_is_no_end() -> None:
    definition = {"StartAt": "A", "States": {"A": body("Pass", End=False, Next="B"), "B": {"Type": "Succeed"}}}
    assert texts(definition) == []


@pytest.mark.parametrize(
    ("type_name", "field", "value"),
    (
        ("Pass", "Output", "{% 1 %}"),
        ("Task", "Arguments", {}),
        ("Map", "Items", [1]),
    ),
)
def test_fields_of_jsonata_alone(type_name: str, field: str, value: object) -> None:
    assert texts(machine(body(type_name, **{field: value}))) == [
        (
            f"SCHEMA_VALIDATION_FAILED: The QueryLanguage is set to 'JSONPath', but field '{field}' is only supported for "
            "the 'JSONata' QueryLanguage at /States/X"
        )
    ]
    assert texts(jsonata(body(type_name, **{field: value}))) == []


@pytest.mark.parametrize(
    ("type_name", "field", "value"),
    (
        ("Pass", "Result", 1),
        ("Pass", "InputPath", "$"),
        ("Task", "Parameters", {}),
        ("Task", "ResultPath", None),
        ("Task", "TimeoutSecondsPath", "$.t"),
        ("Map", "ItemsPath", "$.i"),
    ),
)
def test_fields_of_jsonpath_alone(type_name: str, field: str, value: object) -> None:
    assert texts(machine(body(type_name, **{field: value}))) == []
    (text,) = texts(jsonata(body(type_name, **{field: value})))
    assert f"set to 'JSONata', but field '{field}' is only supported for the 'JSONPath'" in text


def test_a_machine_in_jsonata_has_no_jsonpath_state() -> None:
    assert texts(jsonata(body("Pass", QueryLanguage="JSONPath"))) == [
        (
            "SCHEMA_VALIDATION_FAILED: 'QueryLanguage' can not be 'JSONPath' if set to 'JSONata' for whole state machine "
            "at /States/X"
        )
    ]


def test_the_states_of_a_jsonata_map_speak_the_machines_language() -> None:
    inner = {"StartAt": "I", "States": {"I": {"Type": "Pass", "InputPath": "$.a", "End": True}}}
    assert texts(machine(body("Map", QueryLanguage="JSONata", ItemProcessor=inner))) == []
