"""Rules of Choice states that are never looked at, because a rule before them matches whenever they do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from stepwell.engine.asl.diagnostics import DiagnosticCode
from stepwell.engine.asl.lints.walk import Machine, StateAt
from stepwell.engine.asl.placeholders import is_open
from stepwell.engine.asl.report import Report
from stepwell.engine.jsontypes import Json, write_text
from stepwell.engine.query.jsonata import is_jsonata, source_of

_AFTERWARDS: Final = frozenset({"Next", "Assign", "Output", "Comment"})
"""What says what a rule leads to, not when it matches."""
_CHANGES: Final = re.compile(r"\$(?:random|uuid|now|millis)\s*\(")
"""Calls that give something else each time: the same question may be answered in another way."""


def check_choices(report: Report, machine: Machine) -> None:
    """Look at every Choice."""
    for state in machine.states:
        if state.type == "Choice":
            _check_rules(report, state)


def _check_rules(report: Report, state: StateAt) -> None:
    seen: dict[str, int] = {}
    always: int | None = None
    for index, (rule, place) in enumerate(state.entries("Choices")):
        if not rule or is_open(rule):
            continue
        asked = write_text({name: value for name, value in sorted(rule.items()) if name not in _AFTERWARDS})
        if always is not None or asked in seen:
            before = always if always is not None else seen[asked]
            why = "always matches" if before == always else "asks the same"
            report.warn(
                place,
                f"Nothing reaches this rule: rule {before} {why}",
                DiagnosticCode.UNREACHABLE_RULE,
                hint="The first rule that matches is the one that is followed.",
            )
            continue
        if _CHANGES.search(asked) is None:
            seen[asked] = index
        if _always_matches(rule):
            always = index
    if always is not None and "Default" in state.fields:
        report.warn(
            (state.place, "Default"),
            f"Nothing reaches Default: rule {always} always matches",
            DiagnosticCode.UNREACHABLE_RULE,
            hint=f"Remove it, or let rule {always} ask something.",
        )


def _always_matches(rule: Mapping[str, Json]) -> bool:
    condition = rule.get("Condition")
    return condition is True or (
        isinstance(condition, str) and is_jsonata(condition) and source_of(condition) == "true"
    )
