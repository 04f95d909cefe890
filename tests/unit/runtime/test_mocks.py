"""Executions whose tasks are answered by mocks, on a virtual clock."""

from __future__ import annotations

from typing import Any

import pytest

from stepwell.engine.asl.parse import parse_definition
from stepwell.engine.jsontypes import Document, Json
from stepwell.engine.machine.commands import Finish
from stepwell.engine.machine.decisions import Decision, DecisionKind
from stepwell.engine.runtime.local import LocalExecution
from stepwell.engine.runtime.mock_config import Entry, MockedResponse, Return, Throw
from stepwell.engine.runtime.mocks import (
    MockedRun,
    MockedTasks,
    StuckRunError,
    UnperformedError,
    without_envelope,
)

NOW = 1_800_000_000_000
INVOKE = "arn:aws:states:::lambda:invoke"
FUNCTION = "arn:aws:lambda:us-east-1:000000000000:function:work"


def task(resource: str = INVOKE, **fields: Any) -> dict[str, Any]:
    return {"Type": "Task", "Resource": resource, **({} if "Next" in fields else {"End": True}), **fields}


def machine(start: str, **states: Any) -> dict[str, Any]:
    return {"StartAt": start, "States": states}


def answers(*given: Return | Throw, name: str = "r") -> MockedResponse:
    return MockedResponse(name, tuple(Entry(index, index, one) for index, one in enumerate(given)))


def run(
    definition: dict[str, Any], input: Any = None, **mocks: MockedResponse
) -> tuple[Finish, LocalExecution, MockedTasks]:
    execution = LocalExecution(parse_definition(definition), NOW)
    execution.start(Document.of(input))
    tasks = MockedTasks(mocks)
    return MockedRun(execution, [tasks], tasks.read_items).run(), execution, tasks


def output(finish: Finish) -> Json:
    assert finish.output is not None, finish
    return finish.output.value


def types(execution: LocalExecution) -> list[str]:
    return [event.type for _, event in execution.history]


def test_each_attempt_is_an_invocation() -> None:
    retry = [{"ErrorEquals": ["Busy"], "IntervalSeconds": 10, "BackoffRate": 2}]
    finish, execution, tasks = run(
        machine("T", T=task(Retry=retry)), T=answers(Throw("Busy"), Throw("Busy", "still"), Return({"Payload": 1}))
    )
    assert output(finish) == {"Payload": 1}
    assert execution.now == NOW + 30_000
    assert (tasks.invocations["T"], tasks.unused) == (3, [])


def test_invocations_are_counted_over_visits_iterations_and_branches() -> None:
    inner = machine("I", I=task())
    each = {"Type": "Map", "MaxConcurrency": 1, "ItemProcessor": inner, "End": True}
    mocks = answers(*(Return(number) for number in range(3)))
    assert output(run(machine("M", M=each), [0, 0, 0], I=mocks)[0]) == [0, 1, 2]
    choice = {"Type": "Choice", "Choices": [{"Variable": "$.n", "NumericLessThan": 2, "Next": "T"}], "Default": "S"}
    loop = machine("T", T=task(ResultPath="$.n", Next="C"), C=choice, S={"Type": "Succeed"})
    assert output(run(loop, {}, T=mocks)[0]) == {"n": 2}


def test_an_invocation_without_an_answer_fails_the_execution_and_nothing_catches_it() -> None:
    retry = [{"ErrorEquals": ["States.ALL"]}]
    catch = [{"ErrorEquals": ["States.ALL"], "Next": "S"}]
    definition = machine("T", T=task(Retry=retry, Catch=catch), S={"Type": "Succeed"})
    finish, _, tasks = run(definition, T=answers(Throw("A"), Throw("B"), name="two"))
    assert (finish.status, finish.error) == ("FAILED", "States.Runtime")
    assert finish.cause is not None
    assert "'two' answers the invocations 0-1, and this is number 2" in finish.cause
    assert tasks.exhausted == [finish.cause]


@pytest.mark.parametrize("pattern", (".sync", ".sync:2", ".waitForTaskToken"))
@pytest.mark.parametrize(("answer", "end"), ((Return({"a": 1}), "TaskSucceeded"), (Throw("E", "c"), "TaskFailed")))
def test_a_mock_of_a_job_is_how_it_ends(pattern: str, answer: Return | Throw, end: str) -> None:
    resource = f"arn:aws:states:::states:startExecution{pattern}"
    parameters: dict[str, Any] = {"StateMachineArn": "arn:aws:states:us-east-1:000000000000:stateMachine:m"}
    if pattern == ".waitForTaskToken":
        parameters["Input"] = {"token.$": "$$.Task.Token"}
    finish, execution, _ = run(machine("T", T=task(resource, Parameters=parameters)), {}, T=answers(answer))
    assert types(execution)[2:6] == ["TaskScheduled", "TaskStarted", "TaskSubmitted", end]
    assert (finish.error, finish.cause) == ((None, None) if end == "TaskSucceeded" else ("E", "c"))


