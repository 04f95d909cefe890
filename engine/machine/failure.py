"""What an error does: retried, caught, or passed up from frame to frame until it ends the execution.

Event order and previousEventIds are those recorded on AWS: a failing child is reported, then everything open beside it is
aborted in order, then the state that joins them fails, all of these pointing to the event that failed.
"""

from __future__ import annotations

from collections.abc import Callable

from stepwell.engine.asl.states import Catcher, MapState, ParallelState, Retrier, StateType, TaskState, WaitState
from stepwell.engine.errors import JsonTextError
from stepwell.engine.jsontypes import Document, Json
from stepwell.engine.limits import MAX_CAUSE_LENGTH, MAX_ERROR_LENGTH
from stepwell.engine.machine.commands import CancelMapRun, Finish, Status, TimerKind
from stepwell.engine.machine.dataflow import caught
from stepwell.engine.machine.decisions import DecisionKind
from stepwell.engine.machine.history import ABORTED, Details
from stepwell.engine.machine.retry import delay_ms, first_match
from stepwell.engine.machine.run import Run
from stepwell.engine.machine.snapshot import Frame, Phase
from stepwell.engine.states_errors import ErrorName, StatesError

ENDED = frozenset({Phase.DONE, Phase.FAILED})
_FAILED = {StateType.MAP: "MapStateFailed", StateType.PARALLEL: "ParallelStateFailed"}
_SUCCEEDED = frozenset({"MapStateSucceeded", "ParallelStateSucceeded"})


def guarded(run: Run, frame: Frame, work: Callable[[], None]) -> None:
    """Do what may have to read data; an error in reading it becomes the error of the frame's state."""
    try:
        work()
    except (StatesError, JsonTextError, RecursionError) as error:
        fail_evaluation(run, frame, error)


def fail_evaluation(run: Run, frame: Frame, error: Exception) -> None:
    """A state could not be run as it is written (a path that leads nowhere, a value of the wrong kind)."""
    name, cause = _explained(run, frame, error)
    # A Map or Parallel whose children are all done has succeeded, and says so, before its Output is evaluated.
    in_body = name != ErrorName.RUNTIME and not (run.events and run.events[-1].type in _SUCCEEDED)
    if name == ErrorName.QUERY_EVALUATION_ERROR:
        _report_evaluation(run, frame, cause, error)
    fail(run, frame, name, cause, in_body=in_body)


def _report_evaluation(run: Run, frame: Frame, cause: str | None, error: Exception) -> None:
    """Write EvaluationFailed. Where the state has done nothing yet, it stands beside the event that entered the state; but a
    Wait has begun."""
    details = details_of(ErrorName.QUERY_EVALUATION_ERROR, cause)
    location = getattr(error, "location", None)
    if location is not None:
        details["location"] = location
    details["state"] = frame.state
    previous = frame.last_event
    entered = frame.entered_event - (run.state.next_event - len(run.events))
    if previous == frame.entered_event and entered >= 0 and not isinstance(frame.current, WaitState):
        previous = run.events[entered].previous
    frame.last_event = run.emit("EvaluationFailed", previous, details)


def _explained(run: Run, frame: Frame, error: Exception) -> tuple[str, str | None]:
    """Name and cause of an error met in evaluating the frame's state."""
    if not isinstance(error, StatesError):
        error = StatesError(ErrorName.RUNTIME, str(error) or "The data is nested too deeply.")
    if error.error == ErrorName.DATA_LIMIT_EXCEEDED:
        return error.error, error.cause
    return error.error, f"{run.place(frame)}{error.cause or ''}".rstrip()[:MAX_CAUSE_LENGTH]


def fail(
    run: Run, frame: Frame, error: str | None, cause: str | None, alias: str | None = None, *, in_body: bool = False
) -> None:
    """The frame's state has failed: retry it, catch the error, or pass it up. `alias` is explained in `retry.matches`; `in_body`
    tells that a Map or Parallel could not be carried out itself, of which is told like of a failed child."""
    run.close_task(frame)
    run.failing(frame, error, cause, alias)
    if frame.children:
        _abort_children(run, frame, frame.last_event, None)
    failed_child: Frame | None = None
    joined = frame.map_run is not None or (in_body and frame.current.type in _FAILED)
    while True:
        state = frame.current
        if isinstance(state, TaskState | ParallelState | MapState):
            if _retried(run, frame, state.retry, error, alias):
                return
            if failed_child is not None or joined:
                run.emit_next(frame, _FAILED[state.type])
            try:
                if _caught(run, frame, state.catch, error, cause, alias):
                    return
            except (StatesError, JsonTextError, RecursionError) as other:  # the catcher itself cannot be evaluated
                error, cause = _explained(run, frame, other)
                alias = None
                if error == ErrorName.QUERY_EVALUATION_ERROR:
                    _report_evaluation(run, frame, cause, other)
        frame.phase = Phase.FAILED
        run.touch(frame)
        if frame.parent is None or error == ErrorName.RUNTIME:
            end_failed(run, frame, error, cause)
            return
        failed_child, frame, joined = frame, frame.parent, False
        _report_failed(run, frame, failed_child)


