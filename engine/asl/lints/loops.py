"""Loops that no way leads out of: an execution that comes there never ends by itself.

An error that nothing catches ends one too, so this is a warning. It must not know what a state does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from stepwell.engine.asl.diagnostics import DiagnosticCode
from stepwell.engine.asl.graph import transitions
from stepwell.engine.asl.lints.walk import Machine, StateAt
from stepwell.engine.asl.placeholders import is_open
from stepwell.engine.asl.report import Place, Report
from stepwell.engine.jsontypes import Json

_FINAL: Final = ("Succeed", "Fail")


def check_loops(report: Report, machine: Machine) -> None:
    """Look at every container."""
    pending: list[tuple[Mapping[str, Json], Place]] = [(machine.definition, None)]
    while pending:
        container, place = pending.pop()
        states = machine.states_in(container, place)
        _check(report, states)
        for state in states.values():
            pending.extend((each.container, each.place) for each in state.nested())


def _check(report: Report, states: Mapping[str, StateAt]) -> None:
    targets = {name: [target for _, target in transitions(state.fields, None)] for name, state in states.items()}
    if any(target not in states or is_open(target) for leads in targets.values() for target in leads):
        return  # unknown, or validation says so
    sources: dict[str, list[str]] = {name: [] for name in states}
    for name, leads in targets.items():
        for target in leads:
            sources[target].append(name)
    ends = [name for name, state in states.items() if _ends(state, targets[name])]
    ending = set(ends)
    while ends:
        for source in sources[ends.pop()]:
            if source not in ending:
                ending.add(source)
                ends.append(source)
    endless = [name for name in states if name not in ending]
    if endless and ending:  # where nothing ends at all, validation says so
        listed = ", ".join(f"'{name}'" for name in endless[:5]) + (", ..." if len(endless) > 5 else "")
        report.warn(
            states[endless[0]].place,
            f"No way leads from here to an end: {listed} lead to each other alone",
            DiagnosticCode.NO_WAY_OUT,
            hint="Lead out of the loop by a Choice, or end the execution by End, Succeed or Fail.",
        )


def _ends(state: StateAt, leads: list[str]) -> bool:
    """Whether an execution can end here; a state that is not understood is taken to be an end, and so is a Choice that may find no
    rule that matches."""
    if state.type == "Choice":
        return "Default" not in state.fields
    return state.type in _FINAL or state.fields.get("End") not in (None, False) or not leads
