"""The data flow of a state: what its work gets and what it hands on. In JSONPath that is InputPath, Parameters, (work),
ResultSelector, ResultPath, OutputPath; in JSONata Arguments, (work), Output; Assign in both.

Each function is one arrow of the specification's picture. It must not know what the state does in between.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, cast

from stepwell.engine.asl.states import Assignment, Catcher, FieldValue, JsonataFlow, JsonPathFlow
from stepwell.engine.jsontypes import EMPTY_OBJECT, Document, Json, write_text
from stepwell.engine.limits import MAX_PAYLOAD_BYTES
from stepwell.engine.machine.inspection import Arrow
from stepwell.engine.machine.run import Run, data_limit
from stepwell.engine.machine.snapshot import Frame
from stepwell.engine.query.failures import evaluation_gave_other, query_error
from stepwell.engine.query.paths import path_reader
from stepwell.engine.query.scope import Scope, StatesScope
from stepwell.engine.query.templates import Template
from stepwell.engine.states_errors import ErrorName, StatesError

_NUMBER: Final = re.compile(r"[+-]?\d{1,18}(\.\d{1,18})?", re.ASCII)

# ---------------------------------------------------------------------------------------------------- before the work


def state_input(run: Run, frame: Frame) -> Document:
    """The state's input after InputPath: what its fields other than Parameters read."""
    flow = frame.current.flow
    if isinstance(flow, JsonataFlow):
        return frame.data
    path = flow.input_path
    if path is None:
        document = EMPTY_OBJECT
    elif path.text == "$":
        document = frame.data
    else:
        document = Document.of(path_reader(path)(run.scope(frame, frame.data.value)))
    if run.inspection is not None:
        run.inspection[Arrow.AFTER_INPUT_PATH] = document
    return document


def field_scope(run: Run, frame: Frame) -> Scope:
    """What the fields of a state read that say how its work is done."""
    if isinstance(frame.current.flow, JsonataFlow):
        return run.states_scope(frame)
    return run.scope(frame, state_input(run, frame).value)


def effective_input(run: Run, frame: Frame) -> Document:
    """What the state's work gets: its input after InputPath and Parameters, or its Arguments."""
    flow = frame.current.flow
    if isinstance(flow, JsonataFlow):
        document = frame.data if flow.arguments is None else flow.arguments.document(run.states_scope(frame))
        if run.inspection is not None:
            run.inspection[Arrow.AFTER_ARGUMENTS] = document
        return document
    if flow.plain:
        return frame.data
    document = state_input(run, frame)
    if flow.parameters is not None:
        document = Document.of(flow.parameters(run.scope(frame, document.value)))
    if run.inspection is not None:
        run.inspection[Arrow.AFTER_PARAMETERS] = document
    return document


def within_limit(frame: Frame, document: Document) -> Document:
    """The document, if it is no larger than what a state may be given. Raises `StatesError` States.DataLimitExceeded."""
    if len(document.text) > MAX_PAYLOAD_BYTES:
        raise data_limit(frame.current.name)
    return document


# ----------------------------------------------------------------------------------------------------- after the work


def finish_state(run: Run, frame: Frame, result: Document, next: str | None) -> None:
    """Put the result into the output as the state says, and leave it."""
    flow = frame.current.flow
    if run.inspection is not None:
        run.inspection[Arrow.RESULT] = result
    if isinstance(flow, JsonataFlow):
        _leave_jsonata(run, frame, next, flow.output, flow.assign, run.states_scope(frame, result=result), result)
        return
    if flow.plain:
        run.leave(frame, result, next)
        return
    if flow.result_selector is not None:
        result = Document.of(flow.result_selector(run.scope(frame, result.value)))
    assigned = assign(run.scope(frame, result.value), flow.assign) if flow.assign is not None else None
    if flow.result_path is None:
        output = frame.data
    elif flow.result_path.text == "$":
        output = result
    else:
        output = Document.of(flow.result_path.put(frame.data.value, result.value))
    if run.inspection is not None:
        run.inspection[Arrow.AFTER_RESULT_SELECTOR] = result
        run.inspection[Arrow.AFTER_RESULT_PATH] = output
    run.leave(frame, _output_path(run, frame, flow, output), next, assigned)


def hand_on(run: Run, frame: Frame, next: str | None) -> None:
    """Leave a state that makes no result: InputPath, Assign, OutputPath; or Output, Assign."""
    flow = frame.current.flow
    if isinstance(flow, JsonataFlow):
        hand_on_as(run, frame, next, flow.output, flow.assign)
    elif flow.plain:
        run.leave(frame, frame.data, next)
    else:
        hand_on_as(run, frame, next, None, flow.assign)


def hand_on_as(
    run: Run, frame: Frame, next: str | None, output: Template | None, assignment: Assignment | None
) -> None:
    """As `hand_on`, with the Output and Assign of a choice rule in place of the state's."""
    flow = frame.current.flow
    if isinstance(flow, JsonataFlow):
        _leave_jsonata(run, frame, next, output, assignment, run.states_scope(frame), frame.data)
        return
    document = state_input(run, frame)
    assigned = assign(run.scope(frame, document.value), assignment) if assignment is not None else None
    run.leave(frame, _output_path(run, frame, flow, document), next, assigned)


