"""Pass: hands its input, or a fixed Result, on."""

from __future__ import annotations

from stepwell.engine.asl.states import PassState
from stepwell.engine.jsontypes import Document
from stepwell.engine.machine.dataflow import effective_input, finish_state, hand_on, is_jsonata_state
from stepwell.engine.machine.run import Run
from stepwell.engine.machine.snapshot import Frame


def run_pass(run: Run, frame: Frame) -> None:
    """Run the body of a Pass state. A Pass has no ResultSelector; Parameters make its result where there is no Result. In JSONata
    it has no result at all."""
    state = frame.current
    assert isinstance(state, PassState)
    if state.has_result:
        finish_state(run, frame, Document.of(state.result), state.next)
    elif is_jsonata_state(frame):
        hand_on(run, frame, state.next)
    else:
        finish_state(run, frame, effective_input(run, frame), state.next)
