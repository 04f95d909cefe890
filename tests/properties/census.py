"""What the random machines are made of and what becomes of their executions, counted: so that one can see what was tried."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from stepwell.engine.machine.commands import StartTimer
from stepwell.engine.machine.events import TimerFired
from stepwell.engine.machine.map_run import Progress
from tests.properties.families import Member
from tests.properties.runs import Played

SIZES = (5, 10, 20, 40, 80)
"""Upper bounds of the classes that sizes are counted in."""


@dataclass
class Census:
    """Counts by table and row."""

    examples: int = 0
    tables: dict[str, Counter[str]] = field(default_factory=dict)

    def count(self, table: str, row: str, times: int = 1) -> None:
        self.tables.setdefault(table, Counter())[row] += times

    def add(self, other: Census) -> None:
        self.examples += other.examples
        for name, rows in other.tables.items():
            self.tables.setdefault(name, Counter()).update(rows)

    # -- counting --------------------------------------------------------------------------------------------------

    def take(self, played: Played) -> None:
        """Count one execution, with what came of it."""
        self.examples += 1
        states = list(_states(played.definition, 0))
        for _, state in states:
            self.count("states", state["Type"])
            for name in state:
                if name not in ("Type", "Next", "End"):
                    self.count("fields", name)
            if state["Type"] == "Map":
                mode = state.get("ItemProcessor", {}).get("ProcessorConfig", {}).get("Mode", "INLINE")
                self.count("Maps", mode)
        self.count("depth of a machine", str(max(depth for depth, _ in states)))
        self.count("states of a machine", _class(len(states)))
        self.count("bytes of a definition", _class(len(json.dumps(played.definition)) // 100, "00"))
        machine = played.machine
        self.count("end", _status(machine))
        self.count("events of a history", _class(len(machine.seen)))
        self.count("commits", _class(len(machine.chunks)))
        for member in played.members:
            self._fate(member)
            if member is not machine:
                self.count("end of a child execution", _status(member))
        self._map_runs(played)

    def _fate(self, machine: Member) -> None:
        for seen in machine.seen:
            self.count("events", seen.type)
        kinds: dict[int, str] = {}
        for commands in machine.commands:
            kinds |= {one.timer: one.kind.value for one in commands if isinstance(one, StartTimer)}
        applied = Counter[int]()
        for one in machine.applied:
            event = one.event
            if isinstance(event, TimerFired) and kinds.get(event.timer) and not applied[event.timer]:
                applied[event.timer] += 1
                self.count("timers that fired", kinds[event.timer])
            self.count("what happened", _tag(event))
        self.count("turning points", "error caught", _caught(machine))
        self.count("turning points", "retry begun", Counter(kinds.values())["retry"])
        self.count("turning points", "redrive", sum(event.type == "ExecutionRedriven" for event in machine.seen))

    def _map_runs(self, played: Played) -> None:
        for happening in played.happenings:
            if happening.map_run is not None:
                self.count("what happened to Map Runs", _tag(happening.event))
        for row in played.family.map_runs.values():
            progress = msgspec.json.decode(row.progress, type=Progress)
            self.count("end of a Map Run", progress.error or row.status.value)
            self.count("children of a Map Run", _class(progress.made) if progress.made else "0")
            if progress.redrives:
                self.count("what happened to Map Runs", "redriven", progress.redrives)

    # -- showing ---------------------------------------------------------------------------------------------------

    def rows(self, table: str) -> list[tuple[str, int]]:
        found = self.tables.get(table, Counter())
        if table in _ORDERED:
            return sorted(found.items(), key=lambda row: _number(row[0]))
        return found.most_common()


_ORDERED = frozenset(
    {
        "depth of a machine",
        "states of a machine",
        "bytes of a definition",
        "events of a history",
        "commits",
        "children of a Map Run",
    }
)


def _status(machine: Member) -> str:
    return machine.finish.status.value if machine.finish is not None else "still running"


def _tag(event: msgspec.Struct) -> str:
    return str(event.__struct_config__.tag)


def _number(text: str) -> int:
    return int("".join(one for one in text.rsplit("-", maxsplit=1)[-1] if one.isdigit()) or 0) + (
        10**6 if ">" in text else 0
    )


def _states(container: dict[str, Any], depth: int) -> Iterator[tuple[int, dict[str, Any]]]:
    for state in container["States"].values():
        yield depth, state
        for inner in [*state.get("Branches", ()), state.get("ItemProcessor"), state.get("Iterator")]:
            if inner:
                yield from _states(inner, depth + 1)


def _class(size: int, unit: str = "") -> str:
    below = 0
    for bound in SIZES:
        if size <= bound:
            return f"{below}{unit if below else ''}-{bound}{unit}"
        below = bound + (0 if unit else 1)
    return f">{SIZES[-1]}{unit}"


def _caught(machine: Member) -> int:
    """States that were entered through a Catch: their event follows a failure in a thread that goes on."""
    failures = ("Failed", "TimedOut")
    history = machine.seen
    return sum(
        event.type.endswith("StateExited") and history[event.previous - 1].type.endswith(failures) for event in history
    )


def tables(census: Census, names: Sequence[str]) -> Iterable[str]:
    """Markdown, one table a topic: the share of each row."""
    for name in names:
        rows = census.rows(name)
        total = sum(times for _, times in rows)
        yield f"| {name} | of {total:,} | share |"
        yield "|---|---:|---:|"
        yield from (f"| {row} | {times:,} | {100 * times / total:.1f} % |" for row, times in rows)
        yield ""
