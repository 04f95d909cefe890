"""Pass: hands its input, or a fixed Result, on."""

from __future__ import annotations

from stepwell.engine.asl.states import PassState
from stepwell.engine.jsontypes import Document
from stepwell.engine.machine.dataflow import effective_input, finish_state
from stepwell.engine.machine.run import Run
from stepwell.engine.machine.snapshot import Frame


def run_pass(run: Run, frame: Frame) -> None:
    """Run the body of a Pass state. A Pass has no ResultSelector; Parameters make its result where there is no Result."""
    state = frame.current
    assert isinstance(state, PassState)
    result = Document.of(state.result) if state.has_result else effective_input(run, frame)
    finish_state(run, frame, result, state.next)