def caught(run: Run, frame: Frame, catcher: Catcher, error: Document) -> None:
    """Hand the error output to where the catcher leads."""
    flow = frame.current.flow
    if isinstance(flow, JsonataFlow):
        scope = run.states_scope(frame, error_output=error)
        _leave_jsonata(run, frame, catcher.next, catcher.output, catcher.assign, scope, error)
        return
    assigned = assign(run.scope(frame, error.value), catcher.assign) if catcher.assign is not None else None
    if catcher.result_path is None:
        output = frame.data
    elif catcher.result_path.text == "$":
        output = error
    else:
        output = Document.of(catcher.result_path.put(frame.data.value, error.value))
    run.leave(frame, output, catcher.next, assigned)


def assign(scope: Scope, assignment: Assignment) -> dict[str, Json]:
    """Evaluate an Assign field."""
    return dict(cast(Mapping[str, Json], assignment.template(scope)))


def _leave_jsonata(
    run: Run,
    frame: Frame,
    next: str | None,
    output: Template | None,
    assignment: Assignment | None,
    scope: StatesScope,
    default: Document,
) -> None:
    """Leave a JSONata state. Output and Assign read the same variables: those from before the state."""
    document = default if output is None else output.document(scope)
    assigned = assign(scope, assignment) if assignment is not None else None
    run.leave(frame, document, next, assigned)


def _output_path(run: Run, frame: Frame, flow: JsonPathFlow, document: Document) -> Document:
    """Apply OutputPath."""
    if flow.output_path is None:
        return EMPTY_OBJECT
    if flow.output_path.text == "$":
        return document
    return Document.of(path_reader(flow.output_path)(run.scope(frame, document.value)))


# ------------------------------------------------------------------------------------------------------ single fields


def field_value(run: Run, frame: Frame, field: FieldValue) -> Json:
    """The value of a field, constant or computed."""
    return field.constant if field.expression is None else field.expression(field_scope(run, frame))


def integer(run: Run, frame: Frame, field: FieldValue, *, least: int = 0) -> int:
    """The value of a field that must be a whole number, at least `least`."""
    if field.expression is None:
        return cast(int, field.constant)
    value = any_integer(run, frame, field)
    if value < least:
        cause = f"The {field.field} field refers to value {value}, which is below {least}: {field.text}"
        raise field_error(frame, field, cause)
    return value


def any_integer(run: Run, frame: Frame, field: FieldValue) -> int:
    """The value of a field that must be a whole number, of whatever size."""
    value = field_value(run, frame, field)
    number = whole_number(number_in(frame, value))
    if not isinstance(number, int) or isinstance(number, bool):
        raise not_an_integer(frame, field, value)
    return number


def max_concurrency(run: Run, frame: Frame, field: FieldValue | None) -> int:
    """The value of a Map's MaxConcurrency; 0 where there is none, or no limit."""
    number = 0 if field is None else any_integer(run, frame, field)
    if number < 0 and field is not None:
        raise field_error(frame, field, "MaxConcurrency cannot be negative.")
    return number


def tolerated_percentage(run: Run, frame: Frame, field: FieldValue) -> float:
    """The value of ToleratedFailurePercentage."""
    value = field_value(run, frame, field)
    number = number_in(frame, value)
    if not isinstance(number, int | float) or isinstance(number, bool):
        raise _not_a(frame, field, value, "float")
    if not 0 <= number <= 100:
        raise field_error(frame, field, "ToleratedFailurePercentage must be between 0 and 100.")
    return float(number)


def number_in(frame: Frame, value: Json) -> Json:
    """The number that a path field refers to, which AWS takes from a text as well; anything else as it is."""
    if isinstance(value, str) and not is_jsonata_state(frame) and _NUMBER.fullmatch(value):
        return float(value) if "." in value else int(value)
    return value


def whole_number(value: Json) -> Json:
    """2 for 2.0; anything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def not_an_integer(frame: Frame, field: FieldValue, value: Json) -> StatesError:
    """The error for a field that gives something else than a whole number, in AWS's words."""
    if is_jsonata_state(frame) and isinstance(value, float):
        text = write_text(value)
        return query_error(f"The {field.field} field must be an integer but was: {text}", field.field)
    return _not_a(frame, field, value, "integer")


def _not_a(frame: Frame, field: FieldValue, value: Json, kind: str) -> StatesError:
    if is_jsonata_state(frame):
        return evaluation_gave_other(field.text or "", field.field, "number", value)
    return StatesError(
        ErrorName.RUNTIME,
        f'The {field.field} field refers to value "{as_text(value)}" which is not a valid {kind}: {field.text}',
    )


def as_text(value: Json) -> str:
    """A value as AWS's causes show it: a text without quotes, anything else as JSON."""
    return value if isinstance(value, str) else write_text(value)


def field_error(frame: Frame, field: FieldValue, cause: str) -> StatesError:
    """The error for a field that gives a value the state cannot use."""
    if is_jsonata_state(frame):
        return query_error(cause, field.field)
    return StatesError(ErrorName.RUNTIME, cause)


def is_jsonata_state(frame: Frame) -> bool:
    """Whether the frame's state is written in JSONata."""
    return isinstance(frame.current.flow, JsonataFlow)
