"""Wait: until a number of seconds has passed or a moment has come."""

from __future__ import annotations

from stepwell.engine.asl.states import FieldValue, WaitState
from stepwell.engine.jsontypes import Json
from stepwell.engine.limits import MAX_WAIT_SECONDS
from stepwell.engine.machine.commands import TimerKind
from stepwell.engine.machine.dataflow import hand_on, state_input, whole_number
from stepwell.engine.machine.run import Run
from stepwell.engine.machine.snapshot import Frame, Phase
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
    value = whole_number(_value(run, frame, field))
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_WAIT_SECONDS:
        raise StatesError(
            ErrorName.RUNTIME, f"The {field.field} parameter does not reference an input value: {field.text}"
        )
    return value


def _moment(run: Run, frame: Frame, field: FieldValue) -> int:
    value = _value(run, frame, field)
    moment = parse_timestamp(value) if isinstance(value, str) else None
    if moment is None:
        raise StatesError(
            ErrorName.RUNTIME,
            f"The {field.field} parameter does not reference a valid ISO-8601 extended offset date-time format string: "
            f"{field.text} == {value}",
        )
    return moment


def _value(run: Run, frame: Frame, field: FieldValue) -> Json:
    if field.expression is None:
        return field.constant
    try:
        return field.expression(run.scope(frame, state_input(run, frame).value))
    except StatesError as error:
        if error.error != ErrorName.RUNTIME:
            raise
        raise StatesError(
            ErrorName.RUNTIME, f"The {field.field} parameter does not reference an input value: {field.text}"
        ) from None
