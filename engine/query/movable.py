"""Paths, templates and Choice rules that need more than they may do in the engine's own process: they become an `Evaluation`, which is
carried out elsewhere, and whose outcome is taken the next time the same event is applied.

What comes of it is the same here and there, errors and chance included. It must not know where that is, nor states.
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import cached_property
from typing import Any, Final

import msgspec

from stepwell.engine.errors import EffortError, TooMuchHereError
from stepwell.engine.jsontypes import Json, read, write_text
from stepwell.engine.query import effort
from stepwell.engine.query.evaluation import Evaluation, Outcome, Outcomes, OverBudgetError
from stepwell.engine.query.failures import takes_too_long
from stepwell.engine.query.scope import Expression, Scope
from stepwell.engine.states_errors import ErrorName, StatesError


class Kind(StrEnum):
    """What an evaluation's source is, other than JSONata."""

    PATH = "path"
    """The text of a path field."""
    FIELD = "field"
    """The text of a field that takes a path or a call, and the field's name."""
    TEMPLATE = "template"
    CHOICE = "choice"
    """The rules of a Choice state; the outcome is the place of the first that matches, or null."""


_ERRORS: Final = frozenset(ErrorName)
_NAMES: Final = re.compile(r"\$([^\W\d]\w*)")
_CHANCE: Final = ("States.UUID", "States.MathRandom")


class Movable:
    """An expression, and `raw`, what it was compiled from. Call it with a scope."""

    def __init__(self, expression: Expression, kind: Kind, raw: Json) -> None:
        self._expression = expression
        self._kind = kind
        self._raw = raw

    def __call__(self, scope: Scope) -> Json:
        effort.begin()
        entropy, heavy = scope.entropy, scope.heavy
        drawn = entropy.drawn
        if isinstance(heavy, Outcomes) and heavy.some:
            known = heavy.known(self._evaluation(scope))
            if known is not None:
                return _value_of(known)
            entropy.drawn = drawn
        try:
            return self._expression(scope)
        except TooMuchHereError:
            entropy.drawn = drawn
        evaluation = self._evaluation(scope)
        if heavy is None:
            raise OverBudgetError(evaluation)
        return _value_of(heavy(evaluation))

    @cached_property
    def _source(self) -> str:
        return write_text(self._raw)

    @cached_property
    def _draws(self) -> bool:
        return any(name in self._source for name in _CHANCE)

    @cached_property
    def _variables(self) -> tuple[str, ...]:
        """The names of the variables it may read: those it reads, and what only looks like one."""
        return tuple(sorted(set(_NAMES.findall(self._source))))

    def _evaluation(self, scope: Scope) -> Evaluation:
        about: dict[str, Json] = {
            "input": scope.input,
            "variables": {name: scope.variables[name] for name in self._variables if name in scope.variables},
            "context": scope.context if "$$" in self._source else None,
        }
        seed = int.from_bytes(scope.entropy.bytes16()) if self._draws else 0
        return Evaluation(self._source, write_text(about), seed=seed, kind=self._kind)


class About(msgspec.Struct):
    """What an evaluation reads, as it travels."""

    input: Any
    variables: dict[str, Any]
    context: Any


def _value_of(outcome: Outcome) -> Json:
    try:
        effort.took(outcome.steps)
    except EffortError as error:
        raise takes_too_long(str(error)) from None
    if outcome.text is not None:
        return read(outcome.text)
    message = outcome.message or ""
    if outcome.code in _ERRORS:
        raise StatesError(ErrorName(outcome.code), outcome.message)
    raise takes_too_long(message)
