"""What AWS recorded about whole definitions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stepwell.engine.asl.diagnostics import DefinitionError, Severity
from stepwell.engine.asl.parse import parse_definition, parse_state
from stepwell.engine.asl.validate import validate


def cases(folder: Path) -> Iterator[dict[str, Any]]:
    for file in sorted((folder / "asl").glob("*.json")):
        yield from json.loads(file.read_text())


def as_text(definition: Any) -> str:
    return definition if isinstance(definition, str) else json.dumps(definition)


def test_every_machine_that_ran_on_aws_is_accepted(conformance_cases: Path) -> None:
    checked = 0
    for case in cases(conformance_cases):
        if (
            case["kind"] != "execution"
            or "definition" not in case
            or "InvalidDefinition" in json.dumps(case["expected"])
        ):
            continue
        text, machine_type = as_text(case["definition"]), case.get("type") or "STANDARD"
        try:
            parse_definition(text, machine_type=machine_type)
        except DefinitionError as error:
            pytest.fail(f"{case['id']}: {error}")
        checked += 1
    assert checked > 500


def test_refusals_in_the_words_of_aws(conformance_cases: Path) -> None:
    checked = 0
    for case in cases(conformance_cases):
        recorded = json.dumps(case["expected"], ensure_ascii=False)
        if case["kind"] != "validation" or "Invalid State Machine Definition" not in recorded:
            continue
        with pytest.raises(DefinitionError) as caught:
            parse_definition(as_text(case["definition"]), machine_type=case.get("type") or "STANDARD")
        assert f"Invalid State Machine Definition: '{caught.value}'" in recorded, case["id"]
        checked += 1
    assert checked > 5


def test_diagnostics_in_the_words_of_aws(conformance_cases: Path) -> None:
    checked = 0
    for case in cases(conformance_cases):
        response = case["expected"]["snapshot"].get("validation_response")
        if case["kind"] != "validation" or response is None:
            continue
        found = [
            {
                "code": finding.code.value,
                "message": finding.message,
                "severity": finding.severity.value,
                **({} if finding.location is None else {"location": finding.location}),
            }
            for finding in validate(case["calls"][0]["kwargs"]["definition"], machine_type=case["type"], runnable=True)
            if finding.severity is Severity.ERROR
        ]
        assert found == response["diagnostics"], case["id"]
        checked += 1
    assert checked > 5


def test_every_state_that_was_tested_on_aws_is_accepted(conformance_cases: Path) -> None:
    checked = 0
    for case in cases(conformance_cases):
        for call in case.get("calls", ()):
            if call["op"] != "TestState" or "InvalidDefinition" in json.dumps(case["expected"]):
                continue
            text = as_text(call["kwargs"]["definition"])
            if call["kwargs"].get("stateName"):
                parse_definition(text)
            else:
                parse_state(text, "X")
            checked += 1
    assert checked > 50
