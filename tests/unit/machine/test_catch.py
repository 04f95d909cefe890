from __future__ import annotations

import pytest

from stepwell.engine.jsontypes import Json
from stepwell.engine.machine.commands import Status
from tests.support.local_machine import fails, run, succeeds
from tests.unit.machine.build import Definition, machine, parallel, pass_, task


def catching(*names: str, **fields: Json) -> list[Definition]:
    return [{"ErrorEquals": list(names), "Next": "B", **fields}]


@pytest.mark.parametrize(
    ("path", "output"),
    (
        ({}, {"Error": "E", "Cause": "why"}),
        ({"ResultPath": "$"}, {"Error": "E", "Cause": "why"}),
        ({"ResultPath": "$.error"}, {"a": 1, "error": {"Error": "E", "Cause": "why"}}),
        ({"ResultPath": None}, {"a": 1}),
    ),
)
def test_the_error_output_goes_where_result_path_says(path: Definition, output: Json) -> None:
    done = run(machine(task(Catch=catching("E", **path)), pass_()), '{"a": 1}', world=fails("E", "why"))
    assert done.output == output
    assert done.lines[5:7] == ["6<-5 TaskStateExited A", "7<-6 PassStateEntered B"]


def test_output_path_is_not_applied_to_a_caught_error() -> None:
    done = run(machine(task(OutputPath="$.absent", Catch=catching("E")), pass_()), world=fails("E"))
    assert done.output == {"Error": "E", "Cause": ""}


def test_an_error_without_name_and_cause_is_caught_as_empty_texts() -> None:
    done = run(machine(parallel({"Type": "Fail"}, Catch=catching("States.ALL")), pass_()))
    assert done.output == {"Error": "", "Cause": ""}


def test_a_catcher_may_assign_from_the_error() -> None:
    catch = catching("E", Assign={"why.$": "$.Cause"}, ResultPath=None)
    done = run(machine(task(Catch=catch), pass_(Parameters={"why.$": "$why"})), world=fails("E", "full"))
    assert done.output == {"why": "full"}


def test_retriers_come_before_catchers() -> None:
    retried = task(Retry=[{"ErrorEquals": ["E"], "MaxAttempts": 2}], Catch=catching("E"))
    done = run(machine(retried, pass_()), world=fails("E"))
    assert done.types.count("LambdaFunctionFailed") == 3
    assert done.finish is not None and done.finish.status is Status.SUCCEEDED


def test_states_runtime_is_never_caught() -> None:
    broken = task(InputPath="$.absent", Retry=[{"ErrorEquals": ["States.ALL"]}], Catch=catching("States.ALL"))
    done = run(machine(broken, pass_()))
    assert done.finish is not None and done.finish.error == "States.Runtime"
    assert done.types == ["ExecutionStarted", "TaskStateEntered", "ExecutionFailed"]


def test_a_failed_intrinsic_can_be_caught() -> None:
    broken = task(Parameters={"x.$": "States.ArrayGetItem($.list, 5)"}, Catch=catching("States.IntrinsicFailure"))
    done = run(machine(broken, pass_()), '{"list": [1]}')
    assert isinstance(done.output, dict) and done.output["Error"] == "States.IntrinsicFailure"


def test_an_error_in_the_catcher_itself_is_the_states_new_error() -> None:
    # The ResultPath leads into a number: not the catcher's own matter to catch, but its parent's.
    inner = task(Catch=[{"ErrorEquals": ["States.ALL"], "ResultPath": "$.a.b", "Next": "Inner2"}], Next="Inner2")
    outer = {
        "Type": "Parallel",
        "Branches": [{"StartAt": "Inner", "States": {"Inner": inner, "Inner2": pass_(End=True)}}],
        "Catch": catching("States.ResultPathMatchFailure"),
    }
    done = run(machine(outer, pass_()), '{"a": 1}', world=fails("E"))
    assert isinstance(done.output, dict) and done.output["Error"] == "States.ResultPathMatchFailure"
    assert "state 'Inner' (entered at the event id #4)" in str(done.output["Cause"])


def test_an_error_in_the_catcher_of_a_parallel_names_the_parallel() -> None:
    broken = parallel({"Type": "Fail", "Error": "E"}, Catch=catching("E", ResultPath="$.a.b"))
    done = run(machine(broken, pass_()), '{"a": 1}')
    assert done.finish is not None and done.finish.error == "States.ResultPathMatchFailure"
    assert "state 'A' (entered at the event id #2)" in (done.finish.cause or "")
    assert done.types[-2:] == ["ParallelStateFailed", "ExecutionFailed"]


def test_success_passes_catchers_by() -> None:
    done = run(machine(task(Catch=catching("States.ALL"), End=True), pass_(Result=0)), world=succeeds(5))
    assert done.output == 5
