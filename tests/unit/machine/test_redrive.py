from __future__ import annotations

import pytest

from stepwell.engine.machine import events
from stepwell.engine.machine.commands import Status
from tests.support.local_machine import START, LocalMachine, fails, raw, succeeds
from tests.unit.machine.build import ACTIVITY, Definition, machine, map_, parallel, pass_, task


def failed(definition: Definition, input: str = "{}", error: str = "E") -> LocalMachine:
    """An execution whose tasks have all failed."""
    run = LocalMachine(definition, input, world=fails(error)).run()
    assert run.finish is not None and run.finish.status is Status.FAILED
    run.world = succeeds("ok")
    run.now += 1000
    return run


def test_a_failed_task_is_scheduled_again_and_what_went_well_is_kept() -> None:
    run = failed(machine(pass_(), task(), pass_()))
    before = len(run.seen)
    run.redrive()
    run.run()
    assert run.lines[before - 1 :] == [
        "8<-7 ExecutionFailed",
        "9<-8 ExecutionRedriven",
        "10<-9 LambdaFunctionScheduled",
        "11<-10 LambdaFunctionStarted",
        "12<-11 LambdaFunctionSucceeded",
        "13<-12 TaskStateExited B",
        "14<-13 PassStateEntered C",
        "15<-14 PassStateExited C",
        "16<-15 ExecutionSucceeded",
    ]
    assert run.seen[before].details == {"redriveCount": 1}
    assert run.output == "ok"


def test_only_an_unsuccessful_execution_is_redriven() -> None:
    running = LocalMachine(machine(task())).start()
    assert running.redrive() == []
    running.apply(events.TaskSucceeded(1, raw(1)))
    assert running.redrive() == []


def test_retries_begin_anew_and_attempts_go_on_counting() -> None:
    run = failed(machine(task(Retry=[{"ErrorEquals": ["E"], "MaxAttempts": 1}])))
    run.world = fails("E")
    run.redrive()
    run.run()
    assert run.types.count("LambdaFunctionScheduled") == 4
    assert run.state.redrive_count == 1
    run.redrive()
    attempts = [task.attempt for task in run.tasks.values()]
    assert attempts == [4] and run.state.root.current.name == "A"


def test_time_outs_begin_anew() -> None:
    run = LocalMachine(machine(task(TimeoutSeconds=7), TimeoutSeconds=60)).run()
    assert run.finish is not None and run.finish.error == "States.Timeout"
    run.now = START + 1_000_000
    run.redrive()
    assert sorted(due - run.now for due in run.timers.values()) == [7000, 60_000]


def test_outcomes_of_the_time_before_come_to_nothing() -> None:
    run = LocalMachine(machine(task(ACTIVITY))).start()
    run.apply(events.StopRequested())
    run.redrive()
    assert run.apply(events.TaskSucceeded(1, raw("late"))) == []
    run.apply(events.TaskSucceeded(2, raw("now")))
    assert run.output == "now"


def test_fail_is_entered_again_and_fails_again() -> None:
    run = LocalMachine(machine(pass_(), {"Type": "Fail", "Error": "E"})).run()
    run.redrive()
    assert run.types[-3:] == ["ExecutionRedriven", "FailStateEntered", "ExecutionFailed"]
    assert run.finish is not None and run.finish.error == "E"


@pytest.mark.parametrize(
    ("fields", "left"), (({"Seconds": 60}, 60_000), ({"Timestamp": "2026-01-02T03:05:00Z"}, 44_322), ({"Timestamp": "2026-01-02T03:04:10Z"}, 0))
)  # fmt: skip
def test_a_wait_that_was_cut_off_waits_again(fields: Definition, left: int) -> None:
    run = LocalMachine(machine({"Type": "Wait", **fields})).start()
    run.now = START + 10_000
    run.apply(events.StopRequested())
    run.redrive()
    assert run.types.count("WaitStateEntered") == 1
    assert [due - run.now for due in run.timers.values()] == ([left] if left else [])
    run.run()
    assert run.finish is not None and run.finish.status is Status.SUCCEEDED


def test_a_choice_is_made_again() -> None:
    choice = {"Type": "Choice", "Choices": [{"Variable": "$$.Execution.RedriveCount", "NumericEquals": 1, "Next": "B"}]}
    run = LocalMachine(machine(choice, pass_(Parameters={"at.$": "$$.Execution.RedriveTime"}))).run()
    assert run.finish is not None and run.finish.error == "States.NoChoiceMatched"
    run.now = START + 5000
    run.redrive()
    assert run.types.count("ChoiceStateEntered") == 1
    assert run.output == {"at": "2026-01-02T03:04:10.678Z"}


