"""The reckoning at the end of a run: everything that was promised, checked against what is stored and what was done."""

from __future__ import annotations

import json
from typing import cast

import msgspec

from stepwell.engine.asl.parse import parse_definition
from stepwell.engine.asl.states import StateMachine
from stepwell.engine.ids import ExecutionId
from stepwell.engine.machine import chunks, events
from stepwell.engine.machine.commands import Status
from stepwell.engine.machine.history import TERMINAL, HistoryEvent
from stepwell.engine.machine.map_run import ENDS as ENDED
from stepwell.engine.machine.map_run import ItemStatus, Progress, Tally, child_machine
from stepwell.engine.machine.map_spec import MapRunSpec
from stepwell.engine.machine.replay import replay
from stepwell.engine.machine.snapshot import ExecutionState, fold, full_delta, restore
from stepwell.engine.runtime.hot import History, info_of
from stepwell.engine.store.memory import StoredRow
from stepwell.engine.store.memory_runtime import MapRunRow
from tests.simulation.express import reckon_express
from tests.simulation.network import run_now
from tests.simulation.observed import ObservedStore
from tests.simulation.outside import Ledger

ENDS = {
    Status.SUCCEEDED: "ExecutionSucceeded",
    Status.FAILED: "ExecutionFailed",
    Status.TIMED_OUT: "ExecutionTimedOut",
    Status.ABORTED: "ExecutionAborted",
}

_encoder = msgspec.json.Encoder()


def reckon(store: ObservedStore, ledger: Ledger, started: dict[ExecutionId, bytes]) -> None:
    """Accuse the store of every broken promise."""
    machines: dict[tuple[int, str | None], StateMachine] = {}
    for id, row in store.executions.items():
        view = row.view
        if view.status is Status.RUNNING:
            open_tasks = [(task.new.resource, task.status) for (of, _), task in store.tasks.items() if of == id]
            store.accuse(f"{view.name} has not ended; rev {row.rev}, open tasks: {open_tasks}")
            continue
        processor = store.map_runs[row.map_run].new.state if row.map_run is not None else None
        if (view.machine_key, processor) not in machines:
            machine = parse_definition(store.database.revisions[view.machine_key, 1].definition)
            machines[view.machine_key, processor] = child_machine(machine, processor) if processor else machine
        read = [chunks.decode(data) for data in row.chunks]
        _check_history(store, id, read)
        if not store.broken:
            _check_replay(store, id, machines[view.machine_key, processor], read)
    for run, stored in store.map_runs.items():
        _check_map_run(store, run, stored)
    reckon_express(store.express_watch, store.database.express, store.accuse)
    _check_leftovers(store)
    _check_outcomes(store, ledger)
    for id, text in started.items():
        found = store.executions.get(id)
        if found is None:
            store.accuse("an execution whose start was accepted is lost")
        elif found.rev and _input_of(chunks.decode(found.chunks[0])) != text:
            store.accuse(f"{found.view.name} runs with another input than that of the accepted start")


def _input_of(first: chunks.Chunk) -> bytes:
    return bytes(first.events[0].payload or b"") if first.events else b""


def _check_history(store: ObservedStore, id: ExecutionId, read: list[chunks.Chunk]) -> None:
    row = store.executions[id]
    name = row.view.name
    all_events = [event for chunk in read for event in chunk.events]
    if len(read) != row.rev or store.history(id) != read:
        store.accuse(f"{name}: {row.rev} revisions, {len(read)} chunks")
    if len(all_events) != row.view.last_event:
        store.accuse(f"{name}: {len(all_events)} events, the row says {row.view.last_event}")
    ends = [event.type for event in all_events if event.type in TERMINAL]
    if not all_events or all_events[-1].type != ENDS[row.view.status]:
        store.accuse(f"{name} is {row.view.status}, its last event {all_events[-1].type if all_events else None}")
    if len(ends) != 1 + row.view.redrive_count:
        store.accuse(f"{name}: {len(ends)} ends after {row.view.redrive_count} redrives")
    if any(event.previous > number for number, event in enumerate(all_events)):
        store.accuse(f"{name}: an event follows one that came later")
    times = [event.timestamp for event in all_events]
    if times != sorted(times):
        store.accuse(f"{name}: time went back")


def _check_replay(store: ObservedStore, id: ExecutionId, machine: StateMachine, read: list[chunks.Chunk]) -> None:
    """The stored events come out of the stored inputs, byte for byte; and so does the stored position."""
    row = store.executions[id]
    stored = run_now(store.load(id))
    assert stored is not None
    state = ExecutionState(info_of(stored, machine, "us-east-1"))
    history = History()
    replayed: list[HistoryEvent] = []
    for chunk in read:
        history.add(chunk)
        for applied in chunk.applied:
            step = replay(machine, state, applied)
            state = step.state
            replayed += step.events
    if _encoder.encode(replayed) != _encoder.encode([event for chunk in read for event in chunk.events]):
        store.accuse(f"{row.view.name}: replay gives another history")
        return
    folded = fold(chunk.delta for chunk in read if chunk.delta is not None)
    restored = restore(machine, info_of(stored, machine, "us-east-1"), row.view.status, folded, history.payload)
    if _encoder.encode(full_delta(restored)) != _encoder.encode(full_delta(state)):
        store.accuse(f"{row.view.name}: the stored position is not the one that replay leads to")


