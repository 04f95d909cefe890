"""Choice rules in JSONPath, compiled to closures: And, Or and Not around the comparisons of `choice_operators`; and which of the
rules of a state is the first to match. It must not know where a rule leads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias, cast

from stepwell.engine.errors import EffortError
from stepwell.engine.jsontypes import Json
from stepwell.engine.query.choice_operators import LIGHT, OPERATORS, compile_condition
from stepwell.engine.query.effort import FEW, RULE_STEPS, spend
from stepwell.engine.query.failures import choice_takes_too_long
from stepwell.engine.query.jsonpath import compile_jsonpath
from stepwell.engine.query.movable import Kind, Movable
from stepwell.engine.query.scope import Expression, Scope

Condition: TypeAlias = Callable[[Scope], bool]


def compile_rule(rule: Mapping[str, Json]) -> Condition:
    """The condition of a rule in which nothing is wrong."""
    if "And" in rule:
        return _every(_compile_all(rule["And"]))
    if "Or" in rule:
        return _some(_compile_all(rule["Or"]))
    if "Not" in rule:
        inner = compile_rule(cast(Mapping[str, Json], rule["Not"]))
        return lambda scope: not inner(scope)
    operator = next(key for key in rule if key in OPERATORS)
    return compile_condition(cast(str, rule["Variable"]), operator, rule[operator])


def compile_choice(rules: Sequence[Mapping[str, Json]]) -> Expression:
    """The place of the first of these rules that matches, None if none does."""
    expression = first_match(tuple(map(compile_rule, rules)))
    if len(rules) <= FEW and all(map(_is_light, rules)):
        return expression
    return Movable(expression, Kind.CHOICE, rules)


def first_match(conditions: tuple[Condition, ...]) -> Expression:
    """The place of the first condition that holds, None if none does. Evaluating raises `StatesError` for those that take too long."""

    def find(scope: Scope) -> Json:
        try:
            for index, holds in enumerate(conditions):
                if holds(scope):
                    return index
        except EffortError as error:
            raise choice_takes_too_long(str(error)) from None
        return None

    return find if len(conditions) <= FEW else _counted_whole(find, len(conditions))


def _counted_whole(find: Expression, rules: int) -> Expression:
    def counted(scope: Scope) -> Json:
        try:
            spend(rules * RULE_STEPS)
        except EffortError as error:
            raise choice_takes_too_long(str(error)) from None
        return find(scope)

    return counted


def _is_light(rule: Mapping[str, Json]) -> bool:
    """Whether a rule takes no effort, whatever the data are."""
    operator = next((key for key in rule if key in OPERATORS), "")
    return operator in LIGHT and compile_jsonpath(cast(str, rule["Variable"])).plain


def _compile_all(operand: Json) -> tuple[Condition, ...]:
    return tuple(compile_rule(cast(Mapping[str, Json], inner)) for inner in cast(Sequence[Json], operand))


def _every(conditions: tuple[Condition, ...]) -> Condition:
    return _counted(len(conditions), lambda scope: all(condition(scope) for condition in conditions))


def _some(conditions: tuple[Condition, ...]) -> Condition:
    return _counted(len(conditions), lambda scope: any(condition(scope) for condition in conditions))


def _counted(rules: int, condition: Condition) -> Condition:
    if rules <= FEW:
        return condition

    def holds(scope: Scope) -> bool:
        spend(rules * RULE_STEPS)
        return condition(scope)

    return holds
