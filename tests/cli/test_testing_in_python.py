"""State machines in tests written in Python: `LocalMachine`, and the plugin for pytest in sessions of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from stepwell.cli.testing import LocalMachine, Return, TestingError, Throw
from tests.cli.conftest import clean_environment, machine
from tests.conftest import ROOT

FUNCTION = "arn:aws:lambda:us-east-1:000000000000:function:"
APPROVAL = machine(
    "Ask",
    Ask={
        "Type": "Task",
        "Resource": "arn:aws:states:::sqs:sendMessage.waitForTaskToken",
        "Parameters": {"QueueUrl": "q", "MessageBody": {"id.$": "$.id", "token.$": "$$.Task.Token"}},
        "TimeoutSeconds": 86_400,
        "HeartbeatSeconds": 7200,
        "ResultPath": "$.answer",
        "Catch": [{"ErrorEquals": ["States.Timeout"], "Next": "Late"}],
        "Next": "Charge",
    },
    Charge={
        "Type": "Task",
        "Resource": f"{FUNCTION}charge",
        "Retry": [{"ErrorEquals": ["Busy"], "IntervalSeconds": 30}],
        "End": True,
    },
    Late={"Type": "Fail", "Error": "Late"},
)


def approval(**given: Any) -> LocalMachine:
    return LocalMachine(APPROVAL, name="approval", **given)


def test_a_run_with_mocks() -> None:
    asked: list[Any] = []

    def ask(payload: Any) -> Mapping[str, Any]:
        asked.append(payload["MessageBody"]["id"])
        return {"yes": True}

    run = approval().run({"id": 7}, mocks={"Ask": ask, "Charge": [Throw("Busy", "later"), Return({"charged": 1})]})
    assert run.succeeded
    assert run.output == {"charged": 1}
    assert (run.path, run.seconds, run.unused_mocks) == (("Ask", "Charge"), 30, [])
    assert (run.attempts("Charge"), run.visits("Charge"), run.visits("Late")) == (2, 1, 0)
    assert run.calls("Charge")[1] == {"id": 7, "answer": {"yes": True}}
    assert run.history[-1]["type"] == "ExecutionSucceeded"
    assert asked == [7]


def test_a_run_that_fails_shows_itself() -> None:
    run = approval().run({"id": 7}, mocks={"Ask": Return(1, 86_400_001), "Charge": {"Return": 1}})
    assert (run.status, run.error, run.cause, run.failed_state) == ("FAILED", "Late", None, "Late")
    assert run.unused_mocks == ["Charge"]
    assert "FAILED in 'Late' after 2 h" in repr(run)
    assert "✗ Ask" in repr(run)


def test_functions_may_throw_and_may_assert() -> None:
    run = approval().run({"id": 1}, mocks={"Ask": lambda payload: Throw("States.Timeout"), "Charge": Return(1)})
    assert run.error == "Late"

    def never(payload: Any) -> None:
        raise AssertionError("not this one")

    with pytest.raises(AssertionError, match="not this one"):
        approval().run({"id": 1}, mocks={"Ask": never})


def test_real_functions_answer_what_has_no_mock() -> None:
    def charge(event: Any, context: Any) -> Any:
        return {"charged": event["id"], "by": context.function_name}

    run = approval(functions={"charge": charge}).run({"id": 3}, mocks={"Ask": Return({})})
    assert run.output == {"charged": 3, "by": "charge"}


async def test_real_functions_where_an_event_loop_runs() -> None:
    async def charge(event: Any) -> int:
        return 1

    assert approval(functions={"charge": charge}).run({"id": 3}, mocks={"Ask": Return({})}).output == 1


@pytest.mark.parametrize(
    ("mocks", "says"),
    (
        ({}, "State 'Ask' calls arn:aws:states:::sqs:sendMessage.waitForTaskToken, and no mock answers it"),
        ({"Aks": Return(1)}, "no Task state 'Aks' at /Aks. Did you mean 'Ask'?"),
        ({"Ask": 5}, "5 is no mock"),
        ({"Ask": {"Retrun": 5}}, "must have one of Return and Throw"),
        ({"Ask": {"0": {"Throw": {"Error": "E"}}, "2": {"Return": 1}}}, "leave out 1"),
        ({"Ask": Return({}), "Charge": {"0": {"Throw": {"Error": "Busy"}}}}, "invocations 0, and this is number 1"),
    ),
)
def test_mocks_that_cannot_be_used(mocks: Any, says: str) -> None:
    with pytest.raises(TestingError) as raised:
        approval().run({"id": 1}, mocks=mocks)
    assert says in str(raised.value)


def test_a_case_of_a_mock_config_file_and_mocks_over_it(tmp_path: Path) -> None:
    config = tmp_path / "mocks.json"
    cases = {"Yes": {"Ask": "yes", "Charge": "charged"}}
    responses = {"yes": {"0": {"Return": {}}}, "charged": {"0": {"Return": 1}}}
    config.write_text(json.dumps({"StateMachines": {"approval": {"TestCases": cases}}, "MockedResponses": responses}))
    local = approval(mock_config=config)
    assert local.run({"id": 1}, case="Yes").output == 1
    assert local.run({"id": 1}, case="Yes", mocks={"Charge": Return(2)}).output == 2
    with pytest.raises(TestingError, match="no test case 'No'"):
        local.run({"id": 1}, case="No")
    with pytest.raises(TestingError, match="mock_config="):
        approval().run({"id": 1}, case="Yes")


def test_step_by_step() -> None:
    live = approval().start({"id": 7}, mocks={"Charge": Return("paid", after_ms=60_000)})
    assert (live.waiting, live.seconds, live.ended) == (["Ask"], 0, False)
    assert live.payload("Ask")["MessageBody"]["id"] == 7
    live.advance(7000).heartbeat("Ask").advance(7000)
    assert live.waiting == ["Ask"]
    live.succeed("Ask", {"by": "ada"})
    assert (live.path, live.waiting) == (("Ask", "Charge"), ["Charge"])
    live.advance(59)
    assert not live.ended
    assert live.advance(1).ended
    result = live.finish()
    assert (result.output, result.seconds) == ("paid", 14_060)


def test_step_by_step_badly() -> None:
    live = approval().start({"id": 7})
    with pytest.raises(TestingError, match="no open task; the execution waits for 'Ask'"):
        live.succeed("Charge")
    live.advance(7200)
    assert live.result().error == "Late"
    live = approval().start({"id": 7}).fail("Ask", "Refused", "no")
    assert (live.result().error, live.result().cause) == ("Refused", "no")
    live = approval().start({"id": 7}).stop("Enough", "really")
    assert live.finish().status == "ABORTED"
    live = LocalMachine(
        machine("T", T={"Type": "Task", "Resource": "celery:x", "TimeoutSeconds": 5, "End": True})
    ).start()
    assert live.result().status == "RUNNING"


def test_nothing_ends_what_nobody_answers() -> None:
    endless = machine("T", T={"Type": "Task", "Resource": "celery:x", "TimeoutSeconds": 99_999_999, "End": True})
    live = LocalMachine(endless).start()
    assert live.finish().error == "States.Timeout"
    with pytest.raises(TestingError, match="cannot be read"):
        LocalMachine("nowhere.asl.json")


def test_the_clock_begins_where_it_is_told() -> None:
    show = machine("S", S={"Type": "Pass", "Parameters": {"at.$": "$$.State.EnteredTime"}, "End": True})
    local = LocalMachine(show, start_time=datetime(2024, 2, 29, 12))  # noqa: DTZ001 -- without a zone it is UTC
    assert local.run().output == {"at": "2024-02-29T12:00:00.000Z"}


# -- the plugin ----------------------------------------------------------------------------------------------------------

PLUGIN = ["-p", "no:stepwell", "-p", "stepwell.cli.testing.pytest_plugin", "-p", "no:cacheprovider"]
"""Whether the environment has the plugin's entry point or not."""

