"""Redrive: which frames of an unsuccessful execution go on, and how.

AWS guide, "Restarting state machine executions with redrive": successful steps, branches and iterations are kept; a state is
run again when it was entered and not left; retry counts and time-outs begin anew.
"""

from __future__ import annotations

from stepwell.engine.asl.states import StateType
from stepwell.engine.machine.commands import Status, TimerKind
from stepwell.engine.machine.run import Run
from stepwell.engine.machine.snapshot import Frame, Phase


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
    _resume(run, state.root, id)


def _resume(run: Run, frame: Frame, redriven: int) -> None:
    frame.retries = None
    frame.attempts += 1
    run.touch(frame)
    if frame.children is not None and frame.join is not None:
        frame.phase = Phase.JOIN
        frame.join.open = 0
        for _, child in sorted(frame.children.items()):
            if child.phase is not Phase.DONE:
                frame.join.open += 1
                _resume(run, child, redriven)
        return
    if frame.phase is Phase.READY:
        run.ready(frame)
        return
    frame.last_event = redriven
    frame.phase = Phase.READY if frame.current.type is StateType.FAIL else Phase.REDO
    run.ready(frame)
