"""Every case of every folder of `asl_examples/` on a real server: functions in their host, Celery tasks in Stepwell's worker and in
the shop's own app, HTTP over the wire, people answering with boto3. What each ends with is in its folder."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from stepwell.cli.demonstration import STAND_IN_URL, Example, find_examples
from stepwell.cli.embedded.valkey import EmbeddedValkey
from tests.acceptance.conftest import ENOUGH_SECONDS, Stepwell
from tests.cli.conftest import clean_environment
from tests.conftest import ROOT
from tests.support.processes import RunningProcess

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("acceptance")]

EXAMPLES = {example.name: example for example in find_examples()}
CASES = [
    (name, file.name.removeprefix("input").removesuffix(".json").lstrip("."))
    for name, example in EXAMPLES.items()
    for file in sorted(example.folder.glob("input*.json"))
]


def read(example: Example, kind: str, case: str) -> str:
    return (example.folder / (f"{kind}.{case}.json" if case else f"{kind}.json")).read_text()


@pytest.fixture(scope="module")
def foreign_apps(server: Stepwell) -> Iterator[None]:
    """The workers of Celery apps that are not ours, started as their owners do."""
    apps = [app for example in EXAMPLES.values() for app in example.setup.get("celery_apps", ())]
    environment = clean_environment(
        STEPWELL_URL=server.url, STEPWELL_BROKER_URL=EmbeddedValkey(server.data / "valkey").url()
    )
    started = []
    for app in apps:
        command = [sys.executable, "-m", "celery", "-A", app["app"], "worker", "--pool", "solo", "--loglevel", "info"]
        started.append(RunningProcess(command, environment=environment, directory=ROOT / app["folder"]))
    try:
        for process in started:
            process.wait_for(r"\bready\.")
        yield
    finally:
        for process in started:
            process.close()


@pytest.fixture(scope="module")
def runs(server: Stepwell, foreign_apps: None) -> dict[tuple[str, str], str]:
    """The executions of all cases by example and case, all started at once."""
    for name, example in EXAMPLES.items():
        server.deploy(json.loads(example.definition), name)
        for connection, parameters in example.setup.get("connections", {}).items():
            put = server.api.put(f"/v1/connections/{connection}", json={"authParameters": parameters})
            assert put.status_code in (200, 201), put.text
    found = {}
    for name, case in CASES:
        text = read(EXAMPLES[name], "input", case).replace(STAND_IN_URL, server.stand_ins)
        answer = server.start(name, json.loads(text))
        assert answer.status_code == 201, answer.text
        found[name, case] = str(answer.json()["id"])
    return found


@pytest.mark.parametrize(("name", "case"), CASES, ids=[f"{name}-{case or 'input'}" for name, case in CASES])
def test_an_example(server: Stepwell, sfn: Any, runs: dict[tuple[str, str], str], name: str, case: str) -> None:
    id = runs[name, case]
    answers = EXAMPLES[name].setup.get("answers", {}).get(case, [])
    execution = server.api.get(f"/v1/executions/{id}").json()["name"]
    for number, answer in enumerate(answers):
        token = question(server, execution, number)["token"]
        if "output" in answer:
            sfn.send_task_success(taskToken=token, output=json.dumps(answer["output"]))
        else:
            sfn.send_task_failure(taskToken=token, error=answer["error"], cause=answer["cause"])
    ended = server.ended(id)
    expected = json.loads(read(EXAMPLES[name], "expected", case))
    assert {member: ended.get(member) for member in expected} == expected


def question(server: Stepwell, execution: str, number: int) -> Any:
    """What somebody was asked, as it arrives in the inbox."""
    with httpx.Client(base_url=server.stand_ins, trust_env=False, timeout=ENOUGH_SECONDS) as inbox:
        end = time.monotonic() + ENOUGH_SECONDS
        while True:
            asked = inbox.get("/approvals/requests", params={"execution": execution}).json()
            if len(asked) > number:
                return asked[number]
            assert time.monotonic() < end, f"nobody was asked for {execution}"


def test_a_definition_runs_without_a_server_as_with_one(tmp_path: Path) -> None:
    """The example that calls functions alone: `stepwell run` gives what the server gives."""
    folder = ROOT / "asl_examples" / "batch_map"
    ran = subprocess.run(
        [sys.executable, "-m", "stepwell.cli.main", "run", folder / "definition.asl.json",
         "--input", f"@{folder / 'input.json'}", "-f", "asl_examples.batch_map.functions", "--fast"],
        capture_output=True, text=True, check=False, cwd=ROOT, env=clean_environment(PYTHONPATH=str(ROOT)),
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == json.loads(read(EXAMPLES["batch_map"], "expected", ""))["output"]
