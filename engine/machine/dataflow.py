"""The data flow of a state: what its work gets (InputPath, Parameters) and what it hands on (ResultSelector, ResultPath,
OutputPath, Assign).

Each function is one arrow of the specification's picture. It must not know what the state does in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from stepwell.engine.asl.states import Assignment, Catcher, FieldValue, Flow, JsonataFlow, JsonPathFlow
from stepwell.engine.jsontypes import EMPTY_OBJECT, Document, Json, write_text
from stepwell.engine.limits import MAX_PAYLOAD_BYTES
from stepwell.engine.machine.run import Run, data_limit
from stepwell.engine.machine.snapshot import Frame
from stepwell.engine.query.paths import path_reader
from stepwell.engine.states_errors import ErrorName, StatesError


def state_input(run: Run, frame: Frame) -> Document:
    """The state's input after InputPath: what its fields other than Parameters read."""
    path = _jsonpath(frame.current.flow).input_path
    if path is None:
        return EMPTY_OBJECT
    if path.text == "$":
        return frame.data
    return Document.of(path_reader(path)(run.scope(frame, frame.data.value)))


def effective_input(run: Run, frame: Frame) -> Document:
    """What the state's work gets: its input after InputPath and Parameters."""
    flow = _jsonpath(frame.current.flow)
    if flow.plain:
        return frame.data
    document = state_input(run, frame)
    if flow.parameters is not None:
        document = Document.of(flow.parameters(run.scope(frame, document.value)))
    return document


def within_limit(frame: Frame, document: Document) -> Document:
    """The document, if it is no larger than what a state may be given. Raises `StatesError` States.DataLimitExceeded."""
    if len(document.text) > MAX_PAYLOAD_BYTES:
        raise data_limit(frame.current.name)
    return document


def finish_state(run: Run, frame: Frame, result: Document, next: str | None) -> None:
    """Put the result into the output as the state says, and leave it."""
    flow = _jsonpath(frame.current.flow)
    if flow.plain:
        run.leave(frame, result, next)
        return
    if flow.result_selector is not None:
        result = Document.of(flow.result_selector(run.scope(frame, result.value)))
    assigned = assign(run, frame, flow.assign, result) if flow.assign is not None else None
    if flow.result_path is None:
        output = frame.data
    elif flow.result_path.text == "$":
        output = result
    else:
        output = Document.of(flow.result_path.put(frame.data.value, result.value))
    run.leave(frame, output_of(run, frame, output), next, assigned)


def hand_on(run: Run, frame: Frame, next: str | None) -> None:
    """Leave a state that makes no result: InputPath, Assign, OutputPath."""
    flow = _jsonpath(frame.current.flow)
    if flow.plain:
        run.leave(frame, frame.data, next)
    else:
        hand_on_assigning(run, frame, next, flow.assign)


def hand_on_assigning(run: Run, frame: Frame, next: str | None, assignment: Assignment | None) -> None:
    """As `hand_on`, with the Assign of a choice rule in place of the state's."""
    document = state_input(run, frame)
    assigned = assign(run, frame, assignment, document) if assignment is not None else None
    run.leave(frame, output_of(run, frame, document), next, assigned)


def output_of(run: Run, frame: Frame, document: Document) -> Document:
    """Apply OutputPath."""
    flow = _jsonpath(frame.current.flow)
    if flow.output_path is None:
        return EMPTY_OBJECT
    if flow.output_path.text == "$":
        return document
    return Document.of(path_reader(flow.output_path)(run.scope(frame, document.value)))


def caught(run: Run, frame: Frame, catcher: Catcher, error: Document) -> None:
    """Hand the error output to where the catcher leads."""
    assigned = assign(run, frame, catcher.assign, error) if catcher.assign is not None else None
    if catcher.result_path is None:
        output = frame.data
    elif catcher.result_path.text == "$":
        output = error
    else:
        output = Document.of(catcher.result_path.put(frame.data.value, error.value))
    run.leave(frame, output, catcher.next, assigned)


def assign(run: Run, frame: Frame, assignment: Assignment, value: Document) -> dict[str, Json]:
    """Evaluate an Assign field with `value` as `$`."""
    result = assignment.template(run.scope(frame, value.value))
    return dict(cast(Mapping[str, Json], result))


def integer(run: Run, frame: Frame, field: FieldValue, *, least: int = 0) -> int:
    """The value of a field that must be a whole number, at least `least`."""
    if field.expression is None:
        return cast(int, field.constant)
    value = whole_number(field.expression(run.scope(frame, state_input(run, frame).value)))
    if not isinstance(value, int) or isinstance(value, bool):
        raise not_an_integer(field, value)
    if value < least:
        raise StatesError(
            ErrorName.RUNTIME, f"The {field.field} field refers to value {value}, which is below {least}: {field.text}"
        )
    return value


def whole_number(value: Json) -> Json:
    """2 for 2.0; anything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def not_an_integer(field: FieldValue, value: Json) -> StatesError:
    """The error for a field whose path leads to something else than a whole number, in AWS's words."""
    text = value if isinstance(value, str) else write_text(value)
    return StatesError(
        ErrorName.RUNTIME,
        f'The {field.field} field refers to value "{text}" which is not a valid integer: {field.text}',
    )


def _jsonpath(flow: Flow) -> JsonPathFlow:
    if isinstance(flow, JsonataFlow):
        raise StatesError(ErrorName.RUNTIME, "JSONata states are not supported by this version.")
    return flow