TESTS = """
from stepwell.cli.testing import LocalMachineFactory, Return, Throw

def test_good(state_machine: LocalMachineFactory) -> None:
    assert state_machine("shop.asl.json").run({"n": 1}, mocks={"T": Return(5)}).output == 5

def test_default(state_machine: LocalMachineFactory) -> None:
    assert state_machine("machines/../shop.asl.json").run({"n": 2}).succeeded
"""
SHOP = machine(
    "C",
    C={"Type": "Choice", "Choices": [{"Variable": "$.n", "NumericEquals": 1, "Next": "T"}], "Default": "S"},
    T={"Type": "Task", "Resource": "celery:x", "Catch": [{"ErrorEquals": ["E"], "Next": "S"}], "End": True},
    S={"Type": "Succeed"},
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "machines").mkdir()
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "shop.asl.json").write_text(json.dumps(SHOP, indent=1))
    (tmp_path / "test_shop.py").write_text(TESTS)
    return tmp_path


def session(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", *PLUGIN, *arguments], cwd=folder, capture_output=True, text=True, check=False,
        env=clean_environment(PYTHONPATH=str(ROOT), PYTEST_DISABLE_PLUGIN_AUTOLOAD="1"),
    )  # fmt: skip


def test_the_fixture_and_coverage_over_the_session(project: Path) -> None:
    report = project / "report.html"
    ran = session(project, "--stepwell-coverage", "--stepwell-html", str(report), "--stepwell-fail-under", "80")
    assert ran.returncode == 0, ran.stdout
    assert "shop     3/3     2/2      -         0/1       83 %" in ran.stdout
    assert "not covered: shop/States/T/Catch/0" in ran.stdout
    assert "<svg" in report.read_text()
    ran = session(project, "--stepwell-fail-under", "90", "--stepwell-html", str(project / "nowhere" / "report.html"))
    assert "cannot be written: No such file" in ran.stdout
    ran = session(project, "--stepwell-fail-under", "90")
    assert ran.returncode == 1
    assert "Only 83.3 % of the state machines is covered, wanted are 90 %" in ran.stdout


