"""One JSONata expression, compiled: what it reads, and how it is evaluated against a scope.

The library converts nothing it does not need when it gets one document and reads the bindings from that in a prelude, so that
is what an expression is turned into: `($states := states; $name := v.name; {"r": EXPRESSION})`. The object around the result
tells undefined (`{}`) from null.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, cast

import jlens

from stepwell.engine.errors import InvalidQueryError
from stepwell.engine.jsontypes import Document, Json, write_text
from stepwell.engine.query import failures
from stepwell.engine.query.jsonata import functions
from stepwell.engine.query.jsonata.evaluation import IN_PROCESS, Evaluation, Outcome, OverBudgetError, carry_out
from stepwell.engine.query.scope import Scope, StatesScope

OPENING: Final = "{%"
CLOSING: Final = "%}"

_CALLED: Final = re.compile(r"\$(eval|shuffle|" + "|".join(functions.NAMES) + r")\b")
_STATES: Final = {
    "input": "document",
    "result": "result",
    "errorOutput": "error_output",
}
"""The members of `$states` that are documents, and what they are called in a scope."""
_MEMBERS: Final = (*_STATES, "context")
_UNDEFINED: Final = "{}"
_RESULT: Final = '{"r":'


def is_jsonata(value: object) -> bool:
    """Whether a value of a definition is a JSONata expression: a string from `{%` to `%}`."""
    return isinstance(value, str) and len(value) >= 4 and value.startswith(OPENING) and value.endswith(CLOSING)


def source_of(text: str) -> str:
    """The expression between `{%` and `%}`."""
    return text[len(OPENING) : -len(CLOSING)].strip()


class Jsonata:
    """A compiled expression. `source` is the expression itself, `variables` the variables it reads (without the dollar),
    `states` the members of `$states` it reads; `reads_context` tells that it reads `$`, `$$` or a bare name at its top,
    where there is nothing to be read."""

    __slots__ = ("_calls", "_chance", "_prelude", "_wrapped", "field", "reads_context", "source", "states", "variables")

    def __init__(self, source: str, field: str) -> None:
        self.source = source
        self.field = field
        called = set(_CALLED.findall(source))
        self._calls = tuple(name for name in functions.NAMES if name in called)
        self._chance = not functions.CHANCE.isdisjoint(called)
        reads = _reads(source)
        bindings = reads["bindings"]
        states = bindings.get("states", {})
        self.states = frozenset(_MEMBERS if states is True else (name for name in _MEMBERS if name in states))
        self.variables = frozenset(name for name in bindings if name != "states" and name not in functions.NAMES)
        self.reads_context = "input" in reads
        prelude = ["$states := states"] if self.states or "states" in bindings else []
        prelude += [f"${name} := v.{name}" for name in sorted(self.variables)]
        prelude += [line for name, line in functions.PRELUDE.items() if name in called]
        self._prelude = "".join(f"{line}; " for line in prelude)
        self._wrapped = self._wrap(source)

    def __call__(self, scope: Scope) -> Json:
        """The value for a scope, which must be a `StatesScope`. Raises `StatesError` States.QueryEvaluationError."""
        return self.document(scope).value

    def document(self, scope: Scope) -> Document:
        """The value for a scope, as a document: its text is neither parsed nor written again."""
        outcome = self._carry_out(scope, self._wrapped)
        text = outcome.text
        if text is None:
            raise failures.evaluation_threw(self.source, self.field, f"{outcome.code}: {outcome.message}")
        if text == _UNDEFINED:
            type_of = self._carry_out(scope, self._wrap(f"$type(({self.source}\n))"))
            raise failures.evaluation_gave_nothing(self.source, self.field, unsupported=type_of.text != _UNDEFINED)
        return Document.trusted(text[len(_RESULT) : -1].encode())

    def _wrap(self, source: str) -> str:
        # The line break ends a comment of the expression's. A step from an empty object keeps the scope out of `$`.
        result = f'{{"r": {source}\n}}'
        if self.reads_context:
            result = f"{{}}.{result}"
        return f"({self._prelude}{result})" if self._prelude else result

    def _carry_out(self, scope: Scope, wrapped: str) -> Outcome:
        assert isinstance(scope, StatesScope)
        evaluation = Evaluation(
            wrapped,
            self._scope_document(scope),
            scope.now,
            int.from_bytes(scope.entropy.bytes16()) if self._chance else 0,
            self._calls,
        )
        outcome = carry_out(evaluation, IN_PROCESS)
        if not outcome.limit:
            return outcome
        if scope.heavy is None:
            raise OverBudgetError(evaluation)
        return scope.heavy(evaluation)

    def _scope_document(self, scope: StatesScope) -> str:
        """What the prelude reads, and nothing that the expression does not."""
        members = [
            f'"{name}":{document.text.decode()}'
            for name, attribute in _STATES.items()
            if name in self.states and (document := cast("Document | None", getattr(scope, attribute))) is not None
        ]
        if "context" in self.states:
            members.append(f'"context":{write_text(scope.context)}')
        variables = [
            f'"{name}":{write_text(scope.variables[name])}' for name in self.variables if name in scope.variables
        ]
        return f'{{"states":{{{",".join(members)}}},"v":{{{",".join(variables)}}}}}'

    def __repr__(self) -> str:
        return f"Jsonata({self.source!r})"


def compile_jsonata(text: str, field: str) -> Jsonata:
    """Compile `{% ... %}`; `field` is where it stands, as error texts name it ("Output/total"). Raises `InvalidQueryError`."""
    if not is_jsonata(text):
        raise InvalidQueryError("A JSONata expression is a string enclosed in '{%' and '%}'.")
    source = source_of(text)
    try:
        jlens.Expression(source)
        return Jsonata(source, field)
    except jlens.JlensError as error:
        place = "" if error.position is None else f" (at character {error.position} of the expression)"
        raise InvalidQueryError(f"{error.code}: {error}{place}") from None
    except (UnicodeError, RecursionError, ValueError) as error:
        raise InvalidQueryError(f"The expression cannot be read: {error}") from None


def compile_jsonata_condition(value: Json, field: str) -> Callable[[Scope], bool]:
    """Compile a Condition: true, false, or an expression that must give one of them."""
    if not isinstance(value, str):
        return lambda scope: value is True
    compiled = compile_jsonata(value, field)

    def holds(scope: Scope) -> bool:
        found = compiled(scope)
        if not isinstance(found, bool):
            raise failures.evaluation_gave_other(compiled.source, field, "boolean", found)
        return found

    return holds


def _reads(source: str) -> dict[str, Any]:
    """What an expression reads. Functions that the analysis does not know are taken to read no more than their arguments."""
    expression = jlens.Expression(source)
    first: dict[str, Any] = dict(expression.reads())
    unknown = {name: _nothing for name, what in first["bindings"].items() if what is True}
    return dict(expression.reads(unknown)) if unknown and "input" in first else first


def _nothing(*arguments: Json) -> Json:
    return None
