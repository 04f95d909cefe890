from __future__ import annotations

import itertools
import json

import msgspec
import pytest

from stepwell.engine.asl.parse import parse_definition
from stepwell.engine.clock import Entropy
from stepwell.engine.limits import MAX_ASSIGN_BYTES, MAX_HISTORY_EVENTS
from stepwell.engine.machine import events
from stepwell.engine.machine.chunks import AppliedEvent
from stepwell.engine.machine.commands import Finish, StartTimer, Status, TimerKind
from stepwell.engine.machine.history import HistoryEvent
from stepwell.engine.machine.replay import replay
from stepwell.engine.machine.run import Slice
from stepwell.engine.machine.snapshot import ExecutionState, Workflow
from stepwell.engine.machine.transition import DEFAULT_SLICE, Step, transition
from stepwell.engine.query.evaluation import Outcomes, OverBudgetError, key_of
from stepwell.engine.query.evaluations import carry_out
from stepwell.engine.query.jsonata import FULL
from tests.support.local_machine import START, LocalMachine, info_of, raw, run, succeeds
from tests.unit.machine.build import Definition, inner, machine, map_, parallel, pass_, task


def loop(first: str, second: str, last: str) -> Definition:
    """States that lead to each other until the input says `stop`."""
    leave = {"Variable": "$.stop", "IsPresent": True, "Next": last}
    return {
        "StartAt": first,
        "States": {
            first: pass_(Next=second),
            second: {"Type": "Choice", "Choices": [leave], "Default": first},
            last: {"Type": "Succeed"},
        },
    }


ENDLESS = loop("A", "B", "C")


def test_a_step_stops_when_its_slice_is_used_up() -> None:
    model = parse_definition(ENDLESS)
    step = transition(model, ExecutionState(info_of()), events.Started(raw({})), START, Entropy(1))
    assert step.more and len(step.events) in (DEFAULT_SLICE.events, DEFAULT_SLICE.events + 1)
    again = transition(model, step.state, events.Continued(), START, Entropy(2))
    assert again.more and again.first_event == step.first_event + len(step.events)


def test_a_slice_is_bounded_by_bytes_too() -> None:
    step = transition(
        parse_definition(ENDLESS), ExecutionState(info_of()), events.Started(raw("x" * 1000)), START, Entropy(1), Slice(bytes=4500)
    )  # fmt: skip
    assert step.more and len(step.events) == 5


MANY = {"a": [{"k": number} for number in range(9_000)]}


def test_a_slice_is_bounded_by_what_paths_look_at_too() -> None:
    states = [pass_(Parameters={"n.$": "$.a[?(@.k < 0)]"}, ResultPath="$.n") for _ in range(12)]
    step = transition(
        parse_definition(json.dumps(machine(*states))), ExecutionState(info_of()), events.Started(raw(MANY)), START, Entropy(1)
    )  # fmt: skip
    assert step.more and 1 + 2 * 4 < len(step.events) < 1 + 2 * 10


def test_what_takes_too_much_here_is_asked_for_and_the_event_applied_again() -> None:
    select = {"Parameters": {"n.$": "$.a[?(@.k in $.a[*].k)].length()", "id.$": "States.UUID()"}}
    model = parse_definition(json.dumps(machine(pass_(**select))))
    data = raw({"a": [{"k": number} for number in range(400)]})

    def begin(heavy: Outcomes | None) -> Step:
        return transition(
            model, ExecutionState(info_of()), events.Started(data), START, Entropy(1), DEFAULT_SLICE, heavy
        )

    with pytest.raises(OverBudgetError) as needs:
        begin(None)
    known = Outcomes([(key_of(needs.value.evaluation), carry_out(needs.value.evaluation, FULL))])
    step = begin(known)
    (finish,) = (one for one in step.commands if isinstance(one, Finish))
    assert finish.status is Status.SUCCEEDED
    applied = AppliedEvent(events.Started(data), START, 1, step.first_event, known.holds)
    assert replay(model, ExecutionState(info_of()), applied).events == step.events


def test_the_paths_of_one_state_are_bounded_together() -> None:
    many = pass_(Parameters={f"f{number}.$": "$.a[?(@.k < 0)]" for number in range(300)})
    done = run(machine(many), json.dumps(MANY))
    assert done.finish is not None and done.finish.error == "States.Runtime"
    assert "takes too long" in (done.finish.cause or "")
    few = pass_(Parameters={f"f{number}.$": "$.a[?(@.k < 0)]" for number in range(60)}, ResultPath="$.n")
    assert run(machine(few, few, few), json.dumps(MANY)).finish.status is Status.SUCCEEDED  # type: ignore[union-attr]


