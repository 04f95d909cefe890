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


@dataclass(slots=True, eq=False)
class StateAt:
    """One state and where it stands. `expressions` is kept by `references.expressions_of`."""

    name: str
    fields: Mapping[str, Json]
    place: Place
    language: QueryLanguage
    expressions: tuple[tuple[str, Place], ...] | None = None

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


class Machine:
    """A definition and its states, each made once for all lints."""

    def __init__(self, definition: Mapping[str, Json]) -> None:
        self.definition = definition
        self._language = (
            QueryLanguage.JSONATA if definition.get("QueryLanguage") == "JSONata" else QueryLanguage.JSONPATH
        )
        self._containers: dict[int, dict[str, StateAt]] = {}
        self.states = tuple(self.states_below(definition, None))
        """Every state, those in states after the state they are in."""

    def states_in(self, container: Mapping[str, Json], place: Place) -> dict[str, StateAt]:
        """The states of one container, which is a part of the definition and stands at `place`, by name."""
        found = self._containers.get(id(container))
        if found is None:
            found = self._containers[id(container)] = self._states_in(container, (place, "States"))
        return found

    def _states_in(self, container: Mapping[str, Json], inside: Place) -> dict[str, StateAt]:
        states = container.get("States")
        if not isinstance(states, dict):
            return {}
        return {
            name: StateAt(name, state, (inside, name), self._language_of(state))
            for name, state in states.items()
            if isinstance(state, dict)
        }

    def _language_of(self, state: Mapping[str, Json]) -> QueryLanguage:
        return QueryLanguage.JSONATA if state.get("QueryLanguage") == "JSONata" else self._language

    def states_below(self, container: Mapping[str, Json], place: Place) -> Iterator[StateAt]:
        """Every state of a container and of the containers in it."""
        pending: list[tuple[Mapping[str, Json], Place]] = [(container, place)]
        while pending:
            container, place = pending.pop()
            for state in self.states_in(container, place).values():
                yield state
                pending.extend((each.container, each.place) for each in state.nested())
