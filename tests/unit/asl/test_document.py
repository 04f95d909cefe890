"""Definitions as files hold them: YAML by YAML 1.2, and values still to be filled in."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stepwell.engine.asl.diagnostics import DefinitionError, Severity
from stepwell.engine.asl.document import Syntax, examine, read_document
from stepwell.engine.asl.placeholders import quote_unquoted
from tests.unit.asl.definitions import BODIES, machine


def yaml(text: str) -> Any:
    return read_document(text, Syntax.YAML).value


def refusal(text: str | bytes, syntax: Syntax = Syntax.YAML) -> str:
    with pytest.raises(DefinitionError) as caught:
        read_document(text, syntax)
    (finding,) = caught.value.diagnostics
    assert finding.line is not None or finding.code in ("TOO_DEEPLY_NESTED", "SCHEMA_VALIDATION_FAILED")
    return f"{finding.code} {finding.line}:{finding.column} {finding.message}"


@pytest.mark.parametrize(
    ("text", "value"),
    (
        ("on", "on"),
        ("yes", "yes"),
        ("No", "No"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("12", 12),
        ("-3", -3),
        ("012", 12),
        ("0o17", 15),
        ("0x1F", 31),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("1:20", "1:20"),
        ("1.50", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("2020-01-01", "2020-01-01"),
        ("2020-01-01T00:00:00Z", "2020-01-01T00:00:00Z"),
        ('"12"', "12"),
        ("!!str 12", "12"),
        ("!Ref Name", {"Ref": "Name"}),
        ("!GetAtt F.Arn", {"Fn::GetAtt": "F.Arn"}),
        ("!Sub ['${a}', {a: 1}]", {"Fn::Sub": ["${a}", {"a": 1}]}),
        ("${Name}", "${Name}"),
        ("$.a[0]", "$.a[0]"),
    ),
)
def test_values_of_yaml(text: str, value: Any) -> None:
    found = yaml(f"v: {text}\n")["v"]
    assert (type(found), found) == (type(value), value)


def test_anchors_aliases_and_merges() -> None:
    assert yaml("a: &x {k: 1, l: 2}\nb: *x\nc: {<<: *x, l: 3}\n") == {
        "a": {"k": 1, "l": 2},
        "b": {"k": 1, "l": 2},
        "c": {"k": 1, "l": 3},
    }


def test_names_are_strings_as_they_are_written() -> None:
    assert yaml("1: a\ntrue: b\non: c\n") == {"1": "a", "true": "b", "on": "c"}


@pytest.mark.parametrize(
    ("text", "said"),
    (
        ("a: [1", "1:6 The YAML cannot be read: while parsing a flow sequence"),
        ("a: 1\na: 2\n", "2:1 The YAML cannot be read: duplicate field 'a'"),
        ("a: 1\n---\nb: 2\n", "2:1 The YAML cannot be read: expected a single document"),
        ("a: *nope\n", "1:4 The YAML cannot be read: found undefined alias"),
        ("? [a]\n: 1\n", "1:3 The YAML cannot be read: a name must be a string"),
        ("a: .inf\n", "1:4 The YAML cannot be read: the number .inf has no form in JSON"),
        ("a: 1e999\n", "1:4 The YAML cannot be read: the number 1e999 is out of range"),
        ("a: !!python/object:os.system {}\n", "1:4"),
        ("a: !!binary aGk=\n", "1:4 The YAML cannot be read: a value of type binary has no form in JSON"),
        ('a: "\\uD800"\n', "1:4 The YAML cannot be read: it has half of a surrogate pair"),
        ("ab\n\x00", "2:1 The YAML cannot be read: unacceptable character"),
        ("", "1:1 The YAML cannot be read: The document is empty"),
        (b"\xff", "1:1 Invalid UTF-8"),
    ),
)  # fmt: skip
def test_yaml_that_cannot_be_read(text: str | bytes, said: str) -> None:
    found = refusal(text)
    assert found.startswith("invalid-yaml")
    assert said in found


def test_yaml_that_is_too_much() -> None:
    assert "TOO_DEEPLY_NESTED" in refusal("[" * 10_000)
    assert "TOO_DEEPLY_NESTED" in refusal("[" * 200 + "]" * 200)
    laughs = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9))
    assert "values" in refusal(laughs)
    assert "TOO_DEEPLY_NESTED" in refusal("a: &x [*x]\n")
    assert "SCHEMA_VALIDATION_FAILED" in refusal("a: " + "x" * 2_000_000)


def test_findings_in_yaml_have_their_lines() -> None:
    text = "# first\nStartAt: A\nStates:\n  A:\n    Type: Pass\n    Parameters:\n      a: 1\n      b.$: nope\n    End: true\n"
    (found,) = examine(text, syntax=Syntax.YAML).findings
    assert (found.location, found.line, found.column) == ("/States/A/Parameters", 8, 7)


def test_both_syntaxes_give_the_same_findings() -> None:
    definition = machine({"Type": "Pass", "Next": "gone", "OutputPath": "$v"})
    one, other = (
        [(found.code, found.message, found.location) for found in examine(text, syntax=syntax).findings]
        for text, syntax in ((json.dumps(definition), Syntax.JSON), (json.dumps(definition, indent=1), Syntax.YAML))
    )
    assert sorted(one) == sorted(other) != []


# Values that a deployment tool is to fill in

OPEN = ("${Name}", "${AWS::Region}", {"Ref": "Name"}, {"Fn::GetAtt": ["A", "Arn"]})


@pytest.mark.parametrize("value", OPEN)
@pytest.mark.parametrize(
    ("type_name", "field"),
    (
        ("Task", "Resource"),
        ("Task", "TimeoutSeconds"),
        ("Task", "HeartbeatSecondsPath"),
        ("Task", "Retry"),
        ("Task", "Comment"),
        ("Wait", "Seconds"),
        ("Map", "MaxConcurrency"),
        ("Map", "ItemProcessor"),
        ("Choice", "Choices"),
        ("Pass", "ResultPath"),
        ("Fail", "Error"),
        ("Pass", "Next"),
        ("Pass", "Type"),
    ),
)  # fmt: skip
def test_open_values_may_stand_anywhere(value: Any, type_name: str, field: str) -> None:
    state = {**BODIES[type_name], field: value}
    if field == "Next":
        del state["End"]
    definition = machine(state)
    text = json.dumps(definition)
    errors = [found for found in examine(text).findings if found.severity is Severity.ERROR]
    if isinstance(value, dict) and field in ("Next", "Type"):
        return  # where a name of this machine is wanted, an object of the template can hardly be meant
    assert errors == []


def test_what_a_server_is_sent_has_no_open_values() -> None:
    from stepwell.engine.asl.validate import validate

    text = json.dumps(machine({**BODIES["Task"], "TimeoutSeconds": "${T}"}))
    assert [found.location for found in validate(text, runnable=True)] == ["/States/X/TimeoutSeconds"]


def test_open_values_without_quotes() -> None:
    text = '{"StartAt": "A", "States": {"A": {"Type": "Wait", "Seconds": ${Seconds}, "Comment": "${a} }", "End": tru}}}'
    assert "Unrecognized token 'tru'" in refusal(text, Syntax.JSON)
    found = examine(text.replace("tru}", "true}")).findings
    assert [(one.code, one.message) for one in found] == [
        ("STEPWELL_PLACEHOLDER", "The value ${Seconds} has a substitution that is still to be filled in")
    ]


def test_quoting_moves_nothing() -> None:
    text = '{"a": ${B}, "c${d}": "${e}", "f": ${G.H}}'
    quoted = quote_unquoted(text)
    assert len(quoted) == len(text)
    assert set(json.loads(quoted)) == {"a", "c${d}", "f"}


def test_a_graph_with_open_ends_is_not_judged_as_a_whole() -> None:
    states = {"A": {"Type": "Pass", "Next": "${Next}"}, "B": {"Type": "Pass", "Next": "gone"}}
    errors = [
        one.message
        for one in examine(json.dumps({"StartAt": "A", "States": states})).findings
        if one.severity is Severity.ERROR
    ]
    assert errors == ["Missing 'Next' target: gone"]


def test_jsonata_may_have_braces_after_a_dollar() -> None:
    wrong = {"A": {"Type": "Pass", "End": True, "Output": "{% [1].${'a' 1} %}"}}
    assert len(examine(json.dumps({"StartAt": "A", "QueryLanguage": "JSONata", "States": wrong})).findings) == 1
    open_value = {"A": {"Type": "Pass", "End": True, "Output": "{% ${Count} + 1 %}"}}
    found = examine(json.dumps({"StartAt": "A", "QueryLanguage": "JSONata", "States": open_value})).findings
    assert [one for one in found if one.severity is Severity.ERROR] == []