def test_a_function_by_its_arn_gives_what_is_in_the_envelope() -> None:
    envelope: Json = {"StatusCode": 200, "Payload": {"body": 1}, "ExecutedVersion": "$LATEST"}
    assert output(run(machine("T", T=task(FUNCTION)), T=answers(Return(envelope)))[0]) == {"body": 1}
    assert output(run(machine("T", T=task()), T=answers(Return(envelope)))[0]) == envelope


@pytest.mark.parametrize("value", ("x", None, {"Payload": 1}, {"StatusCode": 200, "Payload": 1, "mine": 1}, [1]))
def test_any_other_value_is_the_functions_own(value: Json) -> None:
    assert without_envelope(value) == value


@pytest.mark.parametrize(
    ("error", "matched", "shown", "event"),
    (
        ("States.Timeout", "States.Timeout", "States.Timeout", "TaskTimedOut"),
        ("States.HeartbeatTimeout", "States.HeartbeatTimeout", "States.Timeout", "TaskTimedOut"),
        ("States.HeartbeatTimeout", "States.Timeout", "States.Timeout", "TaskTimedOut"),
        ("States.TaskFailed", "States.TaskFailed", "States.TaskFailed", "TaskFailed"),
        ("States.Permissions", "States.Permissions", "States.Permissions", "TaskFailed"),
        ("Lambda.TooManyRequestsException", "States.TaskFailed", "Lambda.TooManyRequestsException", "TaskFailed"),
    ),
)
def test_errors_of_the_language_can_be_thrown(error: str, matched: str, shown: str, event: str) -> None:
    catch = [{"ErrorEquals": [matched], "Next": "S"}]
    finish, execution, _ = run(machine("T", T=task(Catch=catch), S={"Type": "Succeed"}), T=answers(Throw(error, "why")))
    assert output(finish) == {"Error": shown, "Cause": "why"}
    assert event in types(execution)


def test_a_timeout_is_not_a_failed_task_and_a_runtime_error_is_caught_by_nothing() -> None:
    catch = [{"ErrorEquals": ["States.TaskFailed"], "Next": "S"}]
    definition = machine("T", T=task(Catch=catch), S={"Type": "Succeed"})
    assert run(definition, T=answers(Throw("States.Timeout")))[0].error == "States.Timeout"
    definition["States"]["T"]["Catch"][0]["ErrorEquals"] = ["States.ALL"]
    assert run(definition, T=answers(Throw("States.Runtime", "broken")))[0].error == "States.Runtime"


def test_a_task_takes_as_long_as_its_mock_says() -> None:
    branches = [machine(name, **{name: task(TimeoutSeconds=20)}) for name in ("A", "B")]
    parallel = machine("P", P={"Type": "Parallel", "Branches": branches, "End": True})
    both = {"A": answers(Return("a", 20_000)), "B": answers(Return("b", 15_000))}
    finish, execution, _ = run(parallel, **both)
    assert (output(finish), execution.now) == (["a", "b"], NOW + 20_000)
    finish, execution, _ = run(parallel, **{**both, "A": answers(Return("a", 20_001))})
    assert (finish.error, execution.now) == ("States.Timeout", NOW + 20_000)


def distributed(**fields: Any) -> dict[str, Any]:
    processor = {
        **machine("I", I=task(ResultPath="$.got")),
        "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
    }
    return machine("M", M={"Type": "Map", "ItemProcessor": processor, "End": True, **fields})


@pytest.mark.parametrize(("limit", "seconds"), ((0, 30), (1, 65), (2, 35)))
def test_children_of_a_distributed_map_share_the_mocks_and_run_beside_each_other(limit: int, seconds: int) -> None:
    mocks = answers(Return(1, 30_000), Return(2, 20_000), Return(3, 15_000))
    finish, execution, tasks = run(distributed(MaxConcurrency=limit), [{"n": 1}, {"n": 2}, {"n": 3}], I=mocks)
    assert output(finish) == [{"n": 1, "got": 1}, {"n": 2, "got": 2}, {"n": 3, "got": 3}]
    assert (execution.now, tasks.invocations["I"]) == (NOW + 1000 * seconds, 3)
    assert [len(child.history) > 0 for child in execution.children] == [True] * 3


def test_a_distributed_map_fails_by_its_threshold_and_tolerates_what_it_may() -> None:
    mocks = answers(Return(1), Throw("E"), Return(3))
    items = [{"n": number} for number in range(3)]
    assert run(distributed(), items, I=mocks)[0].error == "States.ExceedToleratedFailureThreshold"
    assert output(run(distributed(ToleratedFailureCount=1), items, I=mocks)[0]) == [
        {"n": 0, "got": 1},
        {"n": 2, "got": 3},
    ]


READER = {
    "Resource": "arn:aws:states:::s3:getObject",
    "Parameters": {"Bucket": "b", "Key": "k"},
    "ReaderConfig": {"InputType": "JSON"},
}
WRITER = {"Resource": "arn:aws:states:::s3:putObject", "Parameters": {"Bucket": "out", "Prefix": "p"}}


