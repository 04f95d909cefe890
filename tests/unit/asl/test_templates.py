"""Definitions inside of deployment templates: they are found, judged as machines of their own, and pointed to."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from stepwell.engine.asl.diagnostics import Diagnostic
from stepwell.engine.asl.document import Syntax, examine

BAD = {"StartAt": "A", "States": {"A": {"Type": "Pass", "Next": "Gone"}, "B": {"Type": "Succeed"}}}
GOOD = {"StartAt": "A", "States": {"A": {"Type": "Succeed"}}}
KINDS = ("AWS::StepFunctions::StateMachine", "AWS::Serverless::StateMachine")


def found_in(text: str, syntax: Syntax = Syntax.JSON) -> list[Diagnostic]:
    found = examine(text, syntax=syntax, templates=True)
    assert found.document is None
    return found.findings


def template(properties: dict[str, Any], kind: str = KINDS[0]) -> str:
    return json.dumps({"Resources": {"M": {"Type": kind, "Properties": properties}}})


def marked(text: str) -> tuple[str, tuple[int, int]]:
    """A text without its mark, and the line and column of the mark."""
    before = text.partition("»")[0]
    return text.replace("»", ""), (before.count("\n") + 1, len(before) - before.rfind("\n"))


@pytest.mark.parametrize("kind", KINDS)
def test_definition_objects(kind: str) -> None:
    text = template({"Definition": BAD}, kind)
    missing, unreached = found_in(text)
    assert (missing.code, missing.location) == (
        "MISSING_TRANSITION_TARGET",
        "/Resources/M/Properties/Definition/States/A/Next",
    )
    assert (missing.line, missing.column) == (1, text.index('"Next"') + 1)
    assert unreached.location == "/Resources/M/Properties/Definition/States/B"


@pytest.mark.parametrize("key", ("StateMachineType", "Type"))
def test_a_machine_is_of_the_type_its_template_says(key: str) -> None:
    task = {"Type": "Task", "Resource": "arn:aws:states:::states:startExecution.sync", "End": True}
    definition = {"StartAt": "A", "States": {"A": task}}
    express = [one.message for one in found_in(template({"Definition": definition, key: "EXPRESS"}))]
    assert "Express state machine does not support '.sync' service integration" in express
    assert not [one for one in found_in(template({"Definition": definition})) if one.severity == "ERROR"]


def test_substitutions_are_known() -> None:
    task = {"Type": "Task", "Resource": "${Function}", "End": True}
    definition = {"StartAt": "A", "States": {"A": task}}
    filled = {"Definition": definition, "DefinitionSubstitutions": {"Function": {"Fn::GetAtt": ["F", "Arn"]}}}
    assert found_in(template(filled)) == []
    (found,) = found_in(template({**filled, "DefinitionSubstitutions": {"Funktion": "x"}}))
    assert (found.code, found.location) == (
        "STEPWELL_PLACEHOLDER",
        "/Resources/M/Properties/Definition/States/A/Resource",
    )
    assert found.message == "DefinitionSubstitutions has no 'Function'"


def test_a_text_in_json_is_pointed_into() -> None:
    inner = json.dumps({"Comment": 'a "b" ü \\', **BAD}, indent=1)
    text = json.dumps({"Resources": {"M": {"Type": KINDS[0], "Properties": {"DefinitionString": inner}}}})
    missing, _ = found_in(text)
    assert missing.location == "/Resources/M/Properties/DefinitionString/States/A/Next"
    assert missing.pointer == "/Resources/M/Properties/DefinitionString"
    assert (missing.line, missing.column) == (1, text.index('\\"Next\\"') + 1)


YAML = """\
Transform: AWS::Serverless-2016-10-31
Resources:
  M:
    Type: AWS::StepFunctions::StateMachine
    Properties:
      DefinitionString:HEAD
        {
          "StartAt": "A",
          "States": {
            "A": {"Type": "Task", "Resource": "${F.Arn}", »"Next": "Gone"}
          }
        }
