"""The causes AWS gives when data cannot be read, one function each; all of them end an execution as recorded on AWS.

The causes come without the words "An error occurred while executing the state '...' (entered at the event id #...). ":
whoever knows the state and the event puts them in front of every `StatesError` that leaves a state's evaluation. This
module must not know states.
"""

from __future__ import annotations

from stepwell.engine.errors import JsonTextError
from stepwell.engine.jsontypes import Json, write_text
from stepwell.engine.query.values import kind_of
from stepwell.engine.states_errors import ErrorName, StatesError


def _shown(value: Json) -> str:
    try:
        return write_text(value)
    except JsonTextError:
        return "<a value that has no JSON text>"


def field_not_found(path: str, field: str, document: Json) -> StatesError:
    """A definite path in a template field (`x.$`) or in ErrorPath, CausePath leads nowhere."""
    return StatesError(
        ErrorName.RUNTIME,
        f"The JSONPath '{path}' specified for the field '{field}' could not be found in the input '{_shown(document)}'",
    )


def variable_not_defined(path: str, field: str, name: str) -> StatesError:
    """A path in a template field begins with a variable that nothing has assigned."""
    return StatesError(
        ErrorName.RUNTIME,
        f"The JSONPath '{path}' specified for the field '{field}' could not be found: the variable '${name}' is not defined",
    )


def template_too_large(most: int) -> StatesError:
    """A payload template gives far more than any state may be given."""
    return StatesError(ErrorName.DATA_LIMIT_EXCEEDED, f"The payload template gives more than {most} bytes.")


def template_takes_too_long(reason: str) -> StatesError:
    """Computing all the fields of a payload template takes more than a state may do."""
    return StatesError(ErrorName.RUNTIME, f"The payload template cannot be computed: {reason}")


def invalid_path(path: str, reason: str) -> StatesError:
    """InputPath, OutputPath, ItemsPath, TimeoutSecondsPath and their like lead nowhere or cannot be applied."""
    return StatesError(ErrorName.RUNTIME, f"Invalid path '{path}' : {reason}")


def choice_value_missing(path: str) -> StatesError:
    """A Choice rule's Variable, or the path it is compared with, leads nowhere."""
    return StatesError(
        ErrorName.RUNTIME,
        f"Invalid path '{path}': The choice state's condition path references an invalid value.",
    )


def choice_takes_too_long(reason: str) -> StatesError:
    """Evaluating the rules of a Choice state takes more than a state may do."""
    return StatesError(ErrorName.RUNTIME, f"The choice rules cannot be evaluated: {reason}")


def takes_too_long(reason: str) -> StatesError:
    """Data cannot be read within the limits, wherever that is done."""
    return StatesError(ErrorName.RUNTIME, f"The data cannot be read: {reason}")


def intrinsic_argument_not_found(call: str, path: str, document: Json) -> StatesError:
    """A path given to an intrinsic function leads nowhere."""
    return StatesError(
        ErrorName.RUNTIME,
        f"The function '{call}' had the following error: The JsonPath argument for the field '{path}' could not be "
        f"found in the input '{_shown(document)}'",
    )


def intrinsic_variable_not_defined(call: str, name: str) -> StatesError:
    """A path given to an intrinsic function begins with a variable that nothing has assigned."""
    return StatesError(
        ErrorName.RUNTIME, f"The function '{call}' had the following error: The variable '${name}' is not defined"
    )


def intrinsic_failed(call: str, reason: str) -> StatesError:
    """An intrinsic function refuses its arguments."""
    return StatesError(ErrorName.INTRINSIC_FAILURE, f"The function '{call}' had the following error: {reason}")


def result_path_mismatch(path: str, document: Json) -> StatesError:
    """ResultPath points into something that can hold no such member."""
    return StatesError(
        ErrorName.RESULT_PATH_MATCH_FAILURE, f"Unable to apply ReferencePath {path} to input {_shown(document)}"
    )


def evaluation_threw(expression: str, field: str, what: str) -> StatesError:
    """A JSONata expression ends with an error."""
    return _evaluation_failed(expression, field, f"threw an error during evaluation. {what}")


def evaluation_gave_nothing(expression: str, field: str, *, unsupported: bool) -> StatesError:
    """A JSONata expression gives undefined, or a function, neither of which has JSON text."""
    what = "returned an unsupported result type." if unsupported else "returned nothing (undefined)."
    return _evaluation_failed(expression, field, what)


def evaluation_gave_other(expression: str, field: str, wanted: str, value: Json) -> StatesError:
    """A JSONata expression gives a value of another type than its field takes."""
    what = f"returned an unexpected result type. Expected '{wanted}', but was '{kind_of(value)}' for value: {_shown(value)}"
    return _evaluation_failed(expression, field, what)


def _evaluation_failed(expression: str, field: str, what: str) -> StatesError:
    return query_error(f"The JSONata expression '{expression}' specified for the field '{field}' {what}", field)


def query_error(cause: str, location: str | None) -> StatesError:
    """A JSONata state cannot be run with the data it has; `location` is the field that shows it."""
    return StatesError(ErrorName.QUERY_EVALUATION_ERROR, cause, location)
