"""Intrinsic functions: `States.Format('Hello, {}', $.name)`, compiled when a definition is parsed.

Evaluating raises `StatesError`: States.IntrinsicFailure where a function refuses its arguments, States.Runtime where a
path argument leads nowhere, with AWS's causes. Arguments are evaluated, and entropy is drawn, from left to right.
"""

from __future__ import annotations

from collections.abc import Iterator

from stepwell.engine.errors import EffortError, InvalidQueryError, JsonTextError, PathNotFoundError, QueryError
from stepwell.engine.jsontypes import Json
from stepwell.engine.query.effort import begin
from stepwell.engine.query.failures import (
    intrinsic_argument_not_found,
    intrinsic_failed,
    intrinsic_variable_not_defined,
)
from stepwell.engine.query.intrinsics.checks import Refusal
from stepwell.engine.query.intrinsics.functions import FUNCTIONS, Implementation, IntrinsicFunction, fill
from stepwell.engine.query.intrinsics.syntax import MAX_NESTING, Argument, Call, Constant, Text, parse_intrinsic
from stepwell.engine.query.jsonpath import JsonPath
from stepwell.engine.query.paths import document_of
from stepwell.engine.query.scope import Expression, Scope

PREFIX = "States."


class Intrinsic:
    """A compiled call; `variables` names the variables its paths read, without the dollar; `weight` counts it and those within
    it, in the time of plain paths; `light` tells that it takes no effort, whatever the data are."""

    __slots__ = ("call", "expression", "light", "text", "variables", "weight")

    def __init__(self, call: Call) -> None:
        self.call = call
        self.text = call.text
        self.weight = _weight(call)
        self.variables = frozenset(path.variable for path in _paths(call) if path.variable is not None)
        self.expression: Expression = _compile_call(call)
        self.light = _is_light(call)

    def __call__(self, scope: Scope) -> Json:
        begin()  # outside of a state, a call does not pay for what others have read before it
        return self.expression(scope)

    def __repr__(self) -> str:
        return f"Intrinsic({self.text!r})"


def compile_intrinsic(text: str) -> Intrinsic:
    """Compile a call. Raises `InvalidQueryError` for text that is none, unknown functions and wrong argument counts."""
    return Intrinsic(parse_intrinsic(text))


def _weight(argument: Argument) -> int:
    return 3 + sum(map(_weight, argument.arguments)) if isinstance(argument, Call) else 0


def _is_light(argument: Argument) -> bool:
    if isinstance(argument, JsonPath):
        return argument.plain
    return not isinstance(argument, Call) or (
        FUNCTIONS[argument.name].light and all(map(_is_light, argument.arguments))
    )


def _paths(argument: Argument) -> Iterator[JsonPath]:
    if isinstance(argument, JsonPath):
        yield argument
    elif isinstance(argument, Call):
        for inner in argument.arguments:
            yield from _paths(inner)


def _compile_call(call: Call) -> Expression:
    function = FUNCTIONS.get(call.name)
    if function is None:
        raise InvalidQueryError(f"There is no intrinsic function {call.name}; {_instead(call.name)}")
    _check_count(call, function)
    implementation, arguments = function.call, call.arguments
    if call.name == "States.Format" and isinstance(arguments[0], Text):
        implementation, arguments = _literal_format(arguments[0]), arguments[1:]
    readers = tuple(_compile_argument(argument, call) for argument in arguments)
    text = call.text

    def evaluate(scope: Scope) -> Json:
        values = [read(scope) for read in readers]
        try:
            return implementation(values, scope.entropy)
        except (Refusal, JsonTextError, EffortError) as error:
            raise intrinsic_failed(text, str(error)) from None

    return evaluate


def _instead(name: str) -> str:
    from difflib import get_close_matches  # takes a while to load, and most names are right

    lower = {each.lower(): each for each in FUNCTIONS}
    near = get_close_matches(name.lower()[:100], lower, 1, cutoff=0.75)
    return f"did you mean {lower[near[0]]}?" if near else f"there are {', '.join(FUNCTIONS)}."


def _check_count(call: Call, function: IntrinsicFunction) -> None:
    count = len(call.arguments)
    if count < function.least or (function.most is not None and count > function.most):
        wanted = str(function.least)
        if function.most is None:
            wanted += " or more"
        elif function.most != function.least:
            wanted += f" to {function.most}"
        raise InvalidQueryError(f"{call.name} takes {wanted} argument(s), not {count}: '{call.text}'.")


def _literal_format(template: Text) -> Implementation:
    pieces = template.pieces
    return lambda values, entropy: fill(pieces, values)


def _compile_argument(argument: Argument, call: Call) -> Expression:
    if isinstance(argument, Call):
        return _compile_call(argument)
    if isinstance(argument, Constant | Text):
        value = argument.value
        return lambda scope: value
    path, expression = argument, argument.expression

    def read(scope: Scope) -> Json:
        try:
            return expression(scope)
        except PathNotFoundError:
            if path.variable is not None and path.variable not in scope.variables:
                raise intrinsic_variable_not_defined(call.text, path.variable) from None
            raise intrinsic_argument_not_found(call.text, path.text, document_of(path, scope)) from None
        except QueryError as error:
            raise intrinsic_failed(call.text, str(error)) from None

    return read


__all__ = ["FUNCTIONS", "MAX_NESTING", "PREFIX", "Intrinsic", "compile_intrinsic"]