@pytest.mark.parametrize("items", ([{"n": 1}, {"n": 2}], {"a": {"n": 1}, "b": {"n": 2}}))
def test_what_an_item_reader_reads_is_mocked_and_results_are_written_nowhere(items: Json) -> None:
    mocks = {"M": answers(Return(items)), "I": answers(Return("x"), Return("y"))}
    selector = {"value.$": "$$.Map.Item.Value.n"}
    finish, _, tasks = run(distributed(ItemReader=READER, ItemSelector=selector), {}, **mocks)
    assert output(finish) == [{"value": 1, "got": "x"}, {"value": 2, "got": "y"}]
    assert (tasks.unused, tasks.invocations["M"]) == ([], 1)
    written = output(run(distributed(ItemReader=READER, ResultWriter=WRITER), {}, **mocks)[0])
    assert isinstance(written, dict) and isinstance(details := written["ResultWriterDetails"], dict)
    assert (details["Bucket"], str(details["Key"])[:2], str(details["Key"])[-14:]) == ("out", "p/", "/manifest.json")


def test_an_item_reader_that_fails_and_one_that_nobody_mocks() -> None:
    catch = [{"ErrorEquals": ["States.ItemReaderFailed"], "Next": "S"}]
    definition = distributed(ItemReader=READER, Catch=catch)
    definition["States"]["S"] = {"Type": "Succeed"}
    assert output(run(definition, {}, M=answers(Throw("States.ItemReaderFailed", "gone")))[0]) == {
        "Error": "States.ItemReaderFailed",
        "Cause": "gone",
    }
    assert run(distributed(ItemReader=READER), {}, M=answers(Return("no array")))[0].error == "States.ItemReaderFailed"
    with pytest.raises(UnperformedError, match="State 'M' reads its items by getObject, and no mock"):
        run(definition, {})
    _, _, tasks = run(distributed(ItemReader=READER), {}, M=MockedResponse("none", ()))
    assert "answers the invocations none, and this is number 0" in tasks.exhausted[0]


def test_a_map_run_beside_something_faster_and_one_that_is_swept_away() -> None:
    branches = [
        distributed(),
        machine("W", W={"Type": "Wait", "Seconds": 10, "Next": "X"}, X={"Type": "Fail", "Error": "E"}),
    ]
    parallel = {"Type": "Parallel", "Branches": branches, "Catch": [{"ErrorEquals": ["E"], "Next": "R"}], "Next": "R"}
    definition = machine("P", P=parallel, R={"Type": "Wait", "Seconds": 50, "End": True})
    finish, execution, _ = run(definition, [{}], I=answers(Return(1, 30_000)))
    assert (finish.status, execution.now) == ("SUCCEEDED", NOW + 60_000)
    assert "MapRunAborted" in types(execution) and "MapRunSucceeded" not in types(execution)


def test_it_goes_no_further_than_it_is_told() -> None:
    wait = {"Type": "Wait", "Seconds": 60, "Next": "T"}
    execution = LocalExecution(parse_definition(machine("W", W=wait, T=task())), NOW)
    execution.start()
    tasks = MockedTasks({"T": answers(Return(1, 5000))})
    mocked = MockedRun(execution, [tasks], tasks.read_items)
    assert (mocked.until(NOW + 59_999), execution.now, execution.open_tasks) == (None, NOW + 59_999, {})
    assert mocked.until(NOW + 64_999) is None
    assert list(execution.open_tasks) == [1]
    assert mocked.until(NOW + 65_000) is not None


def test_a_task_that_nobody_answers() -> None:
    with pytest.raises(UnperformedError, match="State 'T' calls celery:x, and no mock answers it"):
        run(machine("T", T=task("celery:x")))
    execution = LocalExecution(parse_definition(machine("T", T=task("celery:x"))), NOW)
    execution.start()
    mocked = MockedRun(execution, [lambda task: None], MockedTasks({}).read_items)
    with pytest.raises(UnperformedError):
        mocked.run()
    with pytest.raises(StuckRunError, match="waits for an answer to 'T'"):
        mocked.run()


def test_which_way_it_went() -> None:
    rules = [
        {"Variable": "$.n", "NumericEquals": 1, "Next": "T"},
        {"Variable": "$.n", "NumericEquals": 2, "Next": "T"},
    ]
    definition = machine(
        "C",
        C={"Type": "Choice", "Choices": rules, "Default": "S"},
        T=task(
            Retry=[{"ErrorEquals": ["A"]}, {"ErrorEquals": ["B"], "MaxAttempts": 2}],
            Catch=[{"ErrorEquals": ["B"], "Next": "S"}, {"ErrorEquals": ["C"], "Next": "S"}],
        ),
        S={"Type": "Succeed"},
    )
    mocks = answers(Throw("B"), Throw("B"), Throw("C"))
    assert run(definition, {"n": 2}, T=mocks)[1].decisions == [
        Decision("C", DecisionKind.RULE, 1),
        Decision("T", DecisionKind.RETRY, 1),
        Decision("T", DecisionKind.RETRY, 1),
        Decision("T", DecisionKind.CATCH, 1),
    ]
    assert run(definition, {"n": 3}, T=mocks)[1].decisions == [Decision("C", DecisionKind.DEFAULT)]
