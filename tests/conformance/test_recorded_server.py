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

LEAST = {"L1": 0.99, "L2": 0.98, "L3": 0.96}
"""The shares that must be equal: docs/conformance.md lists what is not, and why."""
DEADLINE = 600

Result = dict[str, Any]


@pytest.fixture(scope="module")
def storage() -> Iterator[str]:
    """An S3-compatible server."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module")
def url(conformance_cases: Path, storage: str) -> Iterator[str]:
    pytest.importorskip("boto3")
    with server_place() as place:
        command = [*COMMAND, "up", "--port", "0", "--workers", "0", "--data-dir", str(place)]
        keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "STEPWELL_S3_ENDPOINT_URL": storage}
        with RunningProcess(command, environment=clean_environment() | keys, directory=place) as process:
            yield process.ready_url(120)
            process.terminate()
            assert process.wait() == 0, process.output
        wait_until_stopped(EmbeddedPostgres(place / "postgres"))
        wait_until_stopped(EmbeddedValkey(place / "valkey"))


def run_cases(folder: Path, url: str, out: Path, *options: str) -> Result:
    """What the runner found."""
    command: list[str | Path] = [sys.executable, folder / "run_asl.py", "--endpoint-url", url, "--out", out, *options]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=out.parent, timeout=DEADLINE)
    assert ran.returncode == 0, ran.stderr
    found: Result = json.loads(out.read_text())
    assert found["cases"] > 0
    return found


@pytest.fixture(scope="module")
def result(conformance_cases: Path, url: str, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """All cases that need nothing but the endpoint."""
    out = tmp_path_factory.mktemp("recorded") / "result.json"
    return run_cases(conformance_cases, url, out, "--kinds", "execution", "validation", "test_state")


def unequal(result: Result, level: str) -> dict[str, Any]:
    return {
        case["id"].rpartition("::")[2]: case.get("why") or case.get("diffs") or case.get("diffs3")
        for case in result["failures"]
        if case[level] is False
    }


@pytest.mark.parametrize("level", ("L1", "L2", "L3"))
def test_it_answers_as_aws(result: Result, level: str) -> None:
    total = result["table"]["TOTAL all"]
    assert total[level] >= LEAST[level] * total[f"{level}n"] > 0, unequal(result, level)


def test_activities_are_done_as_on_aws(conformance_cases: Path, url: str, tmp_path: Path) -> None:
    from tests.conformance.activity_workers import activity_workers

    with activity_workers(conformance_cases, url):
        found = run_cases(
            conformance_cases, url, tmp_path / "result.json", "--select", "activities", "--needs", "activity"
        )
    assert found["failures"] == []


def test_objects_are_read_and_written_as_on_aws(
    conformance_cases: Path, url: str, storage: str, tmp_path: Path
) -> None:
    """Distributed Maps over objects. The areas left out call S3 by a Task of its own."""
    options = ("--select", "scenarios", "assign", "--needs", "s3", "--setup-endpoint", storage)
    found = run_cases(conformance_cases, url, tmp_path / "result.json", *options)
    assert unequal(found, "L1") == {}
    total = found["table"]["TOTAL all"]
    assert total["L2"] >= LEAST["L2"] * total["L2n"] > 0, unequal(found, "L2")
