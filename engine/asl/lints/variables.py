"""Variables that are read where nothing on any way there has assigned them, and those that nothing can read.

A forward analysis over each container's graph: what may have been assigned when a state begins is the union over all ways to it. A branch
or iteration sees what the state around it sees, and keeps its own assignments to itself; an item processor of a Distributed Map sees
nothing of outside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from stepwell.engine.asl.diagnostics import DiagnosticCode
from stepwell.engine.asl.language import QueryLanguage
from stepwell.engine.asl.lints.references import assigned, expressions_of, references
from stepwell.engine.asl.lints.walk import Machine, StateAt
from stepwell.engine.asl.report import Place, Report
from stepwell.engine.jsontypes import Json

_VISITS_PER_STATE: Final = 50
_MOST_WORK: Final = 20_000_000
"""Bounds of the analysis, which no machine that people write comes near. Beyond them nothing is said."""
FUNCTION_NAMES: Final = (
    "string", "length", "substring", "substringBefore", "substringAfter", "uppercase", "lowercase", "trim", "pad",
    "contains", "split", "join", "match", "replace", "base64encode", "base64decode", "encodeUrlComponent",
    "encodeUrl", "decodeUrlComponent", "decodeUrl", "number", "abs", "floor", "ceil", "round", "power", "sqrt",
    "random", "formatNumber", "formatBase", "formatInteger", "parseInteger", "sum", "max", "min", "average",
    "boolean", "not", "exists", "count", "append", "sort", "reverse", "shuffle", "distinct", "zip", "keys",
    "lookup", "spread", "merge", "sift", "each", "error", "assert", "type", "now", "millis", "fromMillis",
    "toMillis", "map", "filter", "single", "reduce", "partition", "range", "hash", "uuid", "parse",
)  # fmt: skip
"""The functions of JSONata, but for $eval, and AWS's."""
_NONE: Final[frozenset[str]] = frozenset()


def check_variables(report: Report, machine: Machine) -> None:
    """Look at every state of every container."""
    pending: list[tuple[Mapping[str, Json], Place, frozenset[str]]] = [(machine.definition, None, _NONE)]
    while pending:
        container, place, outer = pending.pop()
        states = machine.states_in(container, place)
        before = _before(container, states, outer)
        everywhere = frozenset[str]().union(*(names for state in states.values() for _, names in _exits(state)))
        for state in states.values():
            known = before.get(state.name)
            if known is None:  # nobody reaches it, which validation says
                known = outer | everywhere
            _check_state(report, state, known, everywhere)
            pending.extend((each.container, each.place, _NONE if each.isolated else known) for each in state.nested())


def _check_names(report: Report, place: Place, fields: Mapping[str, Json]) -> None:
    for name in sorted(assigned(fields)):
        if "-" in name:
            report.warn(
                (place, "Assign"),
                f"No expression can read the variable '{name}': a hyphen in '${name}' means minus",
                DiagnosticCode.UNREADABLE_VARIABLE,
                hint=f"Write '{name.replace('-', '_')}'.",
            )


def _check_state(report: Report, state: StateAt, known: frozenset[str], everywhere: frozenset[str]) -> None:
    _check_names(report, state.place, state.fields)
    for field in ("Choices", "Catch"):
        for entry, place in state.entries(field):
            _check_names(report, place, entry)
    for name, place in references(state, report.expressions).items():
        if name in known:
            continue
        if state.language is QueryLanguage.JSONATA and _is_called(state, name):
            near = report.nearest(name, FUNCTION_NAMES)
            report.warn(
                place,
                f"There is no function '${name}'",
                DiagnosticCode.UNASSIGNED_VARIABLE,
                hint=f"Did you mean '${near}'?"
                if near
                else "Functions are JSONata's own, AWS's, and those an expression defines.",
            )
            continue
        if name in everywhere:
            hint = (
                "A state assigns it, but none on a way to here. Assign it before, or lead through the state that does."
            )
        elif state.language is QueryLanguage.JSONPATH:
            hint = f"Assign it in a state before this one; the input's field of that name is '$.{name}'."
        else:
            hint = f"Assign it in a state before this one; the input's field of that name is '$states.input.{name}'."
        report.warn(
            place,
            f"The variable '${name}' is read here, and nothing on any way here assigns it",
            DiagnosticCode.UNASSIGNED_VARIABLE,
            hint=hint,
        )


def _is_called(state: StateAt, name: str) -> bool:
    return any(f"${name}(" in text or f"${name} (" in text for text, _ in expressions_of(state))


def _before(
    container: Mapping[str, Json], states: Mapping[str, StateAt], outer: frozenset[str]
) -> dict[str, frozenset[str]]:
    """What may have been assigned when each state that is reached begins."""
    start = container.get("StartAt")
    if not isinstance(start, str) or start not in states:
        return {}
    before = {start: outer}
    pending = [start]
    visits = 0
    while pending:
        visits += 1
        if visits > _VISITS_PER_STATE * len(states) or visits * len(before[pending[-1]]) > _MOST_WORK:
            return {}
        state = states[pending.pop()]
        known = before[state.name]
        for target, names in _exits(state):
            if target not in states:
                continue
            seen = before.get(target)
            after = known | names if seen is None else seen | known | names
            if after != seen:
                before[target] = after
                pending.append(target)
    return before


def _exits(state: StateAt) -> Iterator[tuple[str, frozenset[str]]]:
    """Where a state leads, and what is assigned on the way. One that ends its container leads to no name, ''."""
    own = assigned(state.fields)
    for field in ("Next", "Default"):
        target = state.fields.get(field)
        if isinstance(target, str):
            yield target, own
    if own:
        yield "", own
    for field in ("Choices", "Catch"):
        for entry, _ in state.entries(field):
            target = entry.get("Next")
            if isinstance(target, str):
                yield target, assigned(entry)
