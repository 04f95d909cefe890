"""Fail: ends its branch with an error."""

from __future__ import annotations

from stepwell.engine.asl.states import FailState, FieldValue
from stepwell.engine.machine.dataflow import field_value, is_jsonata_state
from stepwell.engine.machine.failure import fail
from stepwell.engine.machine.run import Run
from stepwell.engine.machine.snapshot import Frame
from stepwell.engine.query.failures import evaluation_gave_other
from stepwell.engine.states_errors import ErrorName, StatesError


def run_fail(run: Run, frame: Frame) -> None:
    """Run the body of a Fail state."""
    state = frame.current
    assert isinstance(state, FailState)
    fail(run, frame, _text(run, frame, state.error), _text(run, frame, state.cause))


def _text(run: Run, frame: Frame, field: FieldValue | None) -> str | None:
    if field is None:
        return None
    value = field_value(run, frame, field)
    if not isinstance(value, str):
        if is_jsonata_state(frame):
            raise evaluation_gave_other(field.text or "", field.field, "string", value)
        raise StatesError(ErrorName.RUNTIME, f"The {field.field} field must refer to a string: {field.text}")
    return value
