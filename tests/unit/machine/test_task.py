from __future__ import annotations

from typing import Any

import pytest

from stepwell.engine import ids
from stepwell.engine.limits import MAX_PAYLOAD_BYTES
from stepwell.engine.machine import events
from stepwell.engine.machine.commands import Status
from tests.support.local_machine import START, LocalMachine, fails, raw, run, silent, succeeds
from tests.unit.machine.build import ACTIVITY, CALLBACK, CELERY, FUNCTION, machine, pass_, task

INVOKE = "arn:aws:states:::lambda:invoke"


@pytest.mark.parametrize(
    ("resource", "types"),
    (
        (FUNCTION, ["LambdaFunctionScheduled", "LambdaFunctionStarted", "LambdaFunctionSucceeded"]),
        (INVOKE, ["TaskScheduled", "TaskStarted", "TaskSucceeded"]),
        (ACTIVITY, ["ActivityScheduled", "ActivityStarted", "ActivitySucceeded"]),
        (CELERY, ["TaskScheduled", "TaskStarted", "TaskSucceeded"]),
    ),
)
def test_each_kind_of_resource_has_its_family_of_events(resource: str, types: list[str]) -> None:
    parameters = {"FunctionName": FUNCTION} if resource == INVOKE else {}
    done = run(machine(task(resource, Parameters=parameters)), world=succeeds({"ok": 1}))
    assert done.types[2:5] == types
    assert done.output == {"ok": 1}


def test_workers_of_activities_say_when_they_start() -> None:
    running = LocalMachine(machine(task(ACTIVITY))).start()
    assert running.types[-1] == "ActivityScheduled"
    running.apply(events.TaskStarted(1, "worker-7"))
    assert running.seen[-1].details == {"workerName": "worker-7"}
    assert running.started == [1]
    assert running.apply(events.TaskStarted(1, "worker-8")) == []
    running.apply(events.TaskSucceeded(1, raw(5)))
    assert running.output == 5


def test_other_tasks_start_when_they_are_scheduled_and_only_once() -> None:
    running = LocalMachine(machine(task())).start()
    assert running.types[-1] == "LambdaFunctionStarted"
    assert running.apply(events.TaskStarted(1, "worker")) == []


@pytest.mark.parametrize(
    ("resource", "stage", "types"),
    (
        (FUNCTION, "schedule", ["LambdaFunctionScheduleFailed"]),
        (FUNCTION, "start", ["LambdaFunctionStartFailed"]),
        (FUNCTION, "run", ["LambdaFunctionFailed"]),
        (CALLBACK, "schedule", ["TaskStartFailed"]),
        (CALLBACK, "start", ["TaskStartFailed"]),
        (CALLBACK, "submit", ["TaskSubmitFailed"]),
        (ACTIVITY, "schedule", ["ActivityScheduleFailed"]),
        (ACTIVITY, "run", ["ActivityStarted", "ActivityFailed"]),
        (CELERY, "run", ["TaskStarted", "TaskFailed"]),
    ),
)
def test_a_failure_is_told_by_how_far_the_task_came(resource: str, stage: str, types: list[str]) -> None:
    parameters = {"QueueUrl": "http://q", "MessageBody.$": "$$.Task.Token"} if resource == CALLBACK else {}
    running = LocalMachine(machine(task(resource, Parameters=parameters))).start()
    written = running.apply(events.TaskFailed(1, "E", "because", stage))
    assert [event.type for event in written] == [*types, "ExecutionFailed"]
    details = written[-2].details or {}
    assert (details["error"], details["cause"]) == ("E", "because")