def _check_map_run(store: ObservedStore, id: ExecutionId, row: MapRunRow) -> None:
    """Each item is in one child and counted once, each child's end is counted as what it was, and the parent has the result."""
    name = f"{store.executions[row.parent].view.name}: Map Run {row.new.number}"
    if row.status is Status.RUNNING:
        store.accuse(f"{name} has not ended: {row.progress!r}")
        return
    progress = msgspec.json.decode(row.progress, type=Progress)
    executions, items = Tally(), Tally()
    children = {child.map_item: child for child in store.executions.values() if child.map_run == id}
    for number, item in row.items.items():
        executions.move(None, item.status, 1)
        items.move(None, item.status, item.size)
        child = children.get(number)
        if item.status is ItemStatus.PENDING:
            continue
        if row.new.express:
            if item.status is ItemStatus.RUNNING:
                store.accuse(f"{name}: child {number} runs for ever")
            continue
        if child is None or ENDED.get(child.view.status) is not item.status:
            store.accuse(f"{name}: child {number} is {child and child.view.status}, and counted as {item.status.name}")
    if (executions, items) != (progress.executions, progress.items):
        store.accuse(f"{name} has counted {progress.executions}, {progress.items}; there are {executions}, {items}")
    spec = msgspec.json.decode(row.new.spec, type=MapRunSpec)
    source = json.loads(bytes(spec.items))
    if items.total != progress.source or (progress.exhausted and progress.source != len(source)):
        store.accuse(f"{name}: of {len(source)} items {progress.source} were read, and {items.total} given to children")
    if children.keys() - row.items.keys():
        store.accuse(f"{name}: children that it does not know")
    _check_report(store, row, name, children)


def _check_report(store: ObservedStore, row: MapRunRow, name: str, children: dict[int, StoredRow]) -> None:
    """What the parent has been told, and told of in its history."""
    written = [chunks.decode(data) for data in store.executions[row.parent].chunks]
    told = [event for chunk in written for event in chunk.events]
    going = [at for at, event in enumerate(told, 1) if _names(event, row.new.arn)]
    ends = [event for event in told if event.type in ("MapRunSucceeded", "MapRunFailed") and event.previous in going]
    if len({event.previous for event in ends}) != len(ends):
        store.accuse(f"{name}: its parent tells twice how it ended")
    heard = [one.event for chunk in written for one in chunk.applied if isinstance(one.event, events.MapRunFinished)]
    reports = [event for event in heard if event.map_run == row.new.number and event.error is None]
    for event in reports:
        outputs = [_output_of(children[number]) for number in sorted(children)]
        if row.new.express:
            outputs = [json.loads(item.output or b"null") for _, item in sorted(row.items.items())]
        if json.loads(bytes(event.output)) != [output for output in outputs if output is not None]:
            store.accuse(f"{name}: its parent was told another result than its children have given")


def _names(event: HistoryEvent, arn: str) -> bool:
    return event.type in ("MapRunStarted", "MapRunRedriven") and (event.details or {})["mapRunArn"] == arn


def _output_of(row: StoredRow) -> object:
    """What a child execution has given, if it has succeeded. (The random machines give no null.)"""
    for data in reversed(row.chunks):
        written = chunks.decode(data).events
        if written:  # what changes nothing is written down without events
            return (
                json.loads(bytes(written[-1].payload or b"null")) if written[-1].type == "ExecutionSucceeded" else None
            )
    return None


def _check_leftovers(store: ObservedStore) -> None:
    for what, rows in (("tasks", store.tasks), ("timers", store.timers)):
        left = [
            store.executions[id].view.name for id, _ in rows if store.executions[id].view.status is not Status.RUNNING
        ]
        if left:
            store.accuse(f"{what} are left of executions that have ended: {left}")


def _check_outcomes(store: ObservedStore, ledger: Ledger) -> None:
    for (id, task), marks in ledger.accepted.items():
        name = store.executions[id].view.name
        if len(set(marks)) > 1:
            store.accuse(f"{name}: {len(marks)} different outcomes of task {task} were accepted")
        event = store.applied_outcomes.get((id, task))
        if event is None and (id, task) in store.overtaken:
            continue
        if event is None or _mark_of(event) not in marks:
            store.accuse(f"{name}: the accepted outcome of task {task} is not the one in the history")


def _mark_of(event: events.Event) -> int:
    if isinstance(event, events.TaskSucceeded):
        return cast(int, msgspec.json.decode(event.output)["mark"])
    assert isinstance(event, events.TaskFailed)
    return int((event.cause or "mark -1").removeprefix("mark "))
