"""Which variables states read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stepwell.engine.asl.parse import parse_definition
from stepwell.engine.asl.variable_references import variable_references


def references(state: dict[str, Any], **machine: Any) -> dict[str, list[str]]:
    definition = json.dumps(
        {"StartAt": "X", "States": {"X": {"End": True, **state}, **machine.pop("states", {})}, **machine}
    )
    parse_definition(definition)
    return dict(variable_references(definition))


TASK = {"Type": "Task", "Resource": "arn:aws:lambda:us-east-1:000000000000:function:f"}
INNER = {"StartAt": "I", "States": {"I": {"Type": "Pass", "InputPath": "$inner", "End": True}}}


@pytest.mark.parametrize(
    ("state", "names"),
    (
        ({"Type": "Pass", "InputPath": "$b.c", "OutputPath": "$a[0]"}, ["a", "b"]),
        ({"Type": "Pass", "Parameters": {"x": {"y.$": "States.Format('{}', $deep.er)"}, "z": "$text"}}, ["deep"]),
        ({"Type": "Pass", "Result": {"x.$": "$literal"}, "ResultPath": "$.x"}, []),
        ({"Type": "Pass", "Assign": {"own": 1, "other.$": "$read", "at.$": "$$.Execution.Id"}}, ["read"]),
        ({**TASK, "TimeoutSecondsPath": "$t", "HeartbeatSecondsPath": "$h", "ResultSelector": {"r.$": "$s"}}, ["h", "s", "t"]),
        ({**TASK, "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "Y", "Assign": {"e.$": "$seen"}}]}, ["seen"]),
        ({"Type": "Wait", "SecondsPath": "$seconds"}, ["seconds"]),
    ),
)  # fmt: skip
def test_in_jsonpath(state: dict[str, Any], names: list[str]) -> None:
    assert references(state, states={"Y": {"Type": "Succeed"}} if "Catch" in state else {}) == (
        {"X": names} if names else {}
    )


def test_in_choice_rules() -> None:
    rule = {"And": [{"Not": {"Variable": "$a.b", "IsPresent": True}}, {"Variable": "$.c", "StringEqualsPath": "$d"}]}
    choice = {"Type": "Choice", "Choices": [{**rule, "Next": "Y", "Assign": {"x.$": "$e"}}], "Default": "Y"}
    definition = json.dumps({"StartAt": "X", "States": {"X": choice, "Y": {"Type": "Succeed"}}})
    assert variable_references(definition) == {"X": ["a", "d", "e"]}


def test_within_other_states() -> None:
    each = {"Type": "Map", "ItemsPath": "$items", "MaxConcurrencyPath": "$most", "ItemProcessor": INNER}
    assert references(each) == {"I": ["inner"], "X": ["items", "most"]}
    assert references({"Type": "Parallel", "Branches": [INNER]}) == {"I": ["inner"]}


def test_in_jsonata() -> None:
    body = {
        "Type": "Pass",
        "Output": {"x": "{% $b + $states.input.n + $sum([$a]) %}", "y": "$text"},
        "Assign": {"c": "{% $d %}"},
    }
    assert references(body, QueryLanguage="JSONata") == {"X": ["a", "b", "d"]}
    local = {"Type": "Pass", "Output": "{% ($mine := $yours; $mine) %}", "QueryLanguage": "JSONata"}
    assert references(local) == {"X": ["yours"]}


def test_as_recorded(conformance_cases: Path) -> None:
    cases = json.loads((conformance_cases / "asl" / "api_variable_references.json").read_text())
    assert cases
    for case in cases:
        definition = case["calls"][0]["kwargs"]["definition"]
        answer = case["expected"]["snapshot"]["describe_response"]
        assert dict(variable_references(definition)) == answer.get("variableReferences", {}), case["id"]
