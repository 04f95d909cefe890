"""How the states of one container lead to each other: unknown targets, states nobody reaches, no way to the end.

Reads the definition as JSON, because what is refused has no model. It must not know what a state does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from stepwell.engine.asl.diagnostics import DiagnosticCode
from stepwell.engine.asl.placeholders import is_open
from stepwell.engine.asl.report import Place, Report
from stepwell.engine.jsontypes import Json

_FINAL_TYPES: Final = ("Succeed", "Fail")


def transitions(state: Mapping[str, Json], place: Place) -> Iterator[tuple[Place, str]]:
    """Every target a state names, with the place that names it: Next, Default, Choices and Catch."""
    for field in ("Next", "Default"):
        target = state.get(field)
        if isinstance(target, str):
            yield (place, field), target
    for field in ("Choices", "Catch"):
        entries = state.get(field)
        if isinstance(entries, list):
            for index, entry in enumerate(entries):
                if isinstance(entry, dict) and isinstance(target := entry.get("Next"), str):
                    yield (((place, field), index), "Next"), target


def check_graph(report: Report, container: Mapping[str, Json], place: Place) -> None:
    """Note the faults of one container's graph. Nested containers are graphs of their own."""
    states = container.get("States")
    if not isinstance(states, dict) or not states or (report.placeholders and is_open(states)):
        return
    has_open_ends = report.placeholders and _has_open_ends(container, states)
    inside: Place = (place, "States")
    start = container.get("StartAt")
    if isinstance(start, str) and start not in states and not (has_open_ends and is_open(start)):
        _missing(report, (place, "StartAt"), start, states)
    for name, state in states.items():
        if isinstance(state, dict):
            for source, target in transitions(state, (inside, name)):
                if target not in states and not (has_open_ends and is_open(target)):
                    _missing(report, source, target, states)
    if has_open_ends:
        return
    if isinstance(start, str) and start in states:
        reached = _reachable(states, start)
        for name in states:
            if name not in reached:
                report.error(
                    (inside, name),
                    f'State "{name}" is not reachable.',
                    DiagnosticCode.MISSING_TRANSITION_TARGET,
                    hint="Lead to it by Next, Default, a choice rule or a catcher, or remove it.",
                )
    if not any(_is_final(state) for state in states.values()):
        report.unplaced(
            place,
            "Workflow has no terminal state",
            DiagnosticCode.MISSING_END_STATE,
            hint='Give the last state "End": true, or lead to a Succeed or Fail state.',
        )


def _has_open_ends(container: Mapping[str, Json], states: Mapping[str, Json]) -> bool:
    """Whether a deployment tool is to say where some state leads: then nothing is known of the whole."""
    if is_open(container.get("StartAt")):
        return True
    for state in states.values():
        if is_open(state):
            return True
        if not isinstance(state, dict):
            continue
        if is_open(state.get("Type")) or any(is_open(target) for _, target in transitions(state, None)):
            return True
        if any(_is_open_end(state.get(field)) for field in ("Next", "End", "Default", "Choices", "Catch")):
            return True
    return False


def _is_open_end(value: Json) -> bool:
    """Whether a field that says where a state leads, an entry of it or where that leads is still to be filled in."""
    if isinstance(value, list):
        return any(is_open(entry) or (isinstance(entry, dict) and is_open(entry.get("Next"))) for entry in value)
    return is_open(value)


def _missing(report: Report, place: Place, target: str, states: Mapping[str, Json]) -> None:
    near = report.nearest(target, states)
    guess = "" if near is None else f" Did you mean '{near}'?"
    report.error(
        place,
        f"Missing 'Next' target: {target}",
        DiagnosticCode.MISSING_TRANSITION_TARGET,
        hint=f"A state can lead only to states beside it, in the same States object.{guess}",
    )


def _is_final(state: Json) -> bool:
    return isinstance(state, dict) and (state.get("End") is True or state.get("Type") in _FINAL_TYPES)


def _reachable(states: Mapping[str, Json], start: str) -> set[str]:
    reached = {start}
    pending = [start]
    while pending:
        state = states[pending.pop()]
        if isinstance(state, dict):
            for _, target in transitions(state, None):
                if target in states and target not in reached:
                    reached.add(target)
                    pending.append(target)
    return reached
