"""`stepwell test-state`: one state here and now, and the picture of its data flow."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.cli.conftest import Invoke, machine

Define = Callable[..., Path]

CHARGE = {
    "Type": "Task",
    "Resource": "arn:aws:states:::lambda:invoke",
    "InputPath": "$.order",
    "Parameters": {"FunctionName": "charge", "Payload": {"amount.$": "$.amount"}},
    "ResultSelector": {"charged.$": "$.Payload.charged"},
    "ResultPath": "$.receipt",
    "Retry": [{"ErrorEquals": ["Busy"], "IntervalSeconds": 3}],
    "Catch": [{"ErrorEquals": ["Declined"], "Next": "Apologise"}],
    "Next": "Done",
}
MACHINE: dict[str, Any] = machine("Charge", Charge=CHARGE, Apologise={"Type": "Succeed"}, Done={"Type": "Succeed"})
INPUT = '{"order": {"amount": 7}}'


def test_the_first_state_of_a_machine_with_its_data_flow(invoke: Invoke, define: Define) -> None:
    ran = invoke("test-state", define(MACHINE), "-i", INPUT, "--mock", '{"Payload": {"charged": 7}}', "--inspect")
    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.stdout) == {"order": {"amount": 7}, "receipt": {"charged": 7}}
    assert ran.stderr.splitlines() == [
        "Charge (Task)",
        '  input                 {"order": {"amount": 7}}',
        "  │ InputPath $.order",
        '  afterInputPath        {"amount": 7}',
        "  │ Parameters",
        '  afterParameters       {"FunctionName": "charge", "Payload": {"amount": 7}}',
        "  │ Resource arn:aws:states:::lambda:invoke",
        '  result                {"Payload": {"charged": 7}}',
        "  │ ResultSelector",
        '  afterResultSelector   {"charged": 7}',
        "  │ ResultPath $.receipt",
        '  afterResultPath       {"order": {"amount": 7}, "receipt": {"charged": 7}}',
        "  │",
        "  output                the same",
        "SUCCEEDED: the state succeeded ▶ Done",
    ]


def test_an_error_that_would_be_retried(invoke: Invoke, define: Define) -> None:
    arguments = ("test-state", define(MACHINE), "-i", INPUT, "--mock-error", "Busy: try later", "--retries", "2")
    ran = invoke(*arguments, "--inspect")
    assert (ran.exit_code, ran.stdout) == (1, "")
    assert "cause                 try later" in ran.stderr
    assert ran.stderr.endswith("RETRIABLE: the state failed, and would be retried by Retry[0] after 12 s\n")
    told = json.loads(invoke(*arguments, "--json").stdout)
    assert told["inspectionData"]["errorDetails"] == {"retryIndex": 0, "retryBackoffIntervalSeconds": 12}


def test_an_error_that_is_caught_is_no_failure(invoke: Invoke, define: Define) -> None:
    ran = invoke("test-state", define(MACHINE), "-i", INPUT, "--mock-error", "Declined", "--inspect")
    assert ran.exit_code == 0
    assert json.loads(ran.stdout) == {"Error": "Declined", "Cause": ""}
    assert "  │ Catch[0]\n  output                {" in ran.stderr
    assert "caught by Catch[0] ▶ Apologise" in ran.stderr


def test_a_python_function_does_the_work(invoke: Invoke, define: Define, functions: str) -> None:
    ran = invoke("test-state", define(MACHINE), "-i", INPUT, "-f", functions, "--json")
    assert json.loads(ran.stdout)["output"]["receipt"] == {"charged": 7}


def test_a_state_alone_and_one_deep_inside_a_machine(invoke: Invoke, define: Define) -> None:
    state = {"Type": "Pass", "QueryLanguage": "JSONata", "Output": "{% $states.input.n + $v %}", "End": True}
    ran = invoke("test-state", define(state), "-i", '{"n": 1}', "--variables", '{"v": 2}')
    assert (ran.exit_code, ran.stdout) == (0, "3\n")
    each = {"Type": "Map", "ItemProcessor": machine("Inner", Inner=state), "End": True}
    ran = invoke("test-state", define(machine("Each", Each=each)), "-s", "Inner", "-i", '{"n": 1}', "--inspect")
    assert ran.exit_code == 1
    assert ran.stderr.startswith("Inner (Pass)")
    assert "error                 States.QueryEvaluationError" in ran.stderr


def test_work_that_nobody_here_can_do(invoke: Invoke, define: Define) -> None:
    ran = invoke("test-state", define(MACHINE), "-i", INPUT)
    assert ran.exit_code == 2
    assert "lambda:invoke, which is not given here" in ran.stderr and "--mock" in ran.stderr
    celery = {"Type": "Task", "Resource": "celery:shop.charge", "End": True}
    assert invoke("test-state", define(celery)).exit_code == 2


def test_what_is_wrong_is_said(invoke: Invoke, define: Define) -> None:
    ran = invoke("test-state", define({"Type": "Pass"}))
    assert (ran.exit_code, "One of these fields is required: [Next, End]" in ran.stderr) == (1, True)
    ran = invoke("test-state", define({"Type": "Pass", "End": True}), "-s", "A")
    assert (ran.exit_code, "--state is for a state machine" in ran.stderr) == (2, True)
    ran = invoke("test-state", define(MACHINE), "--mock", "1", "--mock-error", "E")
    assert (ran.exit_code, "exclude each other" in ran.stderr) == (2, True)
    ran = invoke("test-state", define(MACHINE), "-s", "Nobody")
    assert (ran.exit_code, f"has no state 'Nobody'. It has {', '.join(MACHINE['States'])}." in ran.stderr) == (2, True)
    first = next(iter(MACHINE["States"]))
    ran = invoke("test-state", define(MACHINE), "-s", f"{first}x")
    assert (ran.exit_code, f"Did you mean '{first}'?" in ran.stderr) == (2, True)


def test_yaml(invoke: Invoke, define: Define) -> None:
    file = define("Type: Pass\nResult: {a: 1}\nEnd: true\n", "state.yaml")
    ran = invoke("test-state", file, "--json")
    assert json.loads(ran.stdout)["output"] == {"a": 1}
