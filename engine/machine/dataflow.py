"""The data flow of a state: what its work gets (InputPath, Parameters) and what it hands on (ResultSelector, ResultPath,
OutputPath, Assign).

Each function is one arrow of the specification's picture. It must not know what the state does in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from stepwell.engine.asl.states import Assignment, Catcher, FieldValue, Flow, JsonataFlow, JsonPathFlow
from stepwell.engine.jsontypes import EMPTY_OBJECT, Document, Json
from stepwell.engine.machine.run import Run
from stepwell.engine.machine.snapshot import Frame
from stepwell.engine.query.paths import path_reader
from stepwell.engine.states_errors import ErrorName, StatesError


def effective_input(run: Run, frame: Frame, *, parameters: bool = True) -> Document:
    """The state's input after InputPath and (if `parameters`) Parameters."""
    flow = _jsonpath(frame.current.flow)
    if flow.plain:
        return frame.data
    document = frame.data
    if flow.input_path is None:
        document = EMPTY_OBJECT
    elif flow.input_path.text != "$":
        document = Document.of(path_reader(flow.input_path)(run.scope(frame, document.value)))
    if parameters and flow.parameters is not None:
        document = Document.of(flow.parameters(run.scope(frame, document.value)))
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
    value = field.expression(run.scope(frame, frame.data.value))
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        from_text = Document.of(value).text.decode()
        raise StatesError(
            ErrorName.RUNTIME,
            f'The {field.field} field refers to value "{value if isinstance(value, str) else from_text}" '
            f"which is not a valid integer: {field.text}",
        )
    if value < least:
        raise StatesError(ErrorName.RUNTIME, f"The {field.field} field refers to value {value}, which is below {least}: {field.text}")
    return value


def _jsonpath(flow: Flow) -> JsonPathFlow:
    if isinstance(flow, JsonataFlow):
        raise StatesError(ErrorName.RUNTIME, "JSONata states are not supported by this version.")
    return flow
