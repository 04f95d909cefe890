"""The interpreter: `transition(machine, state, event, now, entropy) -> Step`. Dispatch only.

Reads no clock, no randomness, no database and no network. The result depends on the arguments alone, so the same code runs in
production, in memory, in tests with a virtual clock and in exact replay of a stored execution.

The state is consumed: it is advanced in place and handed back in the step, and only that one is valid afterwards. Whoever
cannot make a step durable drops the state and restores it from the store.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, assert_never

from stepwell.engine.asl.states import MapState, StateMachine, StateType, WaitState
from stepwell.engine.clock import Entropy
from stepwell.engine.errors import JsonTextError
from stepwell.engine.jsontypes import Document
from stepwell.engine.limits import MAX_HISTORY_EVENTS
from stepwell.engine.machine import events
from stepwell.engine.machine.commands import Command, Finish, Status, TimerKind
from stepwell.engine.machine.events import Event
from stepwell.engine.machine.failure import details_of, end_failed, fail_evaluation, settle
from stepwell.engine.machine.history import Details, HistoryEvent
from stepwell.engine.machine.redrive import redrive
from stepwell.engine.machine.run import HistoryFullError, Run, Slice
from stepwell.engine.machine.snapshot import ExecutionState, Frame, Phase
from stepwell.engine.machine.states.choice import run_choice
from stepwell.engine.machine.states.fail import run_fail
from stepwell.engine.machine.states.map_ import items_of, iteration_done, run_map, start_iterations
from stepwell.engine.machine.states.parallel import branch_done, run_parallel
from stepwell.engine.machine.states.pass_ import run_pass
from stepwell.engine.machine.states.succeed import run_succeed
from stepwell.engine.machine.states.task import (
    run_task,
    task_failed,
    task_started,
    task_submitted,
    task_succeeded,
    task_timed_out,
    worker_started,
)
from stepwell.engine.machine.states.wait import run_wait, waited
from stepwell.engine.states_errors import ErrorName, StatesError

BODIES: Final[dict[StateType, Callable[[Run, Frame], None]]] = {
    StateType.PASS: run_pass,
    StateType.TASK: run_task,
    StateType.CHOICE: run_choice,
    StateType.WAIT: run_wait,
    StateType.SUCCEED: run_succeed,
    StateType.FAIL: run_fail,
    StateType.PARALLEL: run_parallel,
    StateType.MAP: run_map,
}
"""What each state type does once it is entered."""

CHILD_ENDED: Final[dict[StateType, Callable[[Run, Frame, Frame], None]]] = {
    StateType.PARALLEL: branch_done,
    StateType.MAP: iteration_done,
}
"""What a joining state does when a child frame has come to its end."""


@dataclass(slots=True)
class Step:
    """What one transition brought about. Event ids run from `first_event`; `more` says that the slice was used up."""

    state: ExecutionState
    first_event: int
    events: list[HistoryEvent]
    commands: list[Command]
    more: bool


DEFAULT_SLICE: Final = Slice()


def transition(
    machine: StateMachine,
    state: ExecutionState,
    event: Event,
    now: int,
    entropy: Entropy,
    slice: Slice = DEFAULT_SLICE,
) -> Step:
    """Apply one event to an execution and run on until it waits, ends or has used up its slice.

    `now` is in milliseconds and never goes back between calls. An event that no longer concerns the execution (a task
    that is closed, a timer taken back) changes nothing.
    """
    first = state.next_event
    run = Run(machine, state, now, entropy)
    try:
        if state.restored:
            _recompute(run)
        _apply(run, event)
        more = _advance(run, slice)
        for frame in run.started:
            if frame.task is not None:
                task_started(run, frame, None)
    except HistoryFullError:
        more = False
        cause = f"The execution reached the maximum number of history events ({MAX_HISTORY_EVENTS})."
        _end_runtime(run, cause)
    return Step(state, first, run.events, run.commands, more)


def _apply(run: Run, event: Event) -> None:
    state = run.state
    if isinstance(event, events.Redriven):
        if state.status not in (Status.RUNNING, Status.SUCCEEDED):
            redrive(run)
            _start_pending_iterations(run)
        return
    if state.status is not Status.RUNNING:
        return
    match event:
        case events.TaskSucceeded():
            _to_task(run, event.task, lambda frame: task_succeeded(run, frame, event))
        case events.TaskFailed():
            _to_task(run, event.task, lambda frame: task_failed(run, frame, event))
        case events.TaskStarted():
            _to_task(run, event.task, lambda frame: worker_started(run, frame, event))
        case events.TaskSubmitted():
            _to_task(run, event.task, lambda frame: task_submitted(run, frame, event))
        case events.HeartbeatMissed():
            _to_task(run, event.task, lambda frame: task_timed_out(run, frame, ErrorName.HEARTBEAT_TIMEOUT))
        case events.TimerFired():
            _timer_fired(run, event.timer)
        case events.Started():
            _start(run, event)
        case events.StopRequested():
            _stop(run, event)
        case events.Poisoned():
            _end_runtime(run, event.cause)
        case events.Continued():
            pass
        case _:
            assert_never(event)


def _advance(run: Run, slice: Slice) -> bool:
    """Let ready frames go on, one state each in turn; True if the slice ran out before they did."""
    state = run.state
    while True:
        while run.ended:
            child = run.ended.pop(0)
            assert child.parent is not None
            _guarded(run, child.parent, child)
        if not state.ready:
            return False
        if len(run.events) >= slice.events or run.bytes >= slice.bytes:
            return True
        frame = state.ready.popleft()
        if frame.phase is Phase.READY:
            run.enter(frame)
        _guarded(run, frame, None)


def _guarded(run: Run, frame: Frame, child: Frame | None) -> None:
    """Run a state's body, or tell it of a child that ended; an error in reading data becomes the state's error."""
    try:
        if child is None:
            BODIES[frame.current.type](run, frame)
        else:
            CHILD_ENDED[frame.current.type](run, frame, child)
    except StatesError as error:
        fail_evaluation(run, frame, error)
    except (JsonTextError, RecursionError) as error:
        fail_evaluation(run, frame, StatesError(ErrorName.RUNTIME, str(error)))


def _start(run: Run, event: events.Started) -> None:
    state = run.state
    if state.frames or state.next_event > 1:
        return
    info = state.info
    state.input = Document.trusted(bytes(event.input))
    details: Details = {"roleArn": info.role_arn}
    if info.alias_arn:
        details["stateMachineAliasArn"] = info.alias_arn
    if info.version_arn:
        details["stateMachineVersionArn"] = info.version_arn
    run.emit("ExecutionStarted", 0, details, state.input)
    if run.machine.timeout_seconds is not None:
        due = run.now + 1000 * run.machine.timeout_seconds
        state.execution_timer = run.start_timer(None, TimerKind.EXECUTION_TIMEOUT, due)
    frame = run.new_frame(None, 0, run.machine, state.input)
    frame.data_event = 1


def _to_task(run: Run, number: int, handle: Callable[[Frame], None]) -> None:
    frame = run.state.tasks.get(number)
    if frame is not None and frame.phase is Phase.TASK:
        handle(frame)


def _timer_fired(run: Run, number: int) -> None:
    state = run.state
    timer = state.timers.get(number)
    if timer is None:
        return
    run.cancel_timer(number)
    match timer.kind:
        case TimerKind.EXECUTION_TIMEOUT:
            state.execution_timer = 0
            _end(run, Finish(Status.TIMED_OUT, timer.due_at), "ExecutionTimedOut", {"error": ErrorName.TIMEOUT.value})
        case TimerKind.TASK_TIMEOUT:
            task_timed_out(run, state.frames[timer.frame], ErrorName.TIMEOUT)
        case TimerKind.HEARTBEAT:
            task_timed_out(run, state.frames[timer.frame], ErrorName.HEARTBEAT_TIMEOUT)
        case TimerKind.RETRY:
            frame = state.frames[timer.frame]
            frame.timer = 0
            frame.phase = Phase.REDO
            run.ready(frame)
        case TimerKind.WAIT:
            frame = state.frames[timer.frame]
            frame.timer = 0
            assert isinstance(frame.current, WaitState)
            try:
                waited(run, frame)
            except StatesError as error:
                fail_evaluation(run, frame, error)
        case _:
            assert_never(timer.kind)


def _stop(run: Run, event: events.StopRequested) -> None:
    finish = Finish(Status.ABORTED, run.now, error=event.error, cause=event.cause)
    _end(run, finish, "ExecutionAborted", details_of(event.error, event.cause))


def _end(run: Run, finish: Finish, type: str, details: Details) -> None:
    settle(run)
    run.emit(type, 0, details)
    run.finish(finish)


def _end_runtime(run: Run, cause: str) -> None:
    run.state.status = Status.FAILED  # the one event more that a full history takes is this one
    end_failed(run, run.state.root, ErrorName.RUNTIME, cause)


def _recompute(run: Run) -> None:
    """After a restore: find the items of open Maps again."""
    run.state.restored = False
    for frame in run.state.frames.values():
        if frame.join is not None and isinstance(frame.current, MapState):
            frame.items = list(items_of(run, frame))


def _start_pending_iterations(run: Run) -> None:
    """After a redrive, a Map with room left starts iterations that had not begun."""
    for frame in list(run.state.frames.values()):
        if frame.phase is Phase.JOIN and frame.join is not None and frame.join.limit and frame.join.next_index < frame.join.total:
            start_iterations(run, frame)


