"""Executions in memory: what the owner of a shard holds of an execution while it is being advanced, and how it is read back.

It must not know which store it reads from, nor what a transition does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from stepwell.engine import ids
from stepwell.engine.asl.states import StateMachine
from stepwell.engine.ids import ExecutionId
from stepwell.engine.jsontypes import Document
from stepwell.engine.machine import chunks
from stepwell.engine.machine.commands import Finish, ScheduleTask, Status
from stepwell.engine.machine.events import Event
from stepwell.engine.machine.history import HistoryEvent
from stepwell.engine.machine.snapshot import ExecutionInfo, ExecutionState, fold, restore
from stepwell.engine.ports import ExecutionView, RuntimeStore, StoredExecution
from stepwell.engine.query.jsonata import Outcomes
from stepwell.engine.states_errors import ErrorName

CONTINUE_TIMER: Final = 0
"""The timer row of an execution that has used up its slice: so that whoever takes it over then finds that it has to go on."""


@dataclass(slots=True, eq=False)
class Attempt:
    """The time and the seed an event was applied with when one of its expressions needed more than it may use here. It is applied
    with the same ones again, so that the same expression comes out, with `outcomes` to take its outcome from.
    """

    now: int
    seed: int
    outcomes: Outcomes = field(default_factory=Outcomes)


@dataclass(slots=True, eq=False)
class Work:
    """An event to apply. `inbox` is the row it came from, where another node wrote it down; `worker` who claims by it.
    `future` is told whether it changed anything, once that is durable.

    `insistent` work (outcomes the engine itself has obtained) is applied again until its fate is known; the rest is given
    up with an error, or found again in the store.
    """

    event: Event
    inbox: int | None = None
    worker: str | None = None
    insistent: bool = False
    future: asyncio.Future[bool] | None = None
    tries: int = 0
    attempt: Attempt | None = None


@dataclass(slots=True, eq=False)
class Hot:
    """One execution in memory. `busy` while a step of it is being committed."""

    id: ExecutionId
    shard: int
    rev: int
    state: ExecutionState
    machine: StateMachine
    machine_key: int
    revision: int
    trace_header: str | None = None
    inherited: Collection[int] = ()
    """Tasks that were open when the execution was read back: nobody here knows whether they have been dispatched."""
    works: deque[Work] = field(default_factory=deque)
    busy: bool = False
    last_now: int = 0
    unsnapped: int = 0
    """Frame records written since the last full snapshot."""
    heartbeats: dict[int, int] = field(default_factory=dict)
    schedules: dict[int, ScheduleTask] = field(default_factory=dict)
    redrive_token: str | None = None
    map_run: ExecutionId | None = None
    """For a child execution: the Map Run that waits for its end, where it has the number `map_item`."""
    map_item: int = 0
    continues: bool = False
    """The step before this one used up its slice, and `CONTINUE_TIMER` is there."""

    def ended_view(self, finish: Finish) -> ExecutionView:
        """The execution as the store holds it now that the step with `finish` has been committed."""
        state, info = self.state, self.state.info
        error = ErrorName.TIMEOUT if finish.status is Status.TIMED_OUT else finish.error  # as its last event says
        return ExecutionView(
            id=self.id, arn=info.arn, name=info.name, machine_arn=info.machine_arn, machine_name=info.machine_name,
            machine_key=self.machine_key, revision=self.revision, status=finish.status, started_at=info.started_at,
            stopped_at=finish.stopped_at, last_event=state.next_event - 1, error=error, cause=finish.cause,
            redrive_count=state.redrive_count, redriven_at=state.redriven_at or None, trace_header=self.trace_header,
            version_arn=info.version_arn, alias_arn=info.alias_arn, input=state.input, output=finish.output,
        )  # fmt: skip


class History:
    """The history events of an execution that have been read, by id."""

    def __init__(self) -> None:
        self._events: dict[int, HistoryEvent] = {}

    def add(self, chunk: chunks.Chunk) -> None:
        """Take in a chunk."""
        for offset, event in enumerate(chunk.events):
            self._events[chunk.first_event + offset] = event

    def missing(self, ids: set[int]) -> list[int]:
        """Which of these events have not been read."""
        return sorted(ids - self._events.keys())

    def payload(self, id: int) -> Document:
        """The user data of an event."""
        event = self._events[id]
        assert event.payload is not None, f"event {id} carries no data"
        return Document.trusted(bytes(event.payload))


async def revive(
    store: RuntimeStore, stored: StoredExecution, machine: StateMachine, region: str
) -> tuple[ExecutionState, int]:
    """Rebuild the position of an execution from its chunks; also the time its last step was given, to which time never goes back."""
    info = info_of(stored, machine, region)
    if stored.rev == 0:
        return ExecutionState(info), 0
    history = History()
    read = [chunks.decode(data) for data in stored.chunks]
    if stored.first_chunk is not None:
        history.add(chunks.decode(stored.first_chunk))
    for chunk in read:
        history.add(chunk)
    folded = fold(chunk.delta for chunk in read if chunk.delta is not None)
    missing = history.missing(folded.needed_events() | {1})
    if missing:
        for data in await store.chunks_with(stored.id, missing):
            history.add(chunks.decode(data))
    state = restore(machine, info, stored.status, folded, history.payload)
    state.redriven_at = stored.redriven_at or 0
    last = max((applied.now for chunk in read for applied in chunk.applied), default=0)
    return state, last


def tasks_of(stored: StoredExecution) -> set[int]:
    """The tasks that are open in an execution."""
    if stored.rev == 0:
        return set()
    folded = fold(delta for data in stored.chunks if (delta := chunks.decode(data).delta) is not None)
    return {record.task.task for record in folded.frames.values() if record.task is not None}


def info_of(stored: StoredExecution, machine: StateMachine, region: str) -> ExecutionInfo:
    """What never changes about a stored execution."""
    parts = stored.arn.split(":")
    machine_arn, machine_name = stored.machine_arn, stored.machine_name
    if stored.map_run is not None:
        machine_arn, machine_name = ids.labelled_machine(stored.arn)
    return ExecutionInfo(
        id=stored.id,
        arn=stored.arn,
        name=stored.name,
        machine_arn=machine_arn,
        machine_name=machine_name,
        role_arn=stored.role_arn,
        started_at=stored.started_at,
        region=parts[3] or region,
        version_arn=stored.version_arn,
        alias_arn=stored.alias_arn,
    )
