from __future__ import annotations

import pytest

from stepwell.engine.asl.states import JitterStrategy, Retrier
from stepwell.engine.clock import Entropy
from stepwell.engine.machine import events
from stepwell.engine.machine.commands import ScheduleTask, Status
from stepwell.engine.machine.retry import delay_ms, matches
from stepwell.engine.states_errors import ErrorName
from tests.support.local_machine import START, LocalMachine, fails, raw
from tests.unit.machine.build import FUNCTION, machine, map_, pass_, task

TIMEOUT, HEARTBEAT = ErrorName.TIMEOUT, ErrorName.HEARTBEAT_TIMEOUT


@pytest.mark.parametrize(
    ("names", "error", "alias", "expected"),
    (
        (["Busy"], "Busy", None, True),
        (["Busy"], "Broken", None, False),
        (["Busy", "Broken"], "Broken", None, True),
        (["States.ALL"], "Anything", None, True),
        (["States.ALL"], None, None, True),
        (["States.ALL"], "States.DataLimitExceeded", None, True),
        (["States.ALL"], "States.Runtime", None, False),
        (["States.Runtime"], "States.Runtime", None, False),
        (["States.TaskFailed"], "Anything", None, True),
        (["States.TaskFailed"], TIMEOUT, None, False),
        (["States.TaskFailed"], TIMEOUT, HEARTBEAT, False),
        (["States.Timeout"], TIMEOUT, None, True),
        (["States.HeartbeatTimeout"], TIMEOUT, None, False),
        (["States.HeartbeatTimeout"], TIMEOUT, HEARTBEAT, True),
        (["States.Timeout"], TIMEOUT, HEARTBEAT, True),
        (["State.ALL"], "Anything", None, False),
        ([], "Busy", None, False),
    ),
)
def test_error_equals(names: list[str], error: str | None, alias: str | None, expected: bool) -> None:
    assert matches(names, error, alias) is expected


@pytest.mark.parametrize(
    ("retrier", "delays"),
    (
        (Retrier(("E",)), [1000, 2000, 4000]),
        (Retrier(("E",), interval_seconds=3, backoff_rate=1.5), [3000, 4500, 6750]),
        (Retrier(("E",), interval_seconds=10, backoff_rate=1.0), [10_000, 10_000, 10_000]),
        (Retrier(("E",), interval_seconds=2, backoff_rate=10.0, max_delay_seconds=15), [2000, 15_000, 15_000]),
    ),
)
def test_delays_grow_by_the_backoff_rate_up_to_the_longest(retrier: Retrier, delays: list[int]) -> None:
    assert [delay_ms(retrier, done, Entropy(1)) for done in range(3)] == delays


def test_a_delay_never_overflows() -> None:
    assert delay_ms(Retrier(("E",), backoff_rate=1e300), 5, Entropy(1)) == 31_622_400_000


def test_full_jitter_draws_between_zero_and_the_delay() -> None:
    retrier = Retrier(("E",), interval_seconds=8, jitter_strategy=JitterStrategy.FULL)
    drawn = [delay_ms(retrier, 0, Entropy(seed)) for seed in range(200)]
    assert min(drawn) < 800 and 7200 < max(drawn) < 8000
    assert drawn == [delay_ms(retrier, 0, Entropy(seed)) for seed in range(200)]


def test_each_retrier_counts_its_own_attempts() -> None:
    retry = [
        {"ErrorEquals": ["Busy"], "MaxAttempts": 1, "IntervalSeconds": 1},
        {"ErrorEquals": ["States.ALL"], "MaxAttempts": 2, "IntervalSeconds": 10},
    ]
    errors = iter(("Busy", "Broken", "Busy", "Broken"))
    attempts: list[ScheduleTask] = []

    def world(task: ScheduleTask) -> list[events.Event]:
        attempts.append(task)
        return [events.TaskFailed(task.task, next(errors))]

    run = LocalMachine(machine(task(Retry=retry)), world=world).run()
    # Busy is the first retrier's alone, even when that has no attempts left.
    assert [attempt.attempt for attempt in attempts] == [0, 1, 2]
    assert run.now - START == 1000 + 10_000
    assert run.finish is not None and (run.finish.status, run.finish.error) == (Status.FAILED, "Busy")
    assert run.types.count("LambdaFunctionFailed") == 3


def test_a_retry_writes_no_event_of_its_own_and_follows_the_failure() -> None:
    run = LocalMachine(machine(task(Retry=[{"ErrorEquals": ["E"], "MaxAttempts": 1}])), world=fails("E")).run()
    assert run.lines == [
        "1<-0 ExecutionStarted",
        "2<-0 TaskStateEntered A",
        "3<-2 LambdaFunctionScheduled",
        "4<-3 LambdaFunctionStarted",
        "5<-4 LambdaFunctionFailed",
        "6<-5 LambdaFunctionScheduled",
        "7<-6 LambdaFunctionStarted",
        "8<-7 LambdaFunctionFailed",
        "9<-8 ExecutionFailed",
    ]


def test_zero_attempts_is_no_retry() -> None:
    run = LocalMachine(machine(task(Retry=[{"ErrorEquals": ["E"], "MaxAttempts": 0}])), world=fails("E")).run()
    assert run.types.count("LambdaFunctionScheduled") == 1
    assert run.now == START


def test_counts_begin_anew_when_the_state_is_entered_again() -> None:
    retry = [{"ErrorEquals": ["E"], "MaxAttempts": 1}]
    catch = [{"ErrorEquals": ["States.ALL"], "Next": "B"}]
    definition = {
        "StartAt": "A",
        "States": {
            "A": task(Retry=retry, Catch=catch, End=True),
            "B": {
                "Type": "Choice",
                "Choices": [{"Variable": "$.Error", "StringEquals": "E", "Next": "A"}],
                "Default": "C",
            },
            "C": {"Type": "Succeed"},
        },
    }
    answers = iter(("E", "E", "E", "E", "Other"))
    run = LocalMachine(definition, world=lambda task: [events.TaskFailed(task.task, next(answers))]).run()
    assert run.types.count("TaskStateEntered") == 3
    assert run.finish is not None and run.finish.status is Status.SUCCEEDED


def test_the_context_object_counts_retries() -> None:
    counted = task(
        "arn:aws:states:::lambda:invoke",
        Parameters={"FunctionName": FUNCTION, "Payload": {"n.$": "$$.State.RetryCount"}},
        Retry=[{"ErrorEquals": ["E"], "MaxAttempts": 2}],
    )
    sent = []

    def world(task: ScheduleTask) -> list[events.Event]:
        sent.append(task.payload.value)
        return [events.TaskFailed(task.task, "E")]

    LocalMachine(machine(counted), world=world).run()
    assert sent == [{"FunctionName": FUNCTION, "Payload": {"n": n}} for n in range(3)]


def test_a_map_starts_over_when_it_is_retried() -> None:
    answers = iter((False, True, True, True))

    def world(task: ScheduleTask) -> list[events.Event]:
        return [events.TaskSucceeded(task.task, raw(1)) if next(answers) else events.TaskFailed(task.task, "E")]

    retried = map_(task(), MaxConcurrency=1, Retry=[{"ErrorEquals": ["E"], "IntervalSeconds": 7}])
    run = LocalMachine(machine(retried, pass_()), '{"items": [1, 2]}', world=world).run()
    assert run.output == [1, 1]
    assert run.now - START == 7000
    # Started again, it follows the event that failed and not MapIterationFailed.
    failed = run.types.index("LambdaFunctionFailed") + 1
    again = [line for line in run.lines if "MapStateStarted" in line][1]
    assert f"<-{failed} " in again
