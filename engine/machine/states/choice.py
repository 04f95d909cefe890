"""Choice: goes where the first matching rule leads."""

from __future__ import annotations

from stepwell.engine.asl.states import ChoiceState
from stepwell.engine.machine.dataflow import assign, effective_input, output_of
from stepwell.engine.machine.run import Run
from stepwell.engine.machine.snapshot import Frame
from stepwell.engine.states_errors import ErrorName, StatesError


def run_choice(run: Run, frame: Frame) -> None:
    """Run the body of a Choice state."""
    state = frame.current
    assert isinstance(state, ChoiceState)
    document = effective_input(run, frame)
    scope = run.scope(frame, document.value)
    for rule in state.choices:
        if rule.condition(scope):
            assigned = assign(run, frame, rule.assign, document) if rule.assign is not None else None
            run.leave(frame, output_of(run, frame, document), rule.next, assigned)
            return
    if state.default is None:
        raise StatesError(ErrorName.NO_CHOICE_MATCHED, "No choice rule matched, and the state has no Default.")
    run.leave(frame, output_of(run, frame, document), state.default)
