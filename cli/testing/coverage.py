"""What of a definition tests have gone through: states, ways out of Choice states, retriers and catchers.

Counts what the machine really did: states it entered (history events) and decisions it took. Knows no report.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple

from stepwell.engine.asl.drawing.captions import errors_caption, rule_caption, shortened
from stepwell.engine.asl.scanner import escape_pointer
from stepwell.engine.asl.states import StateMachine
from stepwell.engine.jsontypes import Json
from stepwell.engine.machine.decisions import DecisionKind
from stepwell.engine.runtime.local import LocalExecution

_RULE_CHARS: Final = 80


class ItemKind(StrEnum):
    """What is counted."""

    STATE = "state"
    RULE = "rule"
    DEFAULT = "default"
    RETRIER = "retrier"
    CATCHER = "catcher"


GROUPS: Final[Mapping[str, tuple[ItemKind, ...]]] = {
    "states": (ItemKind.STATE,),
    "choices": (ItemKind.RULE, ItemKind.DEFAULT),
    "retriers": (ItemKind.RETRIER,),
    "catchers": (ItemKind.CATCHER,),
}
"""The columns of every report."""

_BY_DECISION: Final = {
    DecisionKind.RULE: ItemKind.RULE,
    DecisionKind.DEFAULT: ItemKind.DEFAULT,
    DecisionKind.RETRY: ItemKind.RETRIER,
    DecisionKind.CATCH: ItemKind.CATCHER,
}


class Key(NamedTuple):
    """One thing that can be covered."""

    kind: ItemKind
    state: str
    number: int = 0


Hits = Counter[Key]
"""How often each was gone through."""


class Item(NamedTuple):
    """A thing that can be covered, as the definition has it. `text` tells people what it is, `target` where it leads."""

    key: Key
    pointer: str
    text: str
    target: str | None = None


class Share(NamedTuple):
    """So many of so many."""

    covered: int
    total: int

    @property
    def percent(self) -> float:
        """100 where there is nothing to cover."""
        return 100.0 * self.covered / self.total if self.total else 100.0

    def __str__(self) -> str:
        return f"{self.covered}/{self.total}" if self.total else "-"


@dataclass(slots=True)
class MachineCoverage:
    """The coverage of one machine."""

    name: str
    file: str
    items: tuple[Item, ...]
    hits: Hits = field(default_factory=Hits)

    def share(self, group: str | None = None) -> Share:
        """What is covered of a group, or of everything."""
        kinds = tuple(ItemKind) if group is None else GROUPS[group]
        of = [item.key for item in self.items if item.key.kind in kinds]
        return Share(sum(self.hits[key] > 0 for key in of), len(of))

    @property
    def missing(self) -> list[Item]:
        """What no test went through, in the order of the definition."""
        return [item for item in self.items if not self.hits[item.key]]

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        shares = {group: self.share(group) for group in GROUPS}
        return {
            "name": self.name,
            "definition": self.file,
            "percent": round(self.share().percent, 1),
            **{group: {"covered": one.covered, "total": one.total} for group, one in shares.items()},
            "missing": [{"pointer": item.pointer, "what": item.text} for item in self.missing],
        }


def total(machines: Iterable[MachineCoverage]) -> Share:
    """The share of all machines together."""
    shares = [one.share() for one in machines]
    return Share(sum(one.covered for one in shares), sum(one.total for one in shares))


def hits_of(execution: LocalExecution) -> Hits:
    """What an execution went through."""
    hits: Hits = Hits()
    for _, event in execution.history:
        if event.type.endswith("StateEntered") and event.details is not None:
            hits[Key(ItemKind.STATE, str(event.details["name"]))] += 1
    for child in execution.children:
        hits.update(hits_of(child))
    for decision in execution.decisions:
        hits[Key(_BY_DECISION[decision.kind], decision.state, decision.index)] += 1
    return hits


def coverage_of(machine: StateMachine, name: str, file: str, hits: Hits | None = None) -> MachineCoverage:
    """The coverage of a machine, nothing of it covered yet but what `hits` say."""
    return MachineCoverage(name, file, tuple(_container(machine.source, "")), Hits(hits or ()))


def _container(source: Json, place: str) -> Iterator[Item]:
    states = source.get("States") if isinstance(source, dict) else None
    if not isinstance(states, dict):
        return
    for name, state in states.items():
        if isinstance(state, dict):
            yield from _state(name, state, f"{place}/States/{escape_pointer(name)}")


def _state(name: str, state: Mapping[str, Json], place: str) -> Iterator[Item]:
    yield Item(Key(ItemKind.STATE, name), place, name)
    rules = state.get("Choices")
    for index, rule in enumerate(rules if isinstance(rules, list) else ()):
        key = Key(ItemKind.RULE, name, index)
        yield Item(key, f"{place}/Choices/{index}", f"{name}: {_short(rule)}", _target(rule))
    if isinstance(default := state.get("Default"), str):
        yield Item(Key(ItemKind.DEFAULT, name), f"{place}/Default", f"{name}: Default", default)
    for field_name, kind, word in (("Retry", ItemKind.RETRIER, "retries"), ("Catch", ItemKind.CATCHER, "catches")):
        entries = state.get(field_name)
        for index, entry in enumerate(entries if isinstance(entries, list) else ()):
            names = errors_caption(entry) if isinstance(entry, dict) else "?"
            key = Key(kind, name, index)
            yield Item(key, f"{place}/{field_name}/{index}", f"{name}: {word} {names}", _target(entry))
    branches = state.get("Branches")
    for index, branch in enumerate(branches if isinstance(branches, list) else ()):
        yield from _container(branch, f"{place}/Branches/{index}")
    for processor in ("ItemProcessor", "Iterator"):
        if processor in state:
            yield from _container(state[processor], f"{place}/{processor}")


def _target(entry: Json) -> str | None:
    target = entry.get("Next") if isinstance(entry, dict) else None
    return target if isinstance(target, str) else None


def _short(rule: Json) -> str:
    return shortened(rule_caption(rule), _RULE_CHARS)
