"""Where a deployment tool is still to put a value, no rule refuses a definition: whatever the value stands for."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stepwell.engine.asl.diagnostics import DiagnosticCode, Severity
from stepwell.engine.asl.document import examine
from tests.unit.asl.definitions import FUNCTION

EXAMPLE = Path(__file__).parents[3] / "asl_examples" / "order_import" / "definition.asl.json"

CATCH = [{"ErrorEquals": ["A", "B"], "Next": "Wait"}, {"ErrorEquals": ["States.ALL"], "Next": "Failed"}]
RULE = {"Or": [{"Not": {"Variable": "$.a", "IsNull": True}}, {"And": [{"Variable": "$.b", "NumericEquals": 1}]}]}
JSONPATH: dict[str, Any] = {
    "StartAt": "Ask",
    "TimeoutSeconds": 60,
    "States": {
        "Ask": {"Type": "Choice", "Choices": [{**RULE, "Next": "Work", "Assign": {"v": 1}}], "Default": "Wait"},
        "Work": {
            "Type": "Task",
            "Resource": FUNCTION,
            "Parameters": {"x.$": "$.y"},
            "TimeoutSeconds": 5,
            "Retry": [{"ErrorEquals": ["A", "B"], "MaxAttempts": 2}],
            "Catch": CATCH,
            "ResultPath": "$.r",
            "End": True,
        },
        "Wait": {"Type": "Wait", "Timestamp": "2030-01-01T00:00:00Z", "Next": "Each"},
        "Each": {
            "Type": "Map",
            "MaxConcurrency": 5,
            "ItemProcessor": {
                "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
                "StartAt": "One",
                "States": {"One": {"Type": "Pass", "Next": "Two"}, "Two": {"Type": "Succeed"}},
            },
            "Next": "Both",
        },
        "Both": {
            "Type": "Parallel",
            "Branches": [{"StartAt": "B", "States": {"B": {"Type": "Succeed"}}}],
            "End": True,
        },
        "Failed": {"Type": "Fail", "Error": "E"},
    },
}
JSONATA: dict[str, Any] = {
    "QueryLanguage": "JSONata",
    "StartAt": "Ask",
    "States": {
        "Ask": {
            "Type": "Choice",
            "QueryLanguage": "JSONata",
            "Choices": [{"Condition": "{% $states.input.a %}", "Next": "Do", "Output": "{% 1 %}"}],
            "Default": "Do",
        },
        "Do": {"Type": "Task", "Resource": FUNCTION, "Arguments": {"a": "{% 1 %}"}, "Output": "{% 1 %}", "End": True},
    },
}


def spots(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in a value with each of its keys."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        yield value, key
        yield from spots(inner)


def check_every_spot(definition: Any, given: Any) -> None:
    for number in range(len(list(spots(definition)))):
        changed = copy.deepcopy(definition)
        holder, key = list(spots(changed))[number]
        holder[key] = copy.deepcopy(given)
        errors = [one for one in examine(json.dumps(changed)).findings if one.severity is Severity.ERROR]
        assert errors == [], (key, given)


@pytest.mark.parametrize(
    "given", ("${P}", "a-${P.Arn}", "{{P}}", "#{P}", "<p>", {"Ref": "P"}, {"Fn::GetAtt": ["P", "Arn"]}), ids=str
)
@pytest.mark.parametrize("definition", (JSONPATH, JSONATA), ids=("jsonpath", "jsonata"))
def test_any_value_may_be_open(definition: Any, given: Any) -> None:
    check_every_spot(definition, given)


def test_any_value_of_a_distributed_map_may_be_open() -> None:
    check_every_spot(json.loads(EXAMPLE.read_text()), "${P}")


def test_an_open_value_is_said_to_be_one() -> None:
    changed = copy.deepcopy(JSONPATH)
    changed["States"]["Work"]["Catch"][0] = "${self:custom.handler}"
    (found,) = examine(json.dumps(changed)).findings
    assert (found.code, found.location) == (DiagnosticCode.STEPWELL_PLACEHOLDER, "/States/Work/Catch[0]")
