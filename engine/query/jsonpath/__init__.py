"""JSONPath in the Jayway dialect, compiled to closures when a definition is parsed.

`compile_jsonpath` reads the paths of the States Language, whose root is the input (`$`), the context object (`$$`) or
a variable (`$name`); `compile_jayway` reads the bare dialect. A definite path gives the bare value, and
`PathNotFoundError` where it leads nowhere; any other gives a list. AWS deviates from the dialect in one place: a list
path over an absent property gives an empty list. An index or slice of something that is no array is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from stepwell.engine.errors import InvalidQueryError, PathNotFoundError
from stepwell.engine.jsontypes import Json
from stepwell.engine.query.jsonpath.parser import parse_path
from stepwell.engine.query.jsonpath.tokens import Index, ParsedPath, Property
from stepwell.engine.query.jsonpath.walk import compile_evaluator, is_plain
from stepwell.engine.query.scope import Expression, Scope

INPUT: Final = "$"
CONTEXT: Final = "$$"

_VARIABLE: Final = re.compile(r"\$([^\W\d]\w*)(.*)", re.DOTALL)


class JsonPath:
    """A compiled path. Call it with a scope, or call `evaluate` with the document the root stands for.

    `root` is `$`, `$$` or the variable's name. `parsed` holds the tokens, for validation and reference paths. `plain`: it has names
    and indexes only, one each, and takes no effort.
    `expression` does what calling the path does, one call cheaper.
    """

    __slots__ = ("definite", "evaluate", "expression", "parsed", "plain", "root", "text")

    def __init__(self, text: str, root: str, parsed: ParsedPath) -> None:
        self.text = text
        self.root = root
        self.parsed = parsed
        self.definite: bool = parsed.definite
        self.plain = is_plain(parsed)
        self.evaluate: Callable[[Json], Json] = compile_evaluator(parsed)
        self.expression: Expression = _bind(root, self.evaluate)

    def __call__(self, scope: Scope) -> Json:
        return self.expression(scope)

    @property
    def variable(self) -> str | None:
        """The name of the variable the path reads, without the dollar; None for the input and the context object."""
        return None if self.root in (INPUT, CONTEXT) else self.root

    @property
    def is_reference(self) -> bool:
        """Whether the path is a Reference Path: single names and indexes only, so that it names one node."""
        return all(
            (isinstance(token, Property) and len(token.names) == 1)
            or (isinstance(token, Index) and len(token.indexes) == 1)
            for token in self.parsed.tokens
        )

    def __repr__(self) -> str:
        return f"JsonPath({self.text!r})"


def compile_jsonpath(text: str) -> JsonPath:
    """Compile a path of the States Language. Raises `InvalidQueryError`."""
    if not text.startswith("$"):
        raise InvalidQueryError(f"The JSONPath '{text}' is not valid: a path starts with '$'.")
    if text.startswith("$$"):
        return JsonPath(text, CONTEXT, parse_path(text[1:]))
    variable = _VARIABLE.fullmatch(text)
    if variable is not None:
        return JsonPath(text, variable[1], parse_path("$" + variable[2]))
    return JsonPath(text, INPUT, parse_path(text))


def compile_jayway(text: str) -> JsonPath:
    """Compile a path of the bare dialect: the root may be left out, and there are no variables."""
    return JsonPath(text, INPUT, parse_path(text))


def _bind(root: str, evaluate: Callable[[Json], Json]) -> Expression:
    if root == INPUT:
        return lambda scope: evaluate(scope.input)
    if root == CONTEXT:
        return lambda scope: evaluate(scope.context)

    def read_variable(scope: Scope) -> Json:
        try:
            value = scope.variables[root]
        except KeyError:
            raise PathNotFoundError(f"The variable '${root}' is not defined.") from None
        return evaluate(value)

    return read_variable


__all__ = ["CONTEXT", "INPUT", "JsonPath", "compile_jayway", "compile_jsonpath"]