def end_failed(run: Run, frame: Frame, error: str | None, cause: str | None) -> None:
    """End the execution as FAILED; the frames stay as they are, for a redrive."""
    settle(run)
    details = details_of(error, cause)
    run.emit("ExecutionFailed", frame.last_event, details)
    error, cause = details.get("error"), details.get("cause")
    run.finish(Finish(Status.FAILED, run.now, error=error, cause=cause, state=frame.state))


def settle(run: Run) -> None:
    """Close every open task and timer of an execution that is ending, and mark the frames as cut off."""
    for frame in run.state.frames.values():
        if frame.phase not in ENDED:
            _cut_off(run, frame)


def _cut_off(run: Run, frame: Frame) -> None:
    """Close what the frame waits for. A frame that has not entered its state, and one that joins others, stays as it is."""
    run.close_task(frame, cancel=True)
    if frame.phase is Phase.MAP_RUN:
        _cancel_map_run(run, frame)
    run.cancel_timer(frame.timer)
    frame.timer = 0
    if frame.phase is not Phase.JOIN and frame.phase is not Phase.READY:
        frame.phase = Phase.FAILED
    run.touch(frame)


def _cancel_map_run(run: Run, frame: Frame) -> None:
    open = frame.map_run
    assert open is not None
    run.state.map_runs.pop(open.number, None)
    run.commands.append(CancelMapRun(open.number, open.id))


def _retried(run: Run, frame: Frame, retriers: tuple[Retrier, ...], error: str | None, alias: str | None) -> bool:
    """Retry, if the first retrier that matches has attempts left. Each retrier counts its own."""
    index = first_match(retriers, error, alias)
    if index is None:
        return False
    retrier = retriers[index]
    counts = frame.retries or [0] * len(retriers)
    if counts[index] >= retrier.max_attempts:
        return False
    forget_children(run, frame)
    frame.map_run = None  # a retry is a new Map Run
    due = run.now + delay_ms(retrier, counts[index], run.entropy)
    counts[index] += 1
    run.decide(frame, DecisionKind.RETRY, index)
    frame.retries = counts
    frame.attempts += 1
    frame.phase = Phase.TIMER
    frame.timer = run.start_timer(frame, TimerKind.RETRY, due)
    run.touch(frame)
    return True


def _caught(
    run: Run, frame: Frame, catchers: tuple[Catcher, ...], error: str | None, cause: str | None, alias: str | None
) -> bool:
    """Catch, if a catcher matches."""
    index = first_match(catchers, error, alias)
    if index is None:
        return False
    output: dict[str, Json] = {"Error": error or "", "Cause": cause or ""}
    run.decide(frame, DecisionKind.CATCH, index)
    caught(run, frame, catchers[index], Document.of(output))
    forget_children(run, frame)
    return True


def _report_failed(run: Run, parent: Frame, failed: Frame) -> None:
    """Report the failed child of a Parallel or Map and abort what is open beside it."""
    at = failed.last_event
    if isinstance(parent.current, MapState):
        run.emit("MapIterationFailed", at, iteration_details(parent, failed))
    _abort_state(run, failed, at)
    _abort_children(run, parent, at, failed)
    parent.last_event = at


def _abort_children(run: Run, parent: Frame, at: int, failed: Frame | None) -> None:
    """Abort all children that still run, in order. `at` is the event that brought it about."""
    is_map = isinstance(parent.current, MapState)
    for _, child in sorted((parent.children or {}).items()):
        if child is failed or child.phase in ENDED:
            continue
        if is_map:
            run.emit("MapIterationAborted", at, iteration_details(parent, child))
        _abort_children(run, child, at, None)
        if child.phase is not Phase.READY:
            _abort_state(run, child, at)
        if child in run.state.ready:
            run.state.ready.remove(child)
        _cut_off(run, child)


def _abort_state(run: Run, frame: Frame, at: int) -> None:
    if frame.phase is Phase.MAP_RUN:
        run.emit("MapRunAborted", at)
    type_ = ABORTED.get(frame.current.type)
    if type_ is not None:
        run.emit(type_, at)


def forget_children(run: Run, frame: Frame) -> None:
    """Forget the child frames of a Parallel or Map that has joined them, starts anew or is left."""
    for child in (frame.children or {}).values():
        _forget(run, child)
    frame.children = None
    frame.join = None
    frame.items = frame.kept_items = None


def _forget(run: Run, frame: Frame) -> None:
    for child in (frame.children or {}).values():
        _forget(run, child)
    state = run.state
    if state.frames.pop(frame.id, None) is not None:
        state.removed.append(frame.id)
        state.dirty.discard(frame.id)


def iteration_details(parent: Frame, child: Frame) -> Details:
    """The details of MapIteration* events."""
    return {"name": parent.current.name, "index": child.index}


def details_of(error: str | None, cause: str | None) -> Details:
    """Event details with `error` and `cause`, each only where there is one."""
    details: Details = {}
    if error is not None:
        details["error"] = error[:MAX_ERROR_LENGTH]
    if cause is not None:
        details["cause"] = cause[:MAX_CAUSE_LENGTH]
    return details
