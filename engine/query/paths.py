"""Path fields of states: reading a part of the input (InputPath and its like) and writing a result into it (ResultPath).

Documents are shared between states, so writing copies the containers on the way and nothing else, and never mutates.
"""

from __future__ import annotations

from typing import Final

from stepwell.engine.errors import InvalidQueryError, PathNotFoundError, QueryError
from stepwell.engine.jsontypes import Json
from stepwell.engine.query.failures import invalid_path, result_path_mismatch
from stepwell.engine.query.jsonpath import CONTEXT, INPUT, JsonPath, compile_jsonpath
from stepwell.engine.query.jsonpath.tokens import Index, Property
from stepwell.engine.query.movable import Kind, Movable
from stepwell.engine.query.scope import Expression, Scope


def compile_path_field(text: str) -> Expression:
    """The reader of a path field. Raises `InvalidQueryError` now; evaluating raises `StatesError` States.Runtime with
    AWS's cause "Invalid path '...' : ..."."""
    return path_reader(compile_jsonpath(text))


def path_reader(path: JsonPath) -> Expression:
    """As `compile_path_field`, for a path already compiled."""
    expression = path.expression

    def read(scope: Scope) -> Json:
        try:
            return expression(scope)
        except QueryError as error:
            raise invalid_path(path.text, str(error)) from None

    return read if path.plain else Movable(read, Kind.PATH, path.text)


def document_of(path: JsonPath, scope: Scope) -> Json:
    """The document the path's root stands for: what error messages show as the input."""
    if path.root == INPUT:
        return scope.input
    return scope.context if path.root == CONTEXT else scope.variables.get(path.root)


class ReferencePath:
    """A path that names exactly one node of the input, so that a value can be put there."""

    __slots__ = ("_steps", "text")

    def __init__(self, text: str, steps: tuple[str | int, ...]) -> None:
        self.text = text
        self._steps = steps

    @classmethod
    def parse(cls, text: str) -> ReferencePath:
        """Parse ResultPath's value. Raises `InvalidQueryError` for anything that is no Reference Path into the input."""
        path = compile_jsonpath(text)
        if path.root != INPUT or not path.is_reference:
            raise InvalidQueryError(
                f"'{text}' is not a Reference Path; write names and indexes below '$' only, as in $.order.items[0]."
            )
        steps: list[str | int] = []
        for token in path.parsed.tokens:
            if isinstance(token, Property):
                steps.append(token.names[0])
            elif isinstance(token, Index):
                steps.append(token.indexes[0])
        return cls(text, tuple(steps))

    @property
    def is_root(self) -> bool:
        """`$`: the value replaces the whole document."""
        return not self._steps

    def put(self, document: Json, value: Json) -> Json:
        """A document with the value in its place; absent objects on the way are made.

        Raises `StatesError` States.ResultPathMatchFailure where a name meets something that is no object, or an index
        meets no element.
        """
        if not self._steps:
            return value
        try:
            return _put(document, self._steps, 0, value)
        except PathNotFoundError:
            raise result_path_mismatch(self.text, document) from None

    def __repr__(self) -> str:
        return f"ReferencePath({self.text!r})"


_ABSENT: Final = object()


def _put(node: object, steps: tuple[str | int, ...], position: int, value: Json) -> Json:
    if position == len(steps):
        return value
    step = steps[position]
    if isinstance(step, str):
        if node is _ABSENT:
            return {step: _put(_ABSENT, steps, position + 1, value)}
        if isinstance(node, dict):
            return {**node, step: _put(node.get(step, _ABSENT), steps, position + 1, value)}
    elif isinstance(node, list) and -len(node) <= step < len(node):
        copy: list[Json] = list(node)
        copy[step] = _put(node[step], steps, position + 1, value)
        return copy
    raise PathNotFoundError(str(step))
