"""`LocalExecution`: one execution in memory, driven by a script and a clock that only the test moves."""

from __future__ import annotations

from typing import Any

import pytest

from stepwell.engine.asl.parse import parse_definition
from stepwell.engine.clock import Entropy
from stepwell.engine.jsontypes import Document
from stepwell.engine.machine.commands import Status
from stepwell.engine.machine.history import HistoryEvent
from stepwell.engine.machine.snapshot import ExecutionState
from stepwell.engine.machine.transition import transition
from stepwell.engine.runtime.local import (
    Answer,
    CountedSeeds,
    Failed,
    LocalExecution,
    Script,
    Silent,
    StuckError,
    Succeeded,
)
from tests.cli.conftest import machine

NOW = 1_800_000_000_000
DAY = 86_400_000
FUNCTION = "arn:aws:lambda:us-east-1:000000000000:function:work"


def execution(definition: dict[str, Any], seeds: int = 0) -> LocalExecution:
    return LocalExecution(parse_definition(definition), NOW, CountedSeeds(seeds))


def task(**fields: Any) -> dict[str, Any]:
    return {"Type": "Task", "Resource": FUNCTION, "End": True, **fields}


def ended(of: LocalExecution) -> bool:
    return of.finish is not None


def types(of: LocalExecution) -> list[str]:
    return [event.type for _, event in of.history]


def test_a_wait_of_thirty_days_takes_no_time() -> None:
    run = execution(machine("W", W={"Type": "Wait", "Seconds": 30 * 86_400, "End": True}))
    finish = run.run(Script({}), input=Document.of({"x": 1}))
    assert finish is not None
    assert (finish.status, finish.output) == (Status.SUCCEEDED, Document.of({"x": 1}))
    assert run.now == NOW + 30 * DAY
    assert run.history[-1].event.timestamp == NOW + 30 * DAY


def test_event_ids_are_without_gaps() -> None:
    run = execution(machine("W", W={"Type": "Wait", "Seconds": 1, "End": True}))
    run.run(Script({}), input=Document.of({}))
    assert [id for id, _ in run.history] == list(range(1, len(run.history) + 1))


def test_retries_wait_for_their_delays() -> None:
    retry = [{"ErrorEquals": ["Busy"], "IntervalSeconds": 10, "BackoffRate": 2, "MaxAttempts": 2}]
    run = execution(machine("T", T=task(Retry=retry)))
    script = Script({"T": [Failed("Busy"), Failed("Busy"), Succeeded({"ok": True})]})
    finish = run.run(script, input=Document.of({}))
    assert finish is not None
    assert finish.output == Document.of({"ok": True})
    assert [call.attempt for call in script.calls] == [0, 1, 2]
    assert run.now == NOW + 30_000


def test_until_stops_before_what_is_due_later() -> None:
    run = execution(machine("W", W={"Type": "Wait", "Seconds": 100, "End": True}))
    assert run.run(Script({}), input=Document.of({}), until=NOW + 99_000) is None
    assert run.now == NOW + 99_000
    assert run.run(Script({})) is not None


def test_a_silent_task_times_out() -> None:
    run = execution(machine("T", T=task(TimeoutSeconds=60)))
    finish = run.run(Script({"T": Silent()}), input=Document.of({}))
    assert finish is not None
    assert (finish.status, finish.error) == (Status.FAILED, "States.Timeout")
    assert run.now == NOW + 60_000
    assert not run.open_tasks
    assert not run.timers


def test_heartbeats_keep_a_task_alive() -> None:
    run = execution(machine("T", T=task(HeartbeatSeconds=10, TimeoutSeconds=1000)))
    run.start()
    (number,) = run.open_tasks
    for second in (9, 18, 27):
        run.advance(NOW + second * 1000)
        run.heartbeat(number)
    run.advance(NOW + 36_000)
    assert not ended(run)
    run.advance(NOW + 38_000)
    assert ended(run)
    assert run.history[-1].event.timestamp == NOW + 37_000


def test_what_waits_for_nobody_is_stuck() -> None:
    run = execution(machine("T", T=task()))
    with pytest.raises(StuckError, match="an answer to 'T'"):
        run.run(Script({"T": Silent()}), input=Document.of({}))


def test_a_state_without_an_answer_is_named() -> None:
    with pytest.raises(StuckError, match=r"no answer for the state 'T'.*function:work"):
        execution(machine("T", T=task())).run(Script({}), input=Document.of({}))


def test_a_redrive_runs_only_what_had_failed() -> None:
    run = execution(machine("A", A=task(Next="B", End=None), B=task()) | {"States": _two_tasks()})
    script = Script({"A": Succeeded(1), "B": [Failed("Broken"), Succeeded(2)]})
    finish = run.run(script, input=Document.of({}))
    assert finish is not None
    assert (finish.status, finish.state) == (Status.FAILED, "B")
    run.redrive()
    assert run.finish is None
    finish = run.run(script)
    assert finish is not None
    assert finish.status is Status.SUCCEEDED
    assert (script.count("A"), script.count("B")) == (1, 2)
    assert types(run).count("ExecutionRedriven") == 1


def _two_tasks() -> dict[str, Any]:
    first = {key: value for key, value in task(Next="B").items() if key != "End"}
    return {"A": first, "B": task()}


def test_stopping() -> None:
    run = execution(machine("W", W={"Type": "Wait", "Seconds": 100, "End": True}))
    run.start()
    run.stop("Enough", "of this")
    assert run.finish is not None
    assert (run.finish.status, run.finish.error, run.finish.cause) == (Status.ABORTED, "Enough", "of this")
    assert not run.timers


def test_events_are_told_as_they_come() -> None:
    told: list[str] = []
    run = execution(machine("W", W={"Type": "Wait", "Seconds": 1, "End": True}))
    run.on_events = lambda fresh: told.extend(event.type for _, event in fresh)
    run.start()
    assert told == ["ExecutionStarted", "WaitStateEntered"]
    run.advance(NOW + 1000)
    assert told == types(run)


def test_the_same_seeds_give_the_same_run_and_the_log_replays_it() -> None:
    retry = [{"ErrorEquals": ["Busy"], "IntervalSeconds": 100, "JitterStrategy": "FULL", "MaxAttempts": 3}]
    definition = machine("T", T=task(Retry=retry))
    answers: dict[str, list[Answer]] = {"T": [Failed("Busy"), Failed("Busy"), Succeeded(1)]}
    first, second, other = (execution(definition, seeds) for seeds in (1, 1, 2))
    for run in (first, second, other):
        run.run(Script(answers), input=Document.of({}))
    assert first.history == second.history
    assert first.now == second.now != other.now

    state = ExecutionState(first.state.info)
    replayed: list[HistoryEvent] = []
    for one in first.applied:
        step = transition(first.machine, state, one.event, one.now, Entropy(one.seed))
        state = step.state
        replayed += step.events
    assert replayed == [event for _, event in first.history]
