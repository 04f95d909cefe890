"""What an error does: retried, caught, or passed up from frame to frame until it ends the execution.

Event order and previousEventIds are those recorded on AWS: a failing child is reported, then everything beside it is aborted
in order, then the state that joins them fails, all of these pointing to the event that failed.
"""

from __future__ import annotations

from stepwell.engine.asl.states import MapState, ParallelState, StateType, TaskState
from stepwell.engine.jsontypes import Document, Json
from stepwell.engine.machine.commands import Finish, Status, TimerKind
from stepwell.engine.machine.dataflow import caught
from stepwell.engine.machine.history import ABORTED, Details
from stepwell.engine.machine.retry import delay_ms, first_match
from stepwell.engine.machine.run import Run
from stepwell.engine.machine.snapshot import Frame, Phase
from stepwell.engine.states_errors import ErrorName, StatesError


def fail_evaluation(run: Run, frame: Frame, error: StatesError) -> None:
    """A state could not be run as it is written (a path that leads nowhere, a value of the wrong kind)."""
    cause = error.cause
    if error.error != ErrorName.DATA_LIMIT_EXCEEDED:
        cause = (
            f"An error occurred while executing the state '{frame.state}' "
            f"(entered at the event id #{frame.entered_event}). {cause}"
        )
    fail(run, frame, error.error, cause)


def fail(run: Run, frame: Frame, error: str | None, cause: str | None) -> None:
    """The frame's state has failed: retry it, catch the error, or pass it up."""
    run.close_task(frame)
    run.cancel_timer(frame.timer)
    frame.timer = 0
    state = frame.current
    failed_child: Frame | None = None
    while True:
        if isinstance(state, TaskState | ParallelState | MapState) and _handle(run, frame, state, error, cause, failed_child):
            return
        if isinstance(state, ParallelState | MapState) and failed_child is not None:
            _join_failed(run, frame, state, failed_child)
        frame.phase = Phase.FAILED
        run.touch(frame)
        if frame.parent is None or error == ErrorName.RUNTIME:
            end_failed(run, frame, error, cause)
            return
        failed_child, frame = frame, frame.parent
        _abort_beside(run, frame, failed_child)
        state = frame.current


def end_failed(run: Run, frame: Frame, error: str | None, cause: str | None) -> None:
    """End the execution as FAILED; the frames stay as they are, for a redrive."""
    settle(run)
    run.emit("ExecutionFailed", frame.last_event, details_of(error, cause))
    run.finish(Finish(Status.FAILED, run.now, error=error, cause=cause, state=frame.state))


def settle(run: Run) -> None:
    """Close every open task and timer of an execution that is ending, and mark the frames as cut off."""
    for frame in list(run.state.frames.values()):
        _cut_off(run, frame)


def _cut_off(run: Run, frame: Frame) -> None:
    if frame.phase in (Phase.DONE, Phase.FAILED):
        return
    run.close_task(frame, cancel=True)
    run.cancel_timer(frame.timer)
    frame.timer = 0
    if frame.phase is Phase.JOIN:
        return
    entered = frame.phase not in (Phase.READY,)
    frame.phase = Phase.FAILED if entered else Phase.READY
    run.touch(frame)


def _handle(
    run: Run,
    frame: Frame,
    state: TaskState | ParallelState | MapState,
    error: str | None,
    cause: str | None,
    failed_child: Frame | None,
) -> bool:
    """Retry or catch, if the state says so."""
    index = first_match(state.retry, error)
    if index is not None:
        counts = frame.retries or [0] * len(state.retry)
        if counts[index] < state.retry[index].max_attempts:
            _drop_children(run, frame)
            due = run.now + delay_ms(state.retry[index], counts[index], run.entropy)
            counts[index] += 1
            frame.retries = counts
            frame.attempts += 1
            frame.phase = Phase.TIMER
            frame.timer = run.start_timer(frame, TimerKind.RETRY, due)
            run.touch(frame)
            return True
    index = first_match(state.catch, error)
    if index is None:
        return False
    if isinstance(state, ParallelState | MapState) and failed_child is not None:
        _join_failed(run, frame, state, failed_child)
    _drop_children(run, frame)
    output: dict[str, Json] = {"Error": error, "Cause": cause}
    caught(run, frame, state.catch[index], Document.of(output))
    return True


def _join_failed(run: Run, frame: Frame, state: ParallelState | MapState, child: Frame) -> None:
    frame.last_event = child.last_event
    run.emit_next(frame, "ParallelStateFailed" if isinstance(state, ParallelState) else "MapStateFailed")


def _abort_beside(run: Run, parent: Frame, failed: Frame) -> None:
    """Report the failed child of a Parallel or Map and abort what runs beside it."""
    at = failed.last_event
    is_map = isinstance(parent.current, MapState)
    if is_map:
        run.emit("MapIterationFailed", at, _iteration(parent, failed))
    _abort_state(run, failed, at)
    assert parent.children is not None
    for _, child in sorted(parent.children.items()):
        if child is failed or child.phase in (Phase.DONE, Phase.FAILED):
            continue
        if is_map:
            run.emit("MapIterationAborted", at, _iteration(parent, child))
        _abort_tree(run, child, at)
    parent.last_event = at


def _abort_tree(run: Run, frame: Frame, at: int) -> None:
    """Abort a frame and all below it."""
    run.close_task(frame, cancel=True)
    run.cancel_timer(frame.timer)
    frame.timer = 0
    if frame in run.state.ready:
        run.state.ready.remove(frame)
    if frame in run.started:
        run.started.remove(frame)
    for _, child in sorted((frame.children or {}).items()):
        if child.phase not in (Phase.DONE, Phase.FAILED):
            _abort_tree(run, child, at)
    if frame.phase is Phase.READY:
        run.touch(frame)
        return
    _abort_state(run, frame, at)
    if frame.phase is not Phase.JOIN:
        frame.phase = Phase.FAILED
    run.touch(frame)


def _abort_state(run: Run, frame: Frame, at: int) -> None:
    type_ = frame.current.type
    if type_ in (StateType.TASK, StateType.WAIT) and type_ in ABORTED:
        run.emit(ABORTED[type_], at)


def _drop_children(run: Run, frame: Frame) -> None:
    """Forget the child frames of a Parallel or Map that starts anew or is left."""
    for child in (frame.children or {}).values():
        drop_tree(run, child)
    frame.children = None
    frame.join = None
    frame.items = None


def drop_tree(run: Run, frame: Frame) -> None:
    """Forget a frame and all below it."""
    run.close_task(frame, cancel=True)
    run.cancel_timer(frame.timer)
    for child in (frame.children or {}).values():
        drop_tree(run, child)
    run.state.frames.pop(frame.id, None)
    run.state.dirty.discard(frame.id)
    run.state.removed.append(frame.id)
    if frame in run.state.ready:
        run.state.ready.remove(frame)


def _iteration(parent: Frame, child: Frame) -> Details:
    return {"name": parent.state, "index": child.index}


def details_of(error: str | None, cause: str | None) -> Details:
    """Event details with `error` and `cause`, each only where there is one."""
    details: Details = {}
    if error is not None:
        details["error"] = error
    if cause is not None:
        details["cause"] = cause
    return details