@pytest.mark.parametrize("slice", (Slice(events=1), Slice(events=3), DEFAULT_SLICE))
def test_slices_do_not_change_what_happens(slice: Slice) -> None:
    each = {**map_(pass_()), "ItemProcessor": inner("J", pass_())}
    definition = machine(parallel(pass_(), each, ResultPath=None), map_(task(), MaxConcurrency=2))
    sliced = LocalMachine(definition, '{"items": [1, 2, 3]}', world=succeeds(0), slice=slice).run()
    whole = LocalMachine(definition, '{"items": [1, 2, 3]}', world=succeeds(0)).run()
    assert sliced.output == whole.output == [0, 0, 0]
    assert sorted(sliced.types) == sorted(whole.types)


IN_JSONATA = machine(
    parallel(pass_(), pass_()),
    {"Type": "Map", "Items": "{% [1, 2, 3] %}", "ItemProcessor": inner("I", pass_())},
    pass_(Output="{% [1, 2] %}"),
    pass_(),
    QueryLanguage="JSONata",
)


@pytest.mark.parametrize("turns", (1, 2, 3, 5))
def test_a_slice_ends_when_the_time_of_expressions_is_up_and_is_replayed_exactly(turns: int) -> None:
    model, asked = parse_definition(json.dumps(IN_JSONATA)), itertools.count(1)
    timed = Slice(time_is_up=lambda: next(asked) % turns == 0)
    whole = transition(model, ExecutionState(info_of()), events.Started(raw({})), START, Entropy(1))
    again = ExecutionState(info_of())
    state, more = ExecutionState(info_of()), True
    event: events.Event = events.Started(raw({}))
    written: list[HistoryEvent] = []
    cuts: list[int] = []
    while more:
        step = transition(model, state, event, START, Entropy(1), timed)
        repeated = replay(model, again, AppliedEvent(event, START, 1, step.first_event, [], step.cut))
        assert (repeated.events, repeated.commands, repeated.more) == (step.events, step.commands, step.more)
        written += step.events
        cuts.append(step.cut)
        state, again, event, more = step.state, repeated.state, events.Continued(), step.more
    assert [one.type for one in written] == [one.type for one in whole.events]
    assert len(cuts) > 1 and all(cuts[:-1]) and cuts[-1] == 0


def test_the_time_is_not_asked_for_after_states_without_expressions() -> None:
    def asked() -> bool:
        raise AssertionError("asked for the time")

    model = parse_definition(json.dumps(machine(pass_(), pass_(), pass_())))
    state = ExecutionState(info_of())
    assert not transition(model, state, events.Started(raw({})), START, Entropy(1), Slice(time_is_up=asked)).more


def test_an_execution_can_be_stopped_between_slices() -> None:
    endless = LocalMachine(ENDLESS)
    assert endless.step(events.Started(raw({}))).more
    assert endless.step(events.Continued()).more
    endless.apply(events.StopRequested())
    assert endless.finish is not None and endless.finish.status is Status.ABORTED


def test_the_history_ends_with_its_last_event() -> None:
    full = run(ENDLESS)
    assert len(full.seen) == MAX_HISTORY_EVENTS
    assert full.types[-1] == "ExecutionFailed"
    assert full.finish is not None
    assert (full.finish.error, full.finish.cause) == (
        "States.Runtime", "The execution reached the maximum number of history events (25000).",
    )  # fmt: skip
    assert full.redrive() == []


def test_open_tasks_are_closed_when_the_history_is_full() -> None:
    endless = loop("L", "M", "N")
    both = {
        "Type": "Parallel",
        "Branches": [endless, {"StartAt": "T", "States": {"T": task(TimeoutSeconds=9, End=True)}}],
    }
    full = LocalMachine(machine(both)).run()
    assert len(full.seen) == MAX_HISTORY_EVENTS and full.types[-1] == "ExecutionFailed"
    assert full.tasks == {} and full.timers == {}