def test_a_callback_is_submitted_before_it_succeeds_and_gets_its_token() -> None:
    parameters = {"QueueUrl": "http://q", "MessageBody": {"token.$": "$$.Task.Token"}}
    running = LocalMachine(machine(task(CALLBACK, Parameters=parameters))).start()
    sent: Any = running.tasks[1].payload.value
    token = ids.parse_task_token(sent["MessageBody"]["token"])
    assert token == ids.TaskToken(ids.ExecutionId(running.info.id), 1, running.tasks[1].secret)
    running.apply(events.TaskSubmitted(1, raw({"MessageId": "m"})))
    running.apply(events.TaskSucceeded(1, raw("answer")))
    assert running.types[2:6] == ["TaskScheduled", "TaskStarted", "TaskSubmitted", "TaskSucceeded"]
    assert running.output == "answer"


def test_a_request_that_was_made_twice_is_submitted_once() -> None:
    parameters = {"QueueUrl": "http://q", "MessageBody": {"token.$": "$$.Task.Token"}}
    running = LocalMachine(machine(task(CALLBACK, Parameters=parameters))).start()
    running.apply(events.TaskSubmitted(1, raw({"MessageId": "m"})))
    assert running.started == [1], "so that it is not made once more"
    running.apply(events.TaskSubmitted(1, raw({"MessageId": "n"})))
    assert running.types[2:] == ["TaskScheduled", "TaskStarted", "TaskSubmitted"] and running.started == [1]


def test_only_tasks_that_may_be_answered_by_token_have_one() -> None:
    direct = run(machine(task(INVOKE, Parameters={"FunctionName": FUNCTION, "Payload.$": "$$.Task.Token"})))
    assert direct.finish is not None and direct.finish.error == "States.Runtime"
    nested = task(
        "arn:aws:states:::states:startExecution.sync", Parameters={"StateMachineArn": "m", "Input.$": "$$.Task"}
    )
    assert LocalMachine(machine(nested)).start().tasks


def test_every_attempt_has_a_secret_and_number_of_its_own() -> None:
    running = LocalMachine(machine(task(ACTIVITY, Retry=[{"ErrorEquals": ["E"]}]))).start()
    first = running.tasks[1]
    running.apply(events.TaskFailed(1, "E"))
    running.fire()
    second = running.tasks[2]
    assert first.secret != second.secret
    assert (first.entry, first.attempt) == (2, 0) and (second.entry, second.attempt) == (2, 1)
    assert running.apply(events.TaskSucceeded(1, raw("late"))) == []


def test_a_time_out_counts_from_the_schedule() -> None:
    done = run(machine(task(TimeoutSeconds=5)))
    assert done.now - START == 5000
    assert done.types[-2:] == ["LambdaFunctionTimedOut", "ExecutionFailed"]
    assert done.finish is not None and (done.finish.error, done.finish.cause) == ("States.Timeout", None)


def test_an_activity_is_given_its_time_once_a_worker_has_it() -> None:
    running = LocalMachine(machine(task(ACTIVITY, TimeoutSeconds=5, HeartbeatSeconds=3))).start()
    assert running.timers == {}
    running.now += 60_000
    running.apply(events.TaskStarted(1, "w"))
    assert sorted(due - running.now for due in running.timers.values()) == [3000, 5000]


@pytest.mark.parametrize("how", ("timer", "event"))
def test_a_missed_heartbeat_shows_as_a_time_out_and_can_be_caught_by_its_own_name(how: str) -> None:
    beating = task(
        HeartbeatSeconds=2,
        TimeoutSeconds=60,
        Retry=[{"ErrorEquals": ["States.TaskFailed"]}],
        Catch=[{"ErrorEquals": ["States.HeartbeatTimeout"], "Next": "B"}],
    )
    running = LocalMachine(machine(beating, pass_())).start()
    if how == "timer":
        running.fire()
    else:
        running.apply(events.HeartbeatMissed(1))
    assert running.types.count("LambdaFunctionTimedOut") == 1
    assert running.output == {"Error": "States.Timeout", "Cause": ""}


