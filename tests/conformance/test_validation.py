"""Validation against labelled definitions: what AWS recorded, what linters' tests state, and published samples."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from stepwell.engine.asl.diagnostics import DiagnosticCode, Severity
from stepwell.engine.asl.document import examine
from stepwell.engine.asl.validate import validate

RECORDED_OTHERWISE = {
    "bc2c1a09f852": "the refusal is of an activity, whose ARN was replaced by that of a function when the case was stored",
}
"""Recordings of AWS that no rule can agree with, and why."""

STATED_OTHERWISE = {
    "cfa2513f6af0": "AWS refuses, as recorded, a JSONPath state in a JSONata machine",
    "072fc505ce58": "neither AWS's JSONPath nor its grammar has scripts: `[(@.length-1)]`",
    "fb5a7c77511c": "the specification wants commas between the arguments of an intrinsic function",
    "239beec9aa37": "the specification wants one of And, Or and Not in a rule, not all three",
    "656f603ffad1": "AWS refuses, as recorded, empty Branches",
    "1018f02bf6dd": "`{%10%}` without blanks runs on AWS, and AWS's samples are written so",
}
"""Labels of other linters' tests that we do not follow, and the rule that is against each."""

SAMPLES_WITH_FAULTS = {
    "3c239753b9c2": "ResultPath begins with `$$`",
    "a598527c28de": "Comment is null",
    "742e904b34ee": "a state has Next and End; its Next names no state",
    "57f0c335de22": "no JSON: two colons after one name",
    "0bfe86e899cc": "JSONata fields in a JSONPath machine; a field stands among the states",
    "117173fb4421": "Next names no state; no state ends the machine",
    "ad0e8bd25a2b": "Items is a string that is no expression",
    "1f2f9a9cf7da": "JSONPath rules in a JSONata Choice",
    "3120ee521a66": "States.Default does not exist; `\\n` is no escape of an intrinsic's string",
    "72d0b2cdf3ec": "the variable name `states` is reserved",
}
"""Published samples that are refused, and what they break."""


@pytest.fixture(scope="module")
def labelled(conformance_cases: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (conformance_cases / "validation.jsonl").read_text().splitlines()]


def is_refused(case: Mapping[str, Any]) -> bool:
    definition = case["definition"]
    text = definition if isinstance(definition, str) else json.dumps(definition)
    findings = validate(text, machine_type=case.get("workflow_type", "STANDARD"))
    return any(finding.severity is Severity.ERROR for finding in findings)


def disagreeing(cases: list[dict[str, Any]], basis: str) -> dict[str, str]:
    return {
        case["id"]: case["why"]
        for case in cases
        if case["basis"] == basis and is_refused(case) is not (case["expect"] == "invalid")
    }


@pytest.mark.parametrize(
    ("basis", "named"),
    (
        ("aws-recorded", RECORDED_OTHERWISE),
        ("stated", STATED_OTHERWISE),
        ("presumed", SAMPLES_WITH_FAULTS),
    ),
)
def test_verdicts_are_those_of_the_labels(labelled: list[dict[str, Any]], basis: str, named: dict[str, str]) -> None:
    found = disagreeing(labelled, basis)
    assert {id: why for id, why in found.items() if id not in named} == {}
    known = {case["id"] for case in labelled}
    assert [id for id in named if id in known and id not in found] == []


def test_no_other_validator_agrees_as_often(labelled: list[dict[str, Any]]) -> None:
    judged = [case for case in labelled if case["basis"] != "presumed"]
    agreed: Counter[str] = Counter()
    for case in judged:
        wants = case["expect"] == "invalid"
        agreed["stepwell"] += is_refused(case) is wants
        for peer, verdict in case["peers"].items():
            agreed[peer] += verdict == case["expect"]
    assert len(judged) > 400
    assert agreed.most_common(1)[0][0] == "stepwell"


SURE = {
    DiagnosticCode.FAILING_CALL,
    DiagnosticCode.NO_WAY_OUT,
    DiagnosticCode.ODD_NAME,
    DiagnosticCode.UNKNOWN_INTEGRATION,
    DiagnosticCode.IMPOSSIBLE_PATH,
    DiagnosticCode.UNASSIGNED_VARIABLE,
    DiagnosticCode.UNKNOWN_ERROR_NAME,
    DiagnosticCode.UNREACHABLE_CATCHER,
    DiagnosticCode.UNREACHABLE_RETRIER,
    DiagnosticCode.HEARTBEAT_TOO_LONG,
    DiagnosticCode.SECRET,
}
"""Warnings of what cannot go well, or cannot happen."""


def test_nothing_that_went_well_on_aws_is_warned_of(conformance_cases: Path) -> None:
    checked = 0
    for file in sorted((conformance_cases / "asl").glob("*.json")):
        for case in json.loads(file.read_text()):
            recorded = json.dumps(case["expected"], ensure_ascii=False)
            if case["kind"] != "execution" or "definition" not in case or "ExecutionSucceeded" not in recorded:
                continue
            definition = case["definition"]
            text = definition if isinstance(definition, str) else json.dumps(definition)
            for finding in examine(text, machine_type=case.get("type") or "STANDARD").findings:
                state = (finding.location or "").split("/")[2:3]
                assert finding.code not in SURE or f'"name": {json.dumps(*state)}' not in recorded, (
                    case["id"],
                    finding,
                )
            checked += 1
    assert checked > 300