def test_coverage_of_several_processes(project: Path) -> None:
    ran = session(project, "-p", "xdist.plugin", "-n", "2", "--stepwell-coverage", "--stepwell-fail-under", "80")
    assert ran.returncode == 0, ran.stdout
    assert "3/3     2/2" in ran.stdout


def test_test_files_are_tests_where_the_project_says_so(project: Path) -> None:
    cases = {
        "good": {"Input": {"n": 2}},
        "bad": {"Input": {"n": 1}, "Mocks": {"T": {"Return": 1}}, "Expect": {"Output": 2}},
    }
    (project / "shop.asl.test.json").write_text(json.dumps({"TestCases": cases}))
    (project / "broken.asl.test.json").write_text("{}")
    assert session(project).returncode == 0
    (project / "pytest.ini").write_text("[pytest]\nstepwell_collect = true\n")
    ran = session(project, "--continue-on-collection-errors")
    assert ran.returncode == 1
    assert "3 passed" in ran.stdout and "1 failed" in ran.stdout and "1 error" in ran.stdout
    assert "/: expected 2, got 1" in ran.stdout
    assert "✓ T" in ran.stdout
    assert "broken.json cannot be read" in ran.stdout or "cannot be read" in ran.stdout


def test_a_session_that_runs_no_machine_loads_nothing_of_stepwell(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text(
        "import sys\n\n"
        "def test_it():\n"
        "    loaded = {name for name in sys.modules if name.startswith('stepwell')}\n"
        "    assert loaded == {'stepwell', 'stepwell.cli', 'stepwell.cli.testing', 'stepwell.cli.testing.pytest_plugin'}\n"
        "    assert not {'msgspec', 'click', 'rich', 'celery'} & sys.modules.keys()\n"
    )
    (tmp_path / "data.json").write_text("{")
    ran = session(tmp_path)
    assert ran.returncode == 0, ran.stdout
