"""Choice rules in JSONPath: what is wrong with one, and its condition as a closure.

One Variable with one operator is `query.choice_operators`' part; And, Or, Not and where they may stand are this one's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from stepwell.engine.asl import query_rules, rules
from stepwell.engine.asl.language import QueryLanguage
from stepwell.engine.asl.placeholders import left_open
from stepwell.engine.asl.report import Place, Report
from stepwell.engine.jsontypes import Json
from stepwell.engine.query.choice_operators import OPERATORS
from stepwell.engine.query.scope import Scope

Condition: TypeAlias = Callable[[Scope], bool]

COMBINATORS: Final = ("And", "Or", "Not")
_TOP_ONLY: Final = ("Next", "Assign")
_JSONATA_ONLY: Final = ("Condition", "Output")
_MEMBERS: Final = frozenset({*OPERATORS, *COMBINATORS, *_TOP_ONLY, "Variable", "Comment"})
JSONPATH_ONLY: Final = frozenset({*OPERATORS, *COMBINATORS, "Variable"})
"""The members that a rule in JSONata does not have."""


def check_rule(report: Report, rule: Json, place: Place, *, top: bool = True) -> None:
    """Note what is wrong with a choice rule; `top` for an entry of Choices, which alone may have Next and Assign."""
    if left_open(report, rule, place):
        return
    if not isinstance(rule, dict):
        report.error(place, "Expected value of type Object")
        return
    operators = [key for key in rule if key in OPERATORS]
    combinators = [key for key in COMBINATORS if key in rule]
    _check_members(report, rule, place, top=top, comparison=not combinators)
    if len(operators) + len(combinators) != 1:
        found = ", ".join(combinators + operators) or "none"
        report.error(
            place,
            f"A choice rule must have exactly one comparison operator or one of [And, Or, Not], found: {found}",
        )
        return
    if combinators:
        _check_combinator(report, rule[combinators[0]], (place, combinators[0]))
        return
    place = (place, operators[0])
    problem = OPERATORS[operators[0]].check(rule[operators[0]])
    if problem is not None and not left_open(report, rule[operators[0]], place):
        report.error(place, f"The value for the field '{operators[0]}' {problem}")


def _check_members(report: Report, rule: Mapping[str, Json], place: Place, *, top: bool, comparison: bool) -> None:
    for key, value in rule.items():
        if key in OPERATORS or key in COMBINATORS:
            continue
        if left_open(report, value, (place, key)):
            continue
        if key == "Variable" and comparison:
            query_rules.check_variable(report, value, (place, key))
        elif key == "Comment" or (key == "Next" and top):
            rules.check_string(report, value, (place, key), QueryLanguage.JSONPATH)
        elif key == "Assign" and top:
            query_rules.check_assign(report, value, (place, key), QueryLanguage.JSONPATH)
        elif key in _JSONATA_ONLY:
            query_rules.wrong_language(report, place, key, QueryLanguage.JSONPATH)
        else:
            misplaced = key in _TOP_ONLY
            hint = "Only a rule directly in Choices may have it." if misplaced else report.meant(key, _MEMBERS)
            report.error(place, f"Field '{key}' is not supported", hint=hint, at=(place, key))
    if comparison and "Variable" not in rule:
        report.error(place, "The field 'Variable' is required but was missing")
    if top and "Next" not in rule:
        report.error(place, "The field 'Next' is required but was missing")


def _check_combinator(report: Report, operand: Json, place: tuple[Place, str]) -> None:
    if left_open(report, operand, place):
        return
    if place[1] == "Not":
        check_rule(report, operand, place, top=False)
    elif not isinstance(operand, list):
        report.error(place, "Expected value of type Array")
    elif not operand:
        report.error(place, "Value cannot be empty")
    else:
        for index, inner in enumerate(operand):
            check_rule(report, inner, (place, index), top=False)
