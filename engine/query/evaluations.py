"""Carries out an `Evaluation`, whatever its language: JSONata, or the paths, templates and rules of JSONPath.

Called where it holds up nobody: in a helper process, in replays and tests. It must not know which.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, cast

import msgspec

from stepwell.engine.clock import Entropy
from stepwell.engine.errors import JsonTextError
from stepwell.engine.jsontypes import Json, write_text
from stepwell.engine.query import effort, jsonata
from stepwell.engine.query.choice_rules import compile_choice
from stepwell.engine.query.jsonata import Budget, Evaluation, Outcome
from stepwell.engine.query.movable import About, Kind
from stepwell.engine.query.paths import compile_path_field
from stepwell.engine.query.scope import Expression, Scope
from stepwell.engine.query.templates import compile_field, compile_template
from stepwell.engine.states_errors import ErrorName, StatesError


def carry_out(evaluation: Evaluation, budget: Budget) -> Outcome:
    """Evaluate; `budget` bounds JSONata, `effort` the rest. Never raises for what the expression does."""
    if not evaluation.kind:
        return jsonata.carry_out(evaluation, budget)
    with effort.carried_out() as left:
        try:
            value = _compiled(evaluation.kind, evaluation.source)(_scope_of(evaluation))
            outcome = Outcome(write_text(value))
        except StatesError as error:
            outcome = Outcome(code=error.error, message=error.cause)
        except (JsonTextError, RecursionError) as error:
            outcome = Outcome(code=ErrorName.RUNTIME, message=str(error) or "The data is nested too deeply.")
        steps = left.spent()
    return msgspec.structs.replace(outcome, steps=steps, limit=outcome.text is None and steps >= effort.MAX_STEPS)


def _scope_of(evaluation: Evaluation) -> Scope:
    about = msgspec.json.decode(evaluation.document, type=About)
    return Scope(
        about.input,
        variables=about.variables,
        context=lambda: cast(Json, about.context),
        entropy=Entropy(evaluation.seed),
    )


@lru_cache(maxsize=64)
def _compiled(kind: str, source: str) -> Expression:
    raw: Any = msgspec.json.decode(source)
    match Kind(kind):
        case Kind.PATH:
            return compile_path_field(raw)
        case Kind.FIELD:
            return compile_field(*raw).expression
        case Kind.TEMPLATE:
            return compile_template(raw).expression
        case Kind.CHOICE:
            return compile_choice(raw)
