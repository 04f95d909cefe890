"""Wait: until a number of seconds has passed or a moment has come."""

from __future__ import annotations

from stepwell.engine.asl.states import FieldValue, WaitState
from stepwell.engine.jsontypes import Json, write_text
from stepwell.engine.limits import MAX_WAIT_SECONDS
from stepwell.engine.machine.commands import TimerKind
from stepwell.engine.machine.dataflow import (
    as_text,
    field_value,
    hand_on,
    is_jsonata_state,
    number_in,
    whole_number,
)
from stepwell.engine.machine.run import Run
from stepwell.engine.machine.snapshot import Frame, Phase
from stepwell.engine.query.failures import evaluation_gave_other, query_error
from stepwell.engine.query.timestamps import parse_timestamp
from stepwell.engine.states_errors import ErrorName, StatesError


def run_wait(run: Run, frame: Frame) -> None:
    """Run the body of a Wait state. A moment that lies in the past ends it at once."""
    state = frame.current
    assert isinstance(state, WaitState)
    if state.seconds is not None:
        due = run.now + 1000 * _seconds(run, frame, state.seconds)
    else:
        assert state.timestamp is not None
        due = _moment(run, frame, state.timestamp)
    if due <= run.now:
        waited(run, frame)
        return
    frame.phase = Phase.TIMER
    frame.timer = run.start_timer(frame, TimerKind.WAIT, due)
    run.touch(frame)


def waited(run: Run, frame: Frame) -> None:
    """The wait is over."""
    hand_on(run, frame, frame.current.next)


def _seconds(run: Run, frame: Frame, field: FieldValue) -> int:
    given = _value(run, frame, field)
    value = whole_number(number_in(frame, given))
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_WAIT_SECONDS:
        if is_jsonata_state(frame):
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise evaluation_gave_other(field.text or "", field.field, "number", value)
            cause = (
                f"The {field.field} field must be an integer from 0 to {MAX_WAIT_SECONDS} but was: {write_text(value)}"
            )
            raise query_error(cause, field.field)
        shown = f"{field.text} == {as_text(given)}"
        if isinstance(value, bool) or not isinstance(value, int):
            cause = f"The {field.field} parameter cannot be parsed as a long value: {shown}"
        elif value < 0:
            cause = f"The {field.field} parameter references a negative value: {shown}"
        else:
            cause = f"The {field.field} parameter references a value above {MAX_WAIT_SECONDS}: {shown}"
        raise StatesError(ErrorName.RUNTIME, cause)
    return value


def _moment(run: Run, frame: Frame, field: FieldValue) -> int:
    value = _value(run, frame, field)
    moment = parse_timestamp(value) if isinstance(value, str) else None
    if moment is not None:
        return moment
    if is_jsonata_state(frame):
        if not isinstance(value, str):
            raise evaluation_gave_other(field.text or "", field.field, "string", value)
        cause = (
            f"The {field.field} field cannot be parsed as an ISO-8601 extended offset date-time format string: {value}"
        )
        raise query_error(cause, field.field)
    raise StatesError(
        ErrorName.RUNTIME,
        f"The {field.field} parameter does not reference a valid ISO-8601 extended offset date-time format string: "
        f"{field.text} == {as_text(value)}",
    )


def _value(run: Run, frame: Frame, field: FieldValue) -> Json:
    try:
        return field_value(run, frame, field)
    except StatesError as error:
        if error.error != ErrorName.RUNTIME:
            raise
        raise _no_input_value(field) from None


def _no_input_value(field: FieldValue) -> StatesError:
    return StatesError(
        ErrorName.RUNTIME, f"The {field.field} parameter does not reference an input value: {field.text}"
    )
