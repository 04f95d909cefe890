"""Parallel: runs its branches at once and joins their outputs, in the order of the branches, into an array."""

from __future__ import annotations

from stepwell.engine.asl.states import ParallelState
from stepwell.engine.jsontypes import Document
from stepwell.engine.limits import MAX_JOINED_BYTES
from stepwell.engine.machine.dataflow import effective_input, finish_state, within_limit
from stepwell.engine.machine.failure import forget_children
from stepwell.engine.machine.run import Run, data_limit
from stepwell.engine.machine.snapshot import Frame, Join, Phase


def run_parallel(run: Run, frame: Frame) -> None:
    """Run the body of a Parallel state: open a frame for each branch."""
    state = frame.current
    assert isinstance(state, ParallelState)
    input = within_limit(frame, effective_input(run, frame))
    run.emit_next(frame, "ParallelStateStarted")
    frame.phase = Phase.JOIN
    frame.join = Join(total=len(state.branches), open=len(state.branches))
    frame.children = {}
    run.touch(frame)
    for index, branch in enumerate(state.branches):
        child = run.new_frame(frame, index, branch, input)
        child.last_event = frame.last_event


def branch_done(run: Run, frame: Frame, child: Frame) -> None:
    """A branch has come to its end; with the last one, so has the state."""
    assert frame.join is not None
    frame.last_event = child.last_event
    hand_over(run, frame, frame.join, child)
    if frame.join.done == frame.join.total:
        run.emit("ParallelStateSucceeded", frame.last_event)
        finish_state(run, frame, joined(run, frame), frame.current.next)


def hand_over(run: Run, frame: Frame, join: Join, child: Frame) -> None:
    """Count a child frame that has come to its end. Raises `StatesError` States.DataLimitExceeded when the outputs become too much
    to be held in memory: what ResultSelector and the like would leave of them is not known before all are there."""
    join.open -= 1
    join.done += 1
    join.bytes += len(child.data.text)
    run.touch(frame)
    if join.bytes > MAX_JOINED_BYTES:
        raise data_limit(frame.current.name)


def joined(run: Run, frame: Frame) -> Document:
    """The outputs of all child frames, in order; the children are forgotten."""
    assert frame.children is not None
    children = [child for _, child in sorted(frame.children.items())]
    # The texts are joined rather than written anew: what a branch hands on keeps its own spelling, as on AWS.
    text = b"[" + b",".join(child.data.text for child in children) + b"]"
    forget_children(run, frame)
    return Document.trusted(text)
