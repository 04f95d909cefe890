"""What holds for every machine and everything that may happen to it: exact recovery, exact replay, sound histories."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stepwell.engine.asl.parse import parse_definition
from stepwell.engine.asl.states import StateMachine
from stepwell.engine.clock import Entropy
from stepwell.engine.machine import chunks, events
from stepwell.engine.machine.commands import Status
from stepwell.engine.machine.events import Event
from stepwell.engine.machine.history import TERMINAL
from stepwell.engine.machine.run import Slice
from stepwell.engine.machine.snapshot import ExecutionState, Phase
from stepwell.engine.machine.transition import transition
from tests.support.local_machine import LocalMachine, raw
from tests.unit.machine.machines import INPUT, Draw, definitions, next_event

SLICES = st.sampled_from((Slice(), Slice(events=1), Slice(events=4), Slice(bytes=100)))
LONG = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def is_sound(machine: LocalMachine) -> None:
    """What holds after every step."""
    state = machine.state
    for id, event in enumerate(machine.seen, 1):
        assert 0 <= event.previous < id
    redrives = sum(event.type == "ExecutionRedriven" for event in machine.seen)
    ends = [event.type for event in machine.seen if event.type in TERMINAL]
    assert len(ends) == redrives + (machine.finish is not None)
    assert (state.status is Status.RUNNING) == (machine.finish is None)
    assert set(state.tasks) == set(machine.tasks)
    assert set(state.timers) == set(machine.timers)
    if machine.finish is not None:
        assert machine.seen[-1].type in TERMINAL
        assert not machine.tasks and not machine.timers and not state.ready
        return
    for number, frame in state.tasks.items():
        assert state.frames[frame.id] is frame and frame.phase is Phase.TASK
        assert frame.task is not None and frame.task.task == number
    for timer in state.timers.values():
        assert timer.frame in state.frames
    for frame in state.frames.values():
        assert (frame.phase is Phase.JOIN) == (frame.join is not None) or frame.phase is Phase.FAILED
        if frame.phase is Phase.TIMER:
            assert frame.timer in state.timers
        if frame.phase is Phase.TASK:
            assert frame.task is not None and frame.task.task in state.tasks
    if state.next_event > 1 and not state.ready:
        waits = [timer for id, timer in state.timers.items() if id != state.execution_timer]
        assert machine.tasks or waits, "nothing is left to wait for"


def happen(machine: LocalMachine, event: Event | None) -> None:
    if event is not None:
        machine.apply(event)
    else:
        machine.fire()


def drive(draw: Draw, machines: list[LocalMachine], steps: int) -> None:
    """The same things happen to all of them."""
    leader = machines[0]
    for machine in machines:
        machine.start()
    for _ in range(steps):
        is_sound(leader)
        event = next_event(draw, leader)
        for machine in machines:
            happen(machine, event)
        if leader.finish is not None and leader.finish.status is Status.SUCCEEDED:
            break
    is_sound(leader)


@given(definitions(), SLICES, st.data())
@LONG
def test_a_crash_after_any_commit_changes_nothing(
    definition: dict[str, Any], slice: Slice, data: st.DataObject
) -> None:
    model = parse_definition(definition)
    steady = LocalMachine(model, INPUT, slice=slice)
    crashing = LocalMachine(model, INPUT, slice=slice, crash_always=True)
    drive(data.draw, [steady, crashing], data.draw(st.integers(1, 25)))
    assert crashing.lines == steady.lines
    assert crashing.seen == steady.seen
    assert [texts(commands) for commands in crashing.commands] == [texts(commands) for commands in steady.commands]


@given(definitions(), st.data())
@LONG
def test_steps_may_share_a_commit(definition: dict[str, Any], data: st.DataObject) -> None:
    model = parse_definition(definition)
    steady, lazy = LocalMachine(model, INPUT), LocalMachine(model, INPUT)
    lazy.commit_steps = False
    for machine in (steady, lazy):
        machine.start()
    for _ in range(data.draw(st.integers(1, 25))):
        event = next_event(data.draw, steady)
        happen(steady, event)
        happen(lazy, event)
        if data.draw(st.booleans()):
            lazy.commit(full=data.draw(st.booleans()))
            lazy.crash()
    assert lazy.seen == steady.seen


@given(definitions(), SLICES, st.data())
@LONG
def test_what_was_applied_makes_the_same_history_again(
    definition: dict[str, Any], slice: Slice, data: st.DataObject
) -> None:
    model = parse_definition(definition)
    machine = LocalMachine(model, INPUT, slice=slice)
    drive(data.draw, [machine], data.draw(st.integers(1, 25)))
    assert replayed(model, machine) == machine.seen


def replayed(model: StateMachine, machine: LocalMachine) -> list[Any]:
    """The history made anew from the chunks alone."""
    state = ExecutionState(machine.info)
    made = []
    for data in machine.chunks:
        for applied in chunks.decode(data).applied:
            step = transition(model, state, applied.event, applied.now, Entropy(applied.seed), machine.slice)
            assert step.first_event == applied.first_event
            state = step.state
            made += step.events
    return made


@given(definitions(), SLICES)
@LONG
def test_an_execution_whose_tasks_succeed_comes_to_its_end(definition: dict[str, Any], slice: Slice) -> None:
    machine = LocalMachine(
        definition, INPUT, slice=slice, world=lambda task: [events.TaskSucceeded(task.task, raw({"n": 5}))]
    ).run()
    is_sound(machine)
    assert machine.finish is not None
    # Redriven as often as one likes it comes to an end again.
    for _ in range(2):
        if machine.finish.status is Status.SUCCEEDED:
            break
        machine.redrive()
        machine.run()
        is_sound(machine)
        assert machine.finish is not None


def texts(commands: list[Any]) -> list[str]:
    return [repr(command) for command in commands]
