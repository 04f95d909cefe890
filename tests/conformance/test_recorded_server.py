"""A whole server against what AWS recorded: the runner that came with the cases, at the endpoint of a `stepwell up`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stepwell.cli.embedded.postgres import EmbeddedPostgres
from stepwell.cli.embedded.valkey import EmbeddedValkey
from tests.cli.conftest import COMMAND, clean_environment
from tests.support.embedded import server_place, wait_until_stopped
from tests.support.processes import RunningProcess

pytestmark = [pytest.mark.conformance, pytest.mark.xdist_group("stepwell-up")]

AREAS = ("base", "choice_operators", "intrinsic_functions", "timeouts", "comments")
LEAST = 0.95
"""The share of histories that must be equal: some were recorded in an order that no rule gives."""
DEADLINE = 600


@pytest.fixture(scope="module")
def url(conformance_cases: Path) -> Iterator[str]:
    pytest.importorskip("boto3")
    with server_place() as place:
        command = [*COMMAND, "up", "--port", "0", "--workers", "0", "--data-dir", str(place)]
        with RunningProcess(command, environment=clean_environment(), directory=place) as process:
            yield process.ready_url(120)
            process.terminate()
            assert process.wait() == 0, process.output
        wait_until_stopped(EmbeddedPostgres(place / "postgres"))
        wait_until_stopped(EmbeddedValkey(place / "valkey"))


@pytest.fixture(scope="module")
def result(conformance_cases: Path, url: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("recorded") / "result.json"
    command: list[str | Path] = [sys.executable, conformance_cases / "run_asl.py", "--endpoint-url", url, "--out", out]
    command += ["--select", *AREAS, "--without", "JSONata"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=out.parent, timeout=DEADLINE)
    assert ran.returncode == 0, ran.stderr
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def test_every_execution_ends_as_on_aws(result: dict[str, Any]) -> None:
    wrong = {case["id"]: case.get("diffs") or case.get("why") for case in result["failures"] if not case["L1"]}
    assert wrong == {}
    total = result["table"]["TOTAL all"]
    assert total["L1"] == total["n"] == result["cases"] > 0


@pytest.mark.parametrize("level", ("L2", "L3"))
def test_histories_are_those_of_aws(result: dict[str, Any], level: str) -> None:
    total = result["table"]["TOTAL all"]
    wrong = {case["id"]: case.get("diffs3") for case in result["failures"] if case[level] is False}
    assert total[f"{level}n"] > 0
    assert total[level] >= LEAST * total[f"{level}n"], wrong
