"""Recordings of AWS, run in memory with the mocks of their MockConfigFile in place of the services they were recorded with.

The mocks are `Step Functions Local`'s; what they cannot say (what a service adds to its answers) is named by the case itself, in
`localstack_skips`, and left out of the comparison.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from stepwell.api.wire import shapes
from stepwell.engine.asl.parse import parse_definition
from stepwell.engine.jsontypes import Document
from stepwell.engine.runtime.local import LocalExecution
from stepwell.engine.runtime.mock_config import check_case, parse_mock_config
from stepwell.engine.runtime.mocks import MockedRun, MockedTasks
from tests.support import recorded

NOW = 1_767_323_045_678
LEAST_CASES = 10
"""So many must be found and run, or the selection is broken."""

_STEP = re.compile(r"\.\.([^.\[]+)|\.([^.\[]+)")


def mocked_cases(folder: Path) -> Iterator[recorded.Case]:
    for file in sorted((folder / "asl").glob("*.json")):
        yield from (case for case in json.loads(file.read_text()) if case.get("mock_config"))


def without(value: Any, paths: list[str]) -> Any:
    """The value without what paths of the form `$..a..b.c` lead to."""
    for path in paths:
        steps = [(bool(found[1]), found[1] or found[2]) for found in _STEP.finditer(path[1:])]
        assert steps, path
        value = _without(value, steps, False)
    return value


def _without(value: Any, steps: list[tuple[bool, str]], anywhere: bool) -> Any:
    (deep, name), rest = steps[0], steps[1:]
    deep = deep or anywhere
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            value = json.loads(value)
        except ValueError:
            return value
    if isinstance(value, list):
        return [_without(one, steps, deep) for one in value]
    if not isinstance(value, dict):
        return value
    left = {}
    for key, member in value.items():
        if key == name:
            if not rest:
                continue
            member = _without(member, rest, False)
        left[key] = _without(member, steps, True) if deep else member
    return left


def compare(case: recorded.Case, runner: ModuleType) -> list[Any]:
    """What differs from the recording: status and result, then the history."""
    machine = parse_definition(json.dumps(case["definition"]))
    config = parse_mock_config(json.dumps(case["mock_config"]))
    mocks = config.case(case["machine_name"], case["mock_case"])
    assert check_case(machine, mocks, "") == []
    execution = LocalExecution(
        machine, NOW, name=case.get("execution_name") or "exec-0-4", machine_name=case["machine_name"]
    )
    execution.start(Document.parse(case["input"]))
    tasks = MockedTasks(mocks)
    finish = MockedRun(execution, [tasks], tasks.read_items).run()
    assert (tasks.unused, tasks.exhausted) == ([], [])
    answer = {"status": finish.status.value, "error": finish.error, "cause": finish.cause}
    if finish.output is not None:
        answer["output"] = finish.output.text.decode()
    skips = case["localstack_skips"]
    comparer = runner.Comparer(case)
    wrong: list[Any] = []
    expected = {key: case["expected"][key] for key in ("status", "output", "error", "cause") if key in case["expected"]}
    if not runner.Runner.level1(comparer, without(expected, skips), without(answer, skips)):
        wrong += comparer.diffs
    want = recorded.recorded_history(case)
    if want is None or "$..events" in skips:
        return wrong
    shown = [dict(shapes.event(id, event, data=True)) for id, event in execution.history]
    want, got = without({"events": want}, skips)["events"], without({"events": shown}, skips)["events"]
    if any(item["kind"] == "SfnNoneRecursiveParallelTransformer" for item in case["transformers"]):
        if not any(event.get("type") == "ParallelStateSucceeded" for event in want):
            got = [event for event in got if event.get("type") != "ParallelStateSucceeded"]
        got = runner.reorder(want, got, case)
    comparer = runner.Comparer(case)
    if not comparer.same(want, got):
        wrong += comparer.diffs
    return wrong


def test_mocked_executions_are_as_recorded(conformance_cases: Path) -> None:
    pytest.importorskip("boto3")
    runner = recorded.load_runner(conformance_cases)
    wrong, ran = {}, 0
    for case in mocked_cases(conformance_cases):
        name = case["id"].rsplit("::", 1)[-1]
        differences = compare(case, runner)
        ran += 1
        if differences:
            wrong[name] = differences
    assert wrong == {}
    if "STEPWELL_CONFORMANCE" not in os.environ:
        assert ran >= LEAST_CASES
