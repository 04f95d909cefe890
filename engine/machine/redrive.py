"""Redrive: which frames of an unsuccessful execution go on, and how.

AWS guide, "Restarting state machine executions with redrive": successful steps, branches and iterations are kept; a state is
run again when it was entered and not left; retry counts and time-outs begin anew.
"""

from __future__ import annotations

from functools import partial

from stepwell.engine.asl.states import MapState, StateType
from stepwell.engine.machine.commands import RedriveMapRun, Status, TimerKind
from stepwell.engine.machine.failure import forget_children, guarded
from stepwell.engine.machine.run import Run
from stepwell.engine.machine.snapshot import Frame, OpenMapRun, Phase
from stepwell.engine.machine.states.map_ import start_iterations


def redrive(run: Run) -> None:
    """Set an unsuccessful execution going again."""
    state = run.state
    state.status = Status.RUNNING
    state.redrive_count += 1
    state.redriven_at = run.now
    last = state.next_event - 1
    id = run.emit("ExecutionRedriven", last, {"redriveCount": state.redrive_count})
    if run.machine.timeout_seconds is not None:
        due = run.now + 1000 * run.machine.timeout_seconds
        state.execution_timer = run.start_timer(None, TimerKind.EXECUTION_TIMEOUT, due)
    maps: list[Frame] = []
    _resume(run, state.root, id, maps)
    # Only when everything goes on again: an item that cannot be read fails its Map, and what is beside that with it.
    for frame in maps:
        if state.status is Status.RUNNING and state.frames.get(frame.id) is frame and frame.phase is Phase.JOIN:
            guarded(run, frame, partial(start_iterations, run, frame, id))


def _resume(run: Run, frame: Frame, redriven: int, maps: list[Frame]) -> None:
    frame.retries = None
    run.touch(frame)
    if frame.map_run is not None and not frame.map_run.renew and frame.phase is Phase.FAILED:
        _resume_map_run(run, frame, frame.map_run, redriven)
        return
    frame.map_run = None
    if frame.join is not None:
        if frame.join.done < frame.join.total:
            _resume_children(run, frame, redriven, maps)
            return
        forget_children(run, frame)  # all ended well, and yet it failed: what they handed on was too much
    frame.attempts += 1
    if frame.phase is not Phase.READY:
        frame.last_event = redriven
        frame.phase = Phase.READY if frame.current.type is StateType.FAIL else Phase.REDO
    run.ready(frame)


def _resume_map_run(run: Run, frame: Frame, open: OpenMapRun, redriven: int) -> None:
    """Let a Map Run go on with the children that had not ended well."""
    open.redrives += 1
    frame.last_event = run.emit("MapRunRedriven", redriven, {"mapRunArn": open.arn, "redriveCount": open.redrives})
    frame.phase = Phase.MAP_RUN
    run.state.map_runs[open.number] = frame
    run.commands.append(RedriveMapRun(open.number, open.id, open.redrives))


def _resume_children(run: Run, frame: Frame, redriven: int, maps: list[Frame]) -> None:
    """Go on with the children of a Parallel or Map that had not ended well; `maps` gathers those with iterations to begin."""
    join, children = frame.join, frame.children
    assert join is not None and children is not None
    frame.phase = Phase.JOIN
    join.open = 0
    for _, child in sorted(children.items()):
        if child.phase is not Phase.DONE:
            join.open += 1
            _resume(run, child, redriven, maps)
    if isinstance(frame.current, MapState):
        maps.append(frame)
