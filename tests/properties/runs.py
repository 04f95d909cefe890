"""One random execution, and all the ways in which the same things can happen to it again.

`play` draws what happens, one thing after the other, to an execution that never crashes; the others let the same things happen
under other circumstances, which must make no difference.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
from stepwell.engine.query.jsonata import FULL, Evaluation, Outcome, carry_out
from stepwell.engine.runtime.local import LocalExecution
from tests.properties.chance import Chance
from tests.properties.fields import INPUT
from tests.properties.happenings import Happening, in_calm, next_happening
from tests.properties.soundness import check_step
from tests.support.local_machine import LocalMachine

INPUT_TEXT = write(INPUT).decode()
MOST_TURNS = 3000
"""More than any random machine takes to its end when nothing goes wrong."""


_UNHURRIED = msgspec.structs.replace(FULL, seconds=3600.0)


def unhurried(evaluation: Evaluation) -> Outcome:
    """Carries out here what struck a limit, with no limit on time: what comes of it must not depend on how busy the host is."""
    return carry_out(evaluation, _UNHURRIED)


@dataclass(slots=True, repr=False)
class Played:
    """A run: what happened, in order, to which execution."""

    definition: dict[str, Any]
    model: StateMachine
    machine: LocalMachine
    happenings: list[Happening]

    @classmethod
    def of(cls, definition: dict[str, Any], **circumstances: Any) -> Played:
        """One that has not begun."""
        model = parse_definition(definition)
        return cls(definition, model, LocalMachine(model, INPUT_TEXT, heavy=unhurried, **circumstances), [])

    @property
    def history(self) -> list[HistoryEvent]:
        return self.machine.seen

    def __repr__(self) -> str:
        return "\n".join([json.dumps(self.definition), *map(str, self.happenings), *self.machine.lines])

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """How Hypothesis shows it."""
        printer.text(repr(self))


def play(played: Played, chance: Chance, *, most: int = 60) -> None:
    """Let things happen until the execution has succeeded or so many have happened; half of those that run on are then led to
    their end. What must hold holds after each."""
    machine = played.machine
    happening: Happening | None = Happening(machine.now, events.Started(msgspec.Raw(write(INPUT))))
    turns, in_peace = chance.whole(1, most), chance.often(50)
    while happening is not None:
        played.happenings.append(happening)
        let_happen(machine, happening)
        check_step(machine)
        turns -= 1
        if machine.finish is not None and (machine.finish.status is Status.SUCCEEDED or chance.often(30)):
            break
        if turns > 0:
            happening = next_happening(chance, machine)
        else:
            happening = in_calm(machine) if in_peace and turns > -MOST_TURNS else None


def let_happen(machine: LocalMachine, happening: Happening) -> None:
    machine.now = max(machine.now, happening.now)
    machine.apply(happening.event)


def again(played: Played, *, model: StateMachine | None = None, **circumstances: Any) -> LocalMachine:
    """The same things happen to another execution of the same name."""
    machine = LocalMachine(
        model or played.model, INPUT_TEXT, heavy=unhurried, slice=played.machine.slice, **circumstances
    )
    for happening in played.happenings:
        let_happen(machine, happening)
    return machine


def with_shared_commits(played: Played, chance: Chance) -> LocalMachine:
    """The same again, with a commit (and a crash behind it) only now and then."""
    machine = LocalMachine(played.model, INPUT_TEXT, heavy=unhurried, slice=played.machine.slice)
    machine.commit_steps = False
    for happening in played.happenings:
        let_happen(machine, happening)
        if chance.often(40):
            machine.commit(full=chance.often(30))
            machine.crash()
    return machine


def in_memory(played: Played) -> LocalExecution:
    """The same again, in what `stepwell run` drives."""
    seeds = iter(applied.seed for applied in played.machine.applied)
    info = played.machine.info
    local = LocalExecution(played.model, info.started_at, seeds=_Given(seeds.__next__), heavy=unhurried)
    local.state = ExecutionState(info)
    for happening in played.happenings:
        local.now = max(local.now, happening.now)
        local.apply(happening.event)
    return local


@dataclass
class _Given:
    seed: Callable[[], int]


def replayed(played: Played) -> tuple[list[HistoryEvent], bytes]:
    """History and position made anew from the written chunks alone."""
    machine = played.machine
    state = ExecutionState(machine.info)
    made: list[HistoryEvent] = []
    for data in machine.chunks:
        for applied in chunks.decode(data).applied:
            step = transition(
                played.model, state, applied.event, applied.now, Entropy(applied.seed), machine.slice, unhurried
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


def cut(played: Played, slice: Slice) -> tuple[list[HistoryEvent], list[Command], ExecutionState]:
    """The same again in slices of this size."""
    entropy = OneStream()
    state = ExecutionState(played.machine.info)
    made: list[HistoryEvent] = []
    commands: list[Command] = []
    for happening in played.happenings:
        event, more = happening.event, True
        while more:
            step = transition(played.model, state, event, happening.now, entropy, slice, unhurried)
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


def calm_down(machine: LocalMachine) -> None:
    """The outside does its part until the execution has ended."""
    for _ in range(MOST_TURNS):
        happening = in_calm(machine)
        if happening is None:
            break
        let_happen(machine, happening)
    check_step(machine)
    assert machine.finish is not None, "it has not come to its end"