TAIL"""


@pytest.mark.parametrize(
    ("head", "tail"),
    (
        (" |", ""),
        (" !Sub |", ""),
        (" !Sub |-  # what runs", ""),
        ("\n        Fn::Sub: |", ""),
        (" !Sub\n      - |", "      - {X: y}\n"),
    ),
)
def test_a_block_of_yaml_is_pointed_into(head: str, tail: str) -> None:
    text = YAML.replace("HEAD", head).replace("TAIL", tail)
    if "Fn::Sub" in head:
        text = re.sub(r"^(        .*)", r"  \1", text, flags=re.MULTILINE).replace(
            "          Fn::Sub", "        Fn::Sub"
        )
    text, (line, column) = marked(text)
    missing = next(one for one in found_in(text, Syntax.YAML) if one.code == "MISSING_TRANSITION_TARGET")
    assert (missing.line, missing.column) == (line, column)


def test_a_text_written_in_another_way_is_pointed_to_where_it_begins() -> None:
    text, place = marked(
        YAML.replace("HEAD", " >").replace("TAIL", "").replace("»", "").replace("  Definition", "  »Definition")
    )
    missing = next(one for one in found_in(text, Syntax.YAML) if one.code == "MISSING_TRANSITION_TARGET")
    assert (missing.line, missing.column) == place


def test_what_is_sub_or_joined_is_filled_in() -> None:
    task = '{"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "%s", "Nxt": 1, "End": true}}}'
    for given in (
        {"Fn::Sub": task % "${F.Arn}"},
        {"Fn::Sub": [task % "${Arn}", {"Arn": "x"}]},
        {"Fn::Join": ["", [*(task % "%").split("%")[:1], {"Fn::GetAtt": ["F", "Arn"]}, *(task % "%").split("%")[1:]]]},
    ):
        (found,) = found_in(template({"DefinitionString": given}))
        assert found.message == "Field 'Nxt' is not supported"


def test_text_that_is_no_json() -> None:
    (found,) = found_in(template({"DefinitionString": '{"StartAt": "A",}'}))
    assert (found.code, found.location) == ("INVALID_JSON_DESCRIPTION", "/Resources/M/Properties/DefinitionString")
    assert found.hint == "JSON has no comma after the last field."


def test_the_serverless_framework() -> None:
    text, place = marked(
        "service: x\nstepFunctions:\n  stateMachines:\n    order:\n      type: EXPRESS\n      definition:\n"
        "        StartAt: A\n        States:\n          A: {Type: Pass, »Next: Gone}\n          B: {Type: Succeed}\n"
    )
    missing = found_in(text, Syntax.YAML)[0]
    assert missing.location == "/stepFunctions/stateMachines/order/definition/States/A/Next"
    assert (missing.line, missing.column) == place


def test_a_template_without_definitions() -> None:
    (found,) = found_in(template({"DefinitionUri": "order.asl.json"}))
    assert (found.code, found.severity) == ("MISSING_DESCRIPTION", "WARNING")


@pytest.mark.parametrize(
    "odd",
    (
        {"Resources": {"M": 1, "N": {"Type": KINDS[0]}, "O": {"Type": KINDS[0], "Properties": []}}},
        {"Resources": {"M": {"Type": KINDS[0], "Properties": {"Definition": 1, "DefinitionString": []}}}},
        {"Resources": {"M": {"Type": KINDS[0], "Properties": {"DefinitionString": {"Fn::Sub": [{}]}}}}},
        {"Resources": {"M": {"Type": KINDS[0], "Properties": {"DefinitionString": {"Fn::Join": ["", 1]}}}}},
        {"stepFunctions": {"stateMachines": {"a": None, "b": {"definition": "x"}}}},
    ),
)
def test_odd_templates(odd: Any) -> None:
    assert [one.code for one in found_in(json.dumps(odd))] == ["MISSING_DESCRIPTION"]


def test_secrets_in_templates_are_covered() -> None:
    secret = "AKIA" + "QWERTYUIOPASDFGH"
    definition = {"StartAt": "A", "States": {"A": {"Type": "Pass", "Parameters": {"x": secret}, "End": True}}}
    for properties in ({"Definition": definition}, {"DefinitionString": json.dumps(definition)}):
        examined = examine(template(properties), templates=True)
        assert [one.code for one in examined.findings] == ["secret-in-definition"]
        assert examined.secrets == {secret}
        assert secret not in repr(examined.findings)
    beside = json.loads(template({"Definition": GOOD}))
    beside["Parameters"] = {"Key": {"Default": secret}}
    assert examine(json.dumps(beside), templates=True).secrets == {secret}


def test_a_template_is_no_definition() -> None:
    (found,) = examine(template({"Definition": GOOD})).findings
    assert found.message == "It is a deployment template and no definition"
