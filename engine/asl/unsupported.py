"""What a definition may say and this version does not run yet: refused when a machine is created, not by validation.

The one place to shorten as features arrive; empty, it goes away.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from stepwell.engine.asl.report import Place, Report
from stepwell.engine.asl.validate import MachineType
from stepwell.engine.jsontypes import Json


def check_supported(report: Report, definition: Mapping[str, Json], machine_type: MachineType) -> None:
    """Note, once each, what this version cannot run."""
    if machine_type is MachineType.EXPRESS:
        report.error(None, "State machines of type EXPRESS are not supported by this version yet")
    distributed = _first(definition, "Mode", "DISTRIBUTED")
    if distributed is not None:
        report.error(distributed, "Distributed Map (Mode 'DISTRIBUTED') is not supported by this version yet")


def _first(definition: Mapping[str, Json], field: str, value: str) -> Place:
    for container, place in _containers(definition, None):
        if container.get(field) == value:
            return (place, field)
        config = container.get("ProcessorConfig")
        if isinstance(config, dict) and config.get(field) == value:
            return ((place, "ProcessorConfig"), field)
        states = container.get("States")
        for name, state in states.items() if isinstance(states, dict) else ():
            if isinstance(state, dict) and state.get(field) == value:
                return (((place, "States"), name), field)
    return None


def _containers(container: Mapping[str, Json], place: Place) -> Iterator[tuple[Mapping[str, Json], Place]]:
    """A machine and all containers in it."""
    yield container, place
    states = container.get("States")
    for name, state in states.items() if isinstance(states, dict) else ():
        if not isinstance(state, dict):
            continue
        here: Place = ((place, "States"), name)
        branches = state.get("Branches")
        for index, branch in enumerate(branches if isinstance(branches, list) else ()):
            if isinstance(branch, dict):
                yield from _containers(branch, ((here, "Branches"), index))
        for field in ("ItemProcessor", "Iterator"):
            processor = state.get(field)
            if isinstance(processor, dict):
                yield from _containers(processor, (here, field))