def test_timers_end_with_their_task() -> None:
    running = LocalMachine(machine(task(TimeoutSeconds=60, HeartbeatSeconds=5), {"Type": "Wait", "Seconds": 9})).start()
    timers = set(running.timers)
    running.apply(events.TaskSucceeded(1, raw({})))
    assert len(running.timers) == 1 and not timers & set(running.timers)
    for timer in timers:
        assert running.apply(events.TimerFired(timer)) == []


def test_time_outs_may_come_from_the_input() -> None:
    timed = task(CELERY, TimeoutSecondsPath="$.t", HeartbeatSecondsPath="$.h")
    running = LocalMachine(machine(timed), '{"t": 30, "h": 4.0}').start()
    assert (running.seen[2].details or {})["timeoutInSeconds"] == 30
    assert (running.tasks[1].timeout_seconds, running.tasks[1].heartbeat_seconds) == (30, 4)


@pytest.mark.parametrize("value", ('"5 s"', '"2.5"', "true", "2.5", "0", "-1", "null", "{}"))
def test_a_time_out_that_is_no_whole_number_ends_the_execution(value: str) -> None:
    done = run(machine(task(TimeoutSecondsPath="$.t")), f'{{"t": {value}}}')
    assert done.finish is not None and done.finish.error == "States.Runtime"
    assert "TimeoutSecondsPath" in (done.finish.cause or "")
    assert done.types == ["ExecutionStarted", "TaskStateEntered", "ExecutionFailed"]


@pytest.mark.parametrize(("resource", "named"), ((FUNCTION, FUNCTION), (CELERY, "celery")))
def test_a_result_that_is_too_large_fails_the_task(resource: str, named: str) -> None:
    large = "x" * (MAX_PAYLOAD_BYTES - 1)
    done = run(machine(task(resource)), world=succeeds(large))
    assert done.types[-2].endswith("Failed")
    assert done.finish is not None
    assert (done.finish.error, done.finish.cause) == (
        "States.DataLimitExceeded",
        f"The state/task '{named}' returned a result with a size exceeding the maximum number of bytes service limit.",
    )
    assert run(machine(task(resource)), world=succeeds(large[1:])).output == large[1:]


def test_an_output_that_grows_too_large_fails_the_state() -> None:
    both = task(ResultPath="$.got", Catch=[{"ErrorEquals": ["States.DataLimitExceeded"], "Next": "B"}])
    done = run(machine(both, pass_()), world=succeeds("x" * (MAX_PAYLOAD_BYTES - 4)))
    assert "States.DataLimitExceeded" in str(done.output)


def test_the_result_flows_through_selector_assign_result_path_and_output_path() -> None:
    flowing = task(
        ResultSelector={"id.$": "$.deep.id"}, ResultPath="$.got", OutputPath="$.got", Assign={"kept.$": "$.id"}
    )
    after = pass_(Parameters={"kept.$": "$kept", "in.$": "$"})
    done = run(machine(flowing, after), '{"a": 1}', world=succeeds({"deep": {"id": 7}, "noise": 1}))
    assert done.output == {"kept": 7, "in": {"id": 7}}
    exited = next(event for event in done.seen if event.type == "TaskStateExited")
    assert (exited.details or {})["assignedVariables"] == {"kept": "7"}


def test_a_broken_result_path_is_the_states_error() -> None:
    done = run(machine(task(ResultPath="$.a.b")), '{"a": 1}', world=succeeds(1))
    assert done.finish is not None and done.finish.error == "States.ResultPathMatchFailure"
    assert "LambdaFunctionSucceeded" in done.types


def test_nothing_comes_of_a_task_that_is_closed() -> None:
    done = run(machine(task()), world=fails("E"))
    for late in (
        events.TaskSucceeded(1, raw(1)),
        events.TaskFailed(1),
        events.TaskStarted(1),
        events.HeartbeatMissed(1),
    ):
        assert done.apply(late) == []
    assert done.finish is not None and done.finish.status is Status.FAILED


def test_a_silent_task_waits_for_ever() -> None:
    waiting = run(machine(task()), world=silent)
    assert waiting.finish is None and waiting.timers == {}
