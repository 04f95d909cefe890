"""Choice: goes where the first matching rule leads."""

from __future__ import annotations

from stepwell.engine.asl.states import ChoiceState
from stepwell.engine.machine.dataflow import field_scope, hand_on, hand_on_as
from stepwell.engine.machine.decisions import DecisionKind
from stepwell.engine.machine.run import Run
from stepwell.engine.machine.snapshot import Frame
from stepwell.engine.states_errors import ErrorName, StatesError


def run_choice(run: Run, frame: Frame) -> None:
    """Run the body of a Choice state. A rule has its own Assign and Output; the state's belong to its Default."""
    state = frame.current
    assert isinstance(state, ChoiceState)
    index = state.first_match(field_scope(run, frame))
    if index is not None:
        assert isinstance(index, int)
        rule = state.choices[index]
        run.decide(frame, DecisionKind.RULE, index)
        hand_on_as(run, frame, rule.next, rule.output, rule.assign)
        return
    if state.default is None:
        raise StatesError(
            ErrorName.NO_CHOICE_MATCHED,
            "Failed to transition out of the state. The state does not point to a next state.",
        )
    run.decide(frame, DecisionKind.DEFAULT)
    hand_on(run, frame, state.default)
