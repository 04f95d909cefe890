"""TestState over HTTP against what AWS recorded, with the runner that came with the cases."""

from __future__ import annotations

import json
import os
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from tests.api.conftest import build_stack
from tests.support.recorded import load_runner
from tests.support.served import served

DEVIATIONS = {
    "test_present_mode_aws_sdk_lambda_get_function_task[integer_more_than_maximum_allowed]": (
        "Lambda's model has come to allow more memory since the recording"
    ),
}
"""Cases that come out otherwise, and why."""

LEAST_CASES = 100
"""So many must be found, or the selection is broken."""


@pytest.fixture(scope="module")
def results(conformance_cases: Path) -> dict[str, dict[str, Any]]:
    pytest.importorskip("boto3")
    module = load_runner(conformance_cases)
    cases = json.loads((conformance_cases / "asl" / "test_state.json").read_text())
    cases = [case for case in cases if case["kind"] == "test_state" and performs_nothing(case)]
    with served(build_stack().app()) as url:
        runner = module.Runner(Namespace(endpoint_url=url, setup_endpoint=None, timeout=20, salt=0))
        return {case["id"].rsplit("::", 1)[-1]: runner.run(case) for case in cases}


def performs_nothing(case: dict[str, Any]) -> bool:
    """Whether a case calls no Lambda function: those were recorded without the functions' source."""
    return not case["needs"] or all(call.get("raises") for call in case["calls"])


@pytest.mark.parametrize("level", ("L1", "L2", "L3"))
def test_states_come_out_as_on_aws(results: dict[str, dict[str, Any]], level: str) -> None:
    wrong = {name: result.get("why") for name, result in results.items() if not result[level]}
    assert wrong.keys() <= DEVIATIONS.keys(), wrong
    if "STEPWELL_CONFORMANCE" not in os.environ:
        assert len(results) >= LEAST_CASES