def test_assigned_variables_have_a_limit() -> None:
    half = "x" * (MAX_ASSIGN_BYTES // 2)
    one = run(machine(pass_(Assign={"a.$": "$"})), f'"{half}"')
    assert one.finish is not None and one.finish.status is Status.SUCCEEDED
    two = run(machine(pass_(Assign={"a.$": "$", "b.$": "$"})), f'"{half}"')
    assert two.finish is not None and two.finish.error == "States.DataLimitExceeded"


@pytest.mark.parametrize("crash", (False, True))
def test_all_variables_together_have_a_limit(monkeypatch: pytest.MonkeyPatch, crash: bool) -> None:
    monkeypatch.setattr("stepwell.engine.machine.run.MAX_EXECUTION_VARIABLES_BYTES", 1000)
    same = [task(Assign={"a.$": "$"}) for _ in range(5)]
    kept = LocalMachine(machine(*same), world=succeeds("x" * 300), crash_always=crash).run()
    assert kept.finish is not None and kept.finish.status is Status.SUCCEEDED
    other = [task(Assign={f"{name}.$": "$"}) for name in "abcd"]
    full = LocalMachine(machine(*other), world=succeeds("x" * 300), crash_always=crash).run()
    assert full.finish is not None
    assert (full.finish.error, full.finish.state) == ("States.DataLimitExceeded", "D")


def test_variables_of_branches_that_ended_leave_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepwell.engine.machine.run.MAX_EXECUTION_VARIABLES_BYTES", 1000)
    definition = machine(parallel(pass_(Assign={"a": "x" * 700})), pass_(Assign={"a": "x" * 700}))
    done = run(definition)
    assert done.finish is not None and done.finish.status is Status.SUCCEEDED


def test_what_children_hand_on_together_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepwell.engine.machine.states.parallel.MAX_JOINED_BYTES", 1000)
    long = task(ResultSelector={"text": "x" * 400})
    for state, kind in (
        (map_(long, MaxConcurrency=1), "MapIterationStarted"),
        (parallel(long, long, long, long), "LambdaFunctionScheduled"),
    ):
        caught = {**state, "Catch": [{"ErrorEquals": ["States.DataLimitExceeded"], "Next": "B"}]}
        ended = LocalMachine(machine(caught, pass_()), '{"items": [1, 2, 3, 4, 5]}', world=succeeds(0)).run()
        assert isinstance(ended.output, dict)
        assert ended.output["Error"] == "States.DataLimitExceeded"
        assert ended.types.count(kind) in (3, 4), "it does not wait for the others"


def test_what_was_too_much_can_be_redriven(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepwell.engine.machine.states.parallel.MAX_JOINED_BYTES", 1000)
    long = task(ResultSelector={"text": "x" * 400})
    failed = LocalMachine(machine(parallel(long, long, long)), world=succeeds(0)).run()
    assert failed.finish is not None and failed.finish.error == "States.DataLimitExceeded"
    monkeypatch.setattr("stepwell.engine.machine.states.parallel.MAX_JOINED_BYTES", 10_000)
    failed.redrive()
    assert failed.run().finish is not None and failed.finish.status is Status.SUCCEEDED


def test_express_executions_have_no_limit_of_events_and_end_at_their_deadline() -> None:
    info = msgspec.structs.replace(info_of(), workflow=Workflow.EXPRESS, deadline=START + 300_000)
    model = parse_definition(ENDLESS)
    step = transition(model, ExecutionState(info), events.Started(raw({})), START, Entropy(1), Slice(events=26_000))
    assert step.more and len(step.events) > MAX_HISTORY_EVENTS
    (timer,) = [command for command in step.commands if isinstance(command, StartTimer)]
    assert (timer.kind, timer.due_at) == (TimerKind.EXECUTION_TIMEOUT, START + 300_000)
    assert (
        transition(model, step.state, events.TimerFired(timer.timer), timer.due_at, Entropy(2)).state.status
        is Status.TIMED_OUT
    )


def test_who_waits_for_an_execution_is_told_of_no_redrives() -> None:
    definition = machine(pass_(Parameters={"told.$": "$$.Execution"}))
    for workflow, told in ((Workflow.EXPRESS, True), (Workflow.EXPRESS_SYNC, False), (Workflow.STANDARD, True)):
        info = msgspec.structs.replace(info_of(), workflow=workflow)
        step = transition(
            parse_definition(definition), ExecutionState(info), events.Started(raw({})), START, Entropy(1)
        )
        assert (b"RedriveCount" in bytes(step.events[-1].payload or b"")) is told
