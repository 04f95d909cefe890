"""One JSONata expression, compiled: what it reads, and how it is evaluated against a scope.

The library converts nothing it does not need when it gets one document and reads the bindings from that in a prelude, so that
is what an expression is turned into: `($states := states; $name := v.name; $$ := (); (){"r":EXPRESSION})`. The object around
the result tells undefined (`{}`) from null. It groups nothing, so that there is no `$` and `$$` in the expression.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import jlens
import msgspec

from stepwell.engine.errors import InvalidQueryError
from stepwell.engine.jsontypes import Document, Json, write_text
from stepwell.engine.query import failures
from stepwell.engine.query.evaluation import Evaluation, Outcome, Outcomes, OverBudgetError
from stepwell.engine.query.jsonata import functions
from stepwell.engine.query.jsonata.evaluation import IN_PROCESS, IN_PROCESS_SMALL, carry_out
from stepwell.engine.query.jsonata.names import functions_named, read_as_variables
from stepwell.engine.query.jsonata.pace import Pace
from stepwell.engine.query.jsonata.quick import judge
from stepwell.engine.query.jsonata.wording import TIMED_OUT, reworded, shown_code
from stepwell.engine.query.scope import Scope, StatesScope

OPENING: Final = "{%"
CLOSING: Final = "%}"

_TIMED: Final = ("now", "millis")
_CALLED: Final = re.compile(r"\$(eval|shuffle|now|millis|" + "|".join(functions.NAMES) + r")\b")
_STATES: Final = {
    "input": "document",
    "result": "result",
    "errorOutput": "error_output",
}
"""The members of `$states` that are documents, and what they are called in a scope."""
_MEMBERS: Final = (*_STATES, "context")
NO_DOCUMENT: Final = "$$ := ()"
"""Said before an expression that has no input document."""
_MOST_SHADOWED: Final = 16
"""Sets of variables with names of functions that a query is kept ready for."""
_UNDEFINED: Final = "{}"
_RESULT: Final = '{"r":'
"""What a wrapped source and its result begin with."""


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

    __slots__ = ("_query", "called", "field", "named", "quick", "reads_context", "source", "states", "variables")

    def __init__(self, source: str, field: str) -> None:
        self.source = source
        self.field = field
        self.called = frozenset(_CALLED.findall(source))
        reads = _reads(source)
        bindings = reads["bindings"]
        states = bindings.get("states", {})
        self.states = frozenset(_MEMBERS if states is True else (name for name in _MEMBERS if name in states))
        self.named = functions_named(source)
        self.variables = frozenset(bindings) - {"states", *functions.NAMES} | read_as_variables(source)
        self.reads_context = "input" in reads
        self.quick = judge(source)
        self._query = _Query(source, (self,))

    def __call__(self, scope: Scope) -> Json:
        """The value for a scope, which must be a `StatesScope`. Raises `StatesError` States.QueryEvaluationError."""
        return self.document(scope).value

    def document(self, scope: Scope) -> Document:
        """The value for a scope, as a document: its text is neither parsed nor written again."""
        outcome = self._query.carry_out(scope)
        text = outcome.text
        if text is None:
            raise failures.evaluation_threw(self.source, self.field, f"{shown_code(outcome.code)}: {outcome.message}")
        if text == _UNDEFINED:
            type_of = _Query(f"$type(({self.source}\n))", (self,)).carry_out(scope)
            raise failures.evaluation_gave_nothing(self.source, self.field, unsupported=type_of.text != _UNDEFINED)
        return Document.trusted(text[len(_RESULT) : -1].encode())

    def __repr__(self) -> str:
        return f"Jsonata({self.source!r})"


class _Query:
    """A source in its wrapping, which gives it what the expressions in it read, and nothing else. `shadows` are the functions
    whose names are those of variables."""

    __slots__ = (
        "_budget",
        "_calls",
        "_chance",
        "_expressions",
        "_members",
        "_most",
        "_named",
        "_pace",
        "_shadowed",
        "_source",
        "_timed",
        "_variables",
        "_wrapped",
    )

    def __init__(self, source: str, expressions: tuple[Jsonata, ...], shadows: frozenset[str] = frozenset()) -> None:
        self._source = source
        self._expressions = expressions
        self._shadowed: dict[frozenset[str], _Query] = {}
        self._named = frozenset[str]().union(*(one.named for one in expressions)) - shadows
        called = frozenset[str]().union(*(one.called for one in expressions)) - shadows
        self._calls = tuple(name for name in functions.NAMES if name in called)
        self._chance = not functions.CHANCE.isdisjoint(called)
        self._timed = not called.isdisjoint(_TIMED)
        self._most = min(one.quick.most_bytes for one in expressions)
        self._pace = Pace()
        self._budget = IN_PROCESS_SMALL if any(one.quick.small for one in expressions) else IN_PROCESS
        members = frozenset[str]().union(*(one.states for one in expressions))
        self._members = tuple(name for name in _MEMBERS if name in members)
        self._variables = sorted(shadows.union(*(one.variables for one in expressions)) - self._named)
        prelude = ["$states := states", *(f"${name} := v.{name}" for name in self._variables)]
        prelude += [line for name, line in functions.PRELUDE.items() if name in called]
        # The line break ends a comment of the expression's.
        self._wrapped = f"({'; '.join((*prelude, NO_DOCUMENT))}; (){_RESULT}{source}\n}})"

    def carry_out(self, scope: Scope) -> Outcome:
        assert isinstance(scope, StatesScope)
        if self._named and not self._named.isdisjoint(scope.variables):
            return self._with_shadows(self._named.intersection(scope.variables)).carry_out(scope)
        evaluation = Evaluation(
            self._wrapped,
            self._document(scope),
            scope.now if self._timed else 0,
            int.from_bytes(scope.entropy.bytes16()) if self._chance else 0,
            self._calls,
        )
        heavy = scope.heavy
        if isinstance(heavy, Outcomes) and (known := heavy.known(evaluation)) is not None:
            return known
        size = len(evaluation.document)
        if size <= self._most and self._pace.allows(size):
            outcome = carry_out(evaluation, self._budget)
            self._pace.took(size, too_long=outcome.code == TIMED_OUT and outcome.limit)
            if not outcome.limit:
                return outcome
            if outcome.code != TIMED_OUT:  # it strikes whenever there is as much data or more
                self._most = size - 1
        if heavy is None:
            raise OverBudgetError(evaluation)
        return heavy(evaluation)

    def _with_shadows(self, shadows: frozenset[str]) -> _Query:
        query = self._shadowed.get(shadows)
        if query is None:
            if len(self._shadowed) >= _MOST_SHADOWED:
                self._shadowed.clear()
            query = self._shadowed[shadows] = _Query(self._source, self._expressions, shadows)
        return query

    def _document(self, scope: StatesScope) -> str:
        members = []
        for name in self._members:
            if name == "context":
                members.append(f'"context":{write_text(scope.context)}')
                continue
            document: Document | None = getattr(scope, _STATES[name])
            if document is not None:
                members.append(f'"{name}":{document.text.decode()}')
        variables = [
            f'"{name}":{write_text(scope.variables[name])}' for name in self._variables if name in scope.variables
        ]
        return f'{{"states":{{{",".join(members)}}},"v":{{{",".join(variables)}}}}}'


class Together:
    """Expressions that are evaluated at once: what they read is handed over a single time."""

    __slots__ = ("_expressions", "_query")

    def __init__(self, expressions: tuple[Jsonata, ...]) -> None:
        self._expressions = expressions
        # Parentheses keep a variable that one expression sets from the others.
        sources = [f"({one.source}\n)" if ":=" in one.source else one.source for one in expressions]
        members = "\n,".join(f'"{index}": {source}' for index, source in enumerate(sources))
        self._query = _Query(f"{{{members}\n}}", expressions)

    def texts(self, scope: Scope) -> list[bytes]:
        """The JSON texts of the values. Raises as the first expression that fails does when it is evaluated by itself."""
        if len(self._expressions) > 1:
            outcome = self._query.carry_out(scope)
            if outcome.text is not None:
                found = _values_of(outcome.text)
                if len(found) == len(self._expressions):
                    return [bytes(found[str(index)]) for index in range(len(found))]
        return [one.document(scope).text for one in self._expressions]


_decoder: Final = msgspec.json.Decoder(dict[str, dict[str, msgspec.Raw]])


def _values_of(text: str) -> dict[str, msgspec.Raw]:
    return _decoder.decode(text).get("r", {})


def compile_jsonata(text: str, field: str) -> Jsonata:
    """Compile `{% ... %}`; `field` is where it stands, as error texts name it ("Output/total"). Raises `InvalidQueryError`."""
    if not is_jsonata(text):
        raise InvalidQueryError("A JSONata expression is a string enclosed in '{%' and '%}'.")
    source = source_of(text)
    try:
        return Jsonata(source, field)
    except jlens.JlensError as error:
        place = "" if error.position is None else f" (at character {error.position} of the expression)"
        code, message = reworded(error.code, str(error), "", "")
        raise InvalidQueryError(f"{code}: {message}{place}") from None
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
