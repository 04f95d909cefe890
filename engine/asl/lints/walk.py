"""The states of a definition, its nested ones too, as lints see them: JSON with a place and a query language.

It must not know what a lint looks for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from stepwell.engine.asl.language import QueryLanguage
from stepwell.engine.asl.report import Place
from stepwell.engine.jsontypes import Json


class Nested(NamedTuple):
    """A container in a state: a branch or an item processor."""

    container: Mapping[str, Json]
    place: Place
    isolated: bool
    """Whether it runs as executions of its own, which see no variables from outside (Distributed Map)."""


@dataclass(frozen=True, slots=True)
class StateAt:
    """One state and where it stands."""

    name: str
    fields: Mapping[str, Json]
    place: Place
    language: QueryLanguage

    @property
    def type(self) -> str:
        """Its type; empty where it has none."""
        found = self.fields.get("Type")
        return found if isinstance(found, str) else ""

    def entries(self, field: str) -> list[tuple[Mapping[str, Json], Place]]:
        """The objects in an array field, such as Retry, with their places."""
        value = self.fields.get(field)
        if not isinstance(value, list):
            return []
        return [(item, ((self.place, field), index)) for index, item in enumerate(value) if isinstance(item, dict)]

    def nested(self) -> Iterator[Nested]:
        """The containers in it."""
        if self.type == "Parallel":
            for branch, place in self.entries("Branches"):
                yield Nested(branch, place, isolated=False)
        elif self.type == "Map":
            for field in ("ItemProcessor", "Iterator"):
                processor = self.fields.get(field)
                if isinstance(processor, dict):
                    config = processor.get("ProcessorConfig")
                    isolated = isinstance(config, dict) and config.get("Mode") == "DISTRIBUTED"
                    yield Nested(processor, (self.place, field), isolated)


def language_of(machine: Mapping[str, Json]) -> QueryLanguage:
    """The query language of a machine's states that name none."""
    return QueryLanguage.JSONATA if machine.get("QueryLanguage") == "JSONata" else QueryLanguage.JSONPATH


def states_in(container: Mapping[str, Json], place: Place, language: QueryLanguage) -> dict[str, StateAt]:
    """The states of one container by name; `language` is the machine's."""
    states = container.get("States")
    if not isinstance(states, dict):
        return {}
    inside: Place = (place, "States")
    return {
        name: StateAt(
            name, state, (inside, name), QueryLanguage.JSONATA if state.get("QueryLanguage") == "JSONata" else language
        )
        for name, state in states.items()
        if isinstance(state, dict)
    }


def all_states(machine: Mapping[str, Json]) -> Iterator[StateAt]:
    """Every state of a machine, those in states after the state they are in."""
    language = language_of(machine)
    pending: list[tuple[Mapping[str, Json], Place]] = [(machine, None)]
    while pending:
        container, place = pending.pop()
        for state in states_in(container, place, language).values():
            yield state
            pending.extend((each.container, each.place) for each in state.nested())
