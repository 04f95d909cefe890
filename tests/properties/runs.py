"""One random execution, and all the ways in which the same things can happen to it again.

`play` draws what happens, one thing after the other, to an execution that never crashes, and to the child executions and Map Runs
that come of it; the others let the same things happen under other circumstances, which must make no difference.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from stepwell.engine.asl.parse import parse_definition
from stepwell.engine.asl.states import StateMachine
from stepwell.engine.clock import Entropy
from stepwell.engine.jsontypes import write
from stepwell.engine.machine import chunks, events
from stepwell.engine.machine.commands import Command, Status
from stepwell.engine.machine.history import HistoryEvent
from stepwell.engine.machine.run import Slice
from stepwell.engine.machine.snapshot import ExecutionState, full_delta
from stepwell.engine.machine.transition import transition
from stepwell.engine.runtime.local import LocalExecution
from tests.properties.chance import Chance
from tests.properties.families import Alone, Family, Happening, Member, unhurried
from tests.properties.fields import INPUT
from tests.properties.happenings import in_calm, next_happening
from tests.properties.map_run_soundness import check_family
from tests.properties.soundness import check_step

MOST_TURNS = 3000
"""More than any random machine takes to its end when nothing goes wrong."""


@dataclass(slots=True, repr=False)
class Played:
    """A run: what happened, in order, to which execution and what came of it."""

    definition: dict[str, Any]
    model: StateMachine
    family: Family
    happenings: list[Happening]
    others: list[Family] = field(default_factory=list)
    """Those to which the same happened again."""

    @classmethod
    def of(cls, definition: dict[str, Any], **circumstances: Any) -> Played:
        """One that has not begun."""
        model = parse_definition(definition)
        return cls(definition, model, Family(model, **circumstances), [])

    @property
    def machine(self) -> Member:
        """The first execution."""
        return self.family.root

    @property
    def members(self) -> Iterator[Member]:
        """All executions."""
        return iter(self.family.members.values())

    def close(self) -> None:
        """Nobody looks at it any more."""
        for family in (self.family, *self.others):
            family.close()

    def __repr__(self) -> str:
        lines = [json.dumps(self.definition), *map(str, self.happenings)]
        for member in self.members:
            lines += [f"{'.'.join(f'{run}/{child}' for run, child in member.path)}:"] if member.path else []
            lines += member.lines
        return "\n".join(lines)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """How Hypothesis shows it."""
        printer.text(repr(self))


def play(played: Played, chance: Chance, *, most: int = 60) -> None:
    """Let things happen until the execution has succeeded or so many have happened; half of those that run on are then led to
    their end. What must hold holds after each."""
    family, root = played.family, played.machine
    happening: Happening | None = Happening(family.now, events.Started(msgspec.Raw(write(INPUT))))
    turns, in_peace = chance.whole(1, most), chance.often(50)
    while happening is not None:
        played.happenings.append(happening)
        family.happen(happening)
        check(family)
        turns -= 1
        if root.finish is not None and (root.finish.status is Status.SUCCEEDED or chance.often(30)):
            break
        if turns > 0:
            happening = next_happening(chance, family)
            happening = happening._replace(hasty=happening.hasty and turns > 1)
        else:
            happening = in_calm(family) if in_peace and turns > -MOST_TURNS else None
    family.settle()
    check(family)


def check(family: Family) -> None:
    """What holds after everything that happens."""
    for member in family.members.values():
        check_step(member)
    if family.settled:
        check_family(family)


def again(
    played: Played, *, model: StateMachine | None = None, dying: Chance | None = None, **circumstances: Any
) -> Family:
    """The same things happen to another execution of the same name."""
    family = Family(model or played.model, dying=dying, slice=played.machine.slice, **circumstances)
    played.others.append(family)
    for happening in played.happenings:
        family.happen(happening)
    family.settle()
    return family


def _alone(member: Member) -> Alone:
    return Alone(member.machine, member.input, info=member.info, slice=member.slice, first_seed=member.first_seed)


def with_shared_commits(member: Member, chance: Chance) -> Alone:
    """The same again to one of the executions, with a commit (and a crash behind it) only now and then."""
    machine = _alone(member)
    machine.commit_steps = False
    for happening in member.trace:
        machine.now = happening.now
        machine.apply(happening.event)
        if chance.often(40):
            machine.commit(full=chance.often(30))
            machine.crash()
    return machine


def in_memory(member: Member) -> LocalExecution:
    """The same again, in what `stepwell run` drives."""
    seeds = iter(applied.seed for applied in member.applied)
    info = member.info
    local = LocalExecution(member.machine, info.started_at, seeds=_Given(seeds.__next__), heavy=unhurried)
    local.state = ExecutionState(info)
    for happening in member.trace:
        local.now = happening.now
        local.apply(happening.event)
    return local


@dataclass
class _Given:
    seed: Callable[[], int]


def replayed(member: Member) -> tuple[list[HistoryEvent], bytes]:
    """History and position made anew from the written chunks alone."""
    state = ExecutionState(member.info)
    made: list[HistoryEvent] = []
    for data in member.chunks:
        for applied in chunks.decode(data).applied:
            step = transition(
                member.machine, state, applied.event, applied.now, Entropy(applied.seed), member.slice, unhurried
            )
            assert step.first_event == applied.first_event
            state = step.state
            made += step.events
    return made, position(state)


def position(state: ExecutionState) -> bytes:
    """The whole position, as a store would keep it."""
    return msgspec.json.encode(full_delta(state))


class OneStream(Entropy):
    """Entropy that goes on from step to step: however a run is cut into steps, it draws the same."""

    def __init__(self) -> None:
        super().__init__(1)


def cut(member: Member, slice: Slice) -> tuple[list[HistoryEvent], list[Command], ExecutionState]:
    """The same again in slices of this size."""
    entropy = OneStream()
    state = ExecutionState(member.info)
    made: list[HistoryEvent] = []
    commands: list[Command] = []
    for happening in member.trace:
        event, more = happening.event, True
        while more:
            step = transition(member.machine, state, event, happening.now, entropy, slice, unhurried)
            state, more, event = step.state, step.more, events.Continued()
            made += step.events
            commands += step.commands
    return made, commands, state


_STARTED = frozenset({"LambdaFunctionStarted", "TaskStarted"})


def without_starts(history: Sequence[HistoryEvent]) -> list[list[Any]]:
    """A history without the starts of tasks that close each step: their place, and with it the numbers of the events behind
    them, depends on how a run is cut into steps. (Some causes tell such a number, too.)"""
    numbers = {0: 0}
    kept: list[list[Any]] = []
    for id, event in enumerate(history, 1):
        if event.type in _STARTED:
            numbers[id] = numbers[event.previous]
            continue
        text = _EVENT_ID.sub(b"#", msgspec.json.encode([event.timestamp, event.details, event.data]))
        kept.append([event.type, numbers[event.previous], text])
        numbers[id] = len(kept)
    return kept


_EVENT_ID = re.compile(rb"#\d+")


def calm_down(family: Family) -> None:
    """The outside does its part until the execution has ended."""
    for _ in range(MOST_TURNS):
        happening = in_calm(family)
        if happening is None:
            break
        family.happen(happening)
    check(family)
    assert family.root.finish is not None, "it has not come to its end"
