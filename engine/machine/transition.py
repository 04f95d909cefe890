"""The interpreter: `transition(machine, state, event, now, entropy) -> Step`. Dispatch only.

Reads no clock, no randomness, no database and no network. The result depends on the arguments alone, so the same code runs in
production, in memory, in tests with a virtual clock and in exact replay of a stored execution.

The state is consumed: it is advanced in place and handed back in the step, and only that one is valid afterwards. Whoever
cannot make a step durable drops the state and restores it from the store.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, assert_never

from stepwell.engine.asl.states import MapState, StateMachine, StateType
from stepwell.engine.clock import Entropy
from stepwell.engine.errors import JsonTextError
from stepwell.engine.jsontypes import Document
from stepwell.engine.limits import MAX_HISTORY_EVENTS, MAX_REDRIVE_HISTORY_EVENTS
from stepwell.engine.machine import events
from stepwell.engine.machine.commands import Command, Finish, Status, TimerKind
from stepwell.engine.machine.dataflow import is_jsonata_state
from stepwell.engine.machine.decisions import Decision
from stepwell.engine.machine.events import Event, TaskEvent
from stepwell.engine.machine.failure import details_of, end_failed, fail_evaluation, guarded, settle
from stepwell.engine.machine.history import Details, HistoryEvent
from stepwell.engine.machine.redrive import redrive
from stepwell.engine.machine.run import HistoryFullError, Run, Slice
from stepwell.engine.machine.snapshot import ExecutionState, Frame, Phase, Timer
from stepwell.engine.machine.states.choice import run_choice
from stepwell.engine.machine.states.distributed_map import map_run_finished
from stepwell.engine.machine.states.fail import run_fail
from stepwell.engine.machine.states.map_ import items_of, iteration_done, run_map
from stepwell.engine.machine.states.parallel import branch_done, run_parallel
from stepwell.engine.machine.states.pass_ import run_pass
from stepwell.engine.machine.states.succeed import run_succeed
from stepwell.engine.machine.states.task import (
    run_task,
    task_failed,
    task_started,
    task_submitted,
    task_succeeded,
    tasks_timed_out,
    worker_started,
)
from stepwell.engine.machine.states.wait import run_wait, waited
from stepwell.engine.query import effort
from stepwell.engine.query.effort import Effort
from stepwell.engine.query.jsonata import Outcomes
from stepwell.engine.query.scope import Heavy
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
    """What one transition brought about. Event ids run from `first_event`; `more` says that the slice was used up, `cut` after how
    many events its time was, if it was that.
    """

    state: ExecutionState
    first_event: int
    events: list[HistoryEvent]
    commands: list[Command]
    more: bool
    decisions: list[Decision] = field(default_factory=list)
    cut: int = 0


DEFAULT_SLICE: Final = Slice()


def transition(
    machine: StateMachine,
    state: ExecutionState,
    event: Event,
    now: int,
    entropy: Entropy,
    slice: Slice = DEFAULT_SLICE,
    heavy: Heavy | None = None,
) -> Step:
    """Apply one event to an execution and run on until it waits, ends or has used up its slice.

    `now` is in milliseconds and never goes back between calls. An event that no longer concerns the execution (a task
    that is closed, a timer taken back) changes nothing. Raises `OverBudgetError`, the state then being spoilt, for an
    expression that needs more than it may use in this process and that `heavy` does not carry out.
    """
    first = state.next_event
    cut = 0
    run = Run(machine, state, now, entropy, heavy)
    try:
        spent = effort.begin_states()
        if state.restored:
            _recompute(run)
        _apply(run, event)
        more, cut = _advance(run, slice, spent)
        for frame in run.started:
            task_started(run, frame, None)
    except HistoryFullError:
        more = False
        cause = f"The execution reached the maximum number of history events ({MAX_HISTORY_EVENTS})."
        end_failed(run, state.root, ErrorName.RUNTIME, cause)
    finally:
        effort.end_states()
    return Step(state, first, run.events, run.commands, more, run.decisions, cut)


def _apply(run: Run, event: Event) -> None:
    state = run.state
    if isinstance(event, events.Redriven):
        redrivable = state.status not in (Status.RUNNING, Status.SUCCEEDED)
        if redrivable and state.next_event <= MAX_REDRIVE_HISTORY_EVENTS:
            redrive(run)
        return
    if state.status is not Status.RUNNING or not (state.frames or isinstance(event, events.Started)):
        return
    match event:
        case events.Started():
            _start(run, event)
        case events.TimerFired():
            _timer_fired(run, event.timer)
        case events.StopRequested():
            finish = Finish(Status.ABORTED, run.now, error=event.error, cause=event.cause)
            _cut_short(run, finish, "ExecutionAborted", details_of(event.error, event.cause))
        case events.Poisoned():
            end_failed(run, state.root, ErrorName.RUNTIME, event.cause)
        case events.Continued():
            pass
        case events.MapRunFinished():
            waiting = state.map_runs.get(event.map_run)
            if waiting is not None:
                map_run_finished(run, waiting, event)
        case _:
            frame = state.tasks.get(event.task)
            if frame is not None:
                _apply_to_task(run, frame, event)


def _apply_to_task(run: Run, frame: Frame, event: TaskEvent) -> None:
    match event:
        case events.TaskSucceeded():
            task_succeeded(run, frame, event)
        case events.TaskFailed():
            task_failed(run, frame, event)
        case events.TaskStarted():
            worker_started(run, frame, event)
        case events.TaskSubmitted():
            task_submitted(run, frame, event)
        case events.HeartbeatMissed():
            tasks_timed_out(run, [frame], ErrorName.HEARTBEAT_TIMEOUT)
        case _:
            assert_never(event)


def _advance(run: Run, slice: Slice, spent: Effort) -> tuple[bool, int]:
    """Let ready frames go on, one state each in turn; whether the slice ran out before they did, and `Step.cut`."""
    ready = run.state.ready
    time_is_up, asked = slice.time_is_up, False
    ended = run.ended
    before = spent.begin_state()
    outcomes = run.heavy if isinstance(run.heavy, Outcomes) else None
    while True:
        while ended:
            child = ended.pop()
            parent = child.parent
            assert parent is not None
            try:
                CHILD_ENDED[parent.current.type](run, parent, child)
            except (StatesError, JsonTextError, RecursionError) as error:
                fail_evaluation(run, parent, error)
        if not ready:
            return False, 0
        if len(run.events) >= slice.events or run.bytes >= slice.bytes:
            return True, 0
        if spent.begin_state() - before > slice.steps or (outcomes is not None and outcomes.spent):
            return True, 0
        if asked and time_is_up is not None and time_is_up():
            return True, len(run.events)
        frame = ready.popleft()
        written = len(run.events)
        jsonata = is_jsonata_state(frame)
        if frame.phase is Phase.READY:
            run.enter(frame)
        try:
            BODIES[frame.current.type](run, frame)
        except (StatesError, JsonTextError, RecursionError) as error:
            fail_evaluation(run, frame, error)
        # A replay stops at the first place with as many events: so there must be none before it.
        asked = jsonata and len(run.events) > written


def _start(run: Run, event: events.Started) -> None:
    state = run.state
    if state.next_event > 1:
        return
    info = state.info
    state.input = Document.trusted(bytes(event.input))
    details: Details = {"roleArn": info.role_arn}
    if info.alias_arn:
        details["stateMachineAliasArn"] = info.alias_arn
    if info.version_arn:
        details["stateMachineVersionArn"] = info.version_arn
    run.emit("ExecutionStarted", 0, details, state.input)
    due = info.deadline
    if due is None and run.machine.timeout_seconds is not None:
        due = info.started_at + 1000 * run.machine.timeout_seconds
    if due is not None:
        state.execution_timer = run.start_timer(None, TimerKind.EXECUTION_TIMEOUT, due)
    frame = run.new_frame(None, 0, run.machine, state.input)
    frame.data_event = 1


def _timer_fired(run: Run, number: int) -> None:
    state = run.state
    timer = state.timers.get(number)
    if timer is None:
        return
    run.cancel_timer(number)
    if timer.kind is TimerKind.EXECUTION_TIMEOUT:
        finish = Finish(Status.TIMED_OUT, timer.due_at)
        _cut_short(run, finish, "ExecutionTimedOut", {"error": ErrorName.TIMEOUT.value})
        return
    frame = state.frames[timer.frame]
    match timer.kind:
        case TimerKind.TASK_TIMEOUT:
            tasks_timed_out(run, [frame, *_also_due(run, timer)])
        case TimerKind.HEARTBEAT:
            tasks_timed_out(run, [frame], ErrorName.HEARTBEAT_TIMEOUT)
        case TimerKind.RETRY:
            frame.timer = 0
            frame.phase = Phase.REDO
            run.ready(frame)
        case TimerKind.WAIT:
            frame.timer = 0
            guarded(run, frame, lambda: waited(run, frame))
        case _:
            assert_never(timer.kind)


def _also_due(run: Run, timer: Timer) -> list[Frame]:
    """Frames whose tasks time out at the same moment: their time-outs strike together, before one sweeps the others away."""
    timers = run.state.timers.values()
    return [
        run.state.frames[other.frame]
        for other in timers
        if other.kind is TimerKind.TASK_TIMEOUT and other.due_at <= timer.due_at
    ]


def _cut_short(run: Run, finish: Finish, type: str, details: Details) -> None:
    settle(run)
    run.emit(type, 0, details)
    run.finish(finish)


def _recompute(run: Run) -> None:
    """After a restore: find the items of open Maps again."""
    run.state.restored = False
    for frame in run.state.frames.values():
        if frame.join is not None and isinstance(frame.current, MapState):
            frame.items = items_of(run, frame)