def test_only_unsuccessful_branches_run_again() -> None:
    run = LocalMachine(machine(parallel(task(), task(), pass_(Result="p")))).start()
    run.apply(events.TaskSucceeded(1, raw("kept")))
    run.apply(events.TaskFailed(2, "E"))
    before = len(run.seen)
    run.redrive()
    assert [task.state for task in run.tasks.values()] == ["X2"]
    run.apply(events.TaskSucceeded(3, raw("again")))
    assert run.output == ["kept", "again", "p"]
    assert "ParallelStateStarted" not in run.types[before:] and "TaskStateEntered" not in run.types[before:]


def test_aborted_branches_go_on_where_they_were() -> None:
    run = LocalMachine(machine(parallel(task(), {"Type": "Wait", "Seconds": 5}))).start()
    run.apply(events.TaskFailed(1, "E"))
    run.redrive()
    assert len(run.tasks) == 1 and len(run.timers) == 1
    run.world = succeeds(1)
    run.apply(events.TaskSucceeded(2, raw(1)))
    run.run()
    assert run.output == [1, {}]


@pytest.mark.parametrize("crash", (False, True))
def test_iterations_are_kept_gone_on_with_or_begun(crash: bool) -> None:
    run = LocalMachine(machine(map_(task(), MaxConcurrency=2)), '{"items": [1, 2, 3, 4]}').start()
    run.apply(events.TaskSucceeded(1, raw("first")))  # the third iteration begins
    run.apply(events.TaskFailed(2, "E"))
    if crash:
        run.crash()
    run.redrive()
    assert [task.payload.value for task in run.tasks.values()] == [2, 3]
    run.world = lambda task: [events.TaskSucceeded(task.task, raw([task.payload.value]))]
    run.apply(events.TaskSucceeded(4, raw([2])))
    run.apply(events.TaskSucceeded(5, raw([3])))
    run.run()
    assert run.output == ["first", [2], [3], [4]]
    assert run.types.count("MapStateStarted") == 1
    assert run.types.count("MapIterationStarted") == 4


def test_all_branches_run_again_when_their_output_was_too_large() -> None:
    big = "x" * 200_000
    run = LocalMachine(machine(parallel(task(), task())), world=succeeds(big)).run()
    assert run.finish is not None and run.finish.error == "States.DataLimitExceeded"
    run.world = succeeds("small")
    run.redrive()
    run.run()
    assert run.types.count("ParallelStateStarted") == 2
    assert run.output == ["small", "small"]


def test_an_execution_may_be_redriven_after_any_unsuccessful_end() -> None:
    run = LocalMachine(machine(task(), TimeoutSeconds=5)).run()
    assert run.finish is not None and run.finish.status is Status.TIMED_OUT
    run.redrive()
    run.apply(events.StopRequested())
    run.redrive()
    run.apply(events.TaskFailed(max(run.tasks), "E"))
    run.redrive()
    run.apply(events.TaskSucceeded(max(run.tasks), raw(1)))
    assert run.output == 1
    assert [event.details for event in run.seen if event.type == "ExecutionRedriven"] == [
        {"redriveCount": count} for count in (1, 2, 3)
    ]
    assert len({finish.status for finish in run.finishes}) == 4


def test_nothing_goes_on_where_a_map_cannot_begin_its_iterations_again() -> None:
    """Its items cannot be read now either: the execution has failed before what stands beside the Map has gone on."""
    states = parallel(map_(pass_(), ItemSelector={"v.$": "$.absent"}), pass_())
    run = LocalMachine(machine(states), '{"items": [1]}').run()
    assert run.finish is not None and run.finish.status is Status.FAILED
    run.redrive()
    assert run.types[-2:] == ["ExecutionRedriven", "ExecutionFailed"]
    assert not run.state.ready


def test_a_map_that_fails_beginning_again_takes_what_stands_beside_it_with_it() -> None:
    """The same with an error that is retried: the branches of the Parallel are gone, and none of them goes on."""
    large = {"v.$": "$$.Execution.Input.large", "w.$": "$$.Execution.Input.large"}
    retry = [{"ErrorEquals": ["States.DataLimitExceeded"], "MaxAttempts": 1}]
    states = parallel(map_(pass_(), ItemSelector=large), task(), Retry=retry)
    run = LocalMachine(machine(states), '{"items": [1], "large": "' + "x" * 200_000 + '"}').run()
    assert run.finish is not None and run.finish.error == "States.DataLimitExceeded"
    run.redrive()
    assert run.types[-1] == "MapStateAborted"
    assert not run.tasks and len(run.timers) == 1 and list(run.state.frames) == [0]
