"""What Postgres holds of executions, against the same without a store: each is run once more from its start, in memory and
without a break, and is told what it was told, in the order, at the times and with the seeds that were written down.

History, position, status, output and error must be the same; and what it was told must be what the outside has said.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from stepwell.engine.asl.parse import parse_definition
from stepwell.engine.asl.states import StateMachine
from stepwell.engine.ids import ExecutionId
from stepwell.engine.machine import chunks, events
from stepwell.engine.machine.commands import Finish, Status
from stepwell.engine.machine.history import HistoryEvent
from stepwell.engine.machine.map_run import child_machine
from stepwell.engine.machine.run import Slice
from stepwell.engine.machine.transition import DEFAULT_SLICE
from stepwell.engine.ports import ExecutionView, StoredExecution
from stepwell.engine.query.jsonata import Outcomes
from stepwell.engine.runtime.hot import info_of, revive
from stepwell.engine.states_errors import ErrorName
from stepwell.engine.store.executions import PostgresExecutions
from stepwell.engine.store.map_runs import PostgresMapRunStore
from stepwell.engine.store.runtime_store import PostgresRuntimeStore
from tests.properties.families import Alone, unhurried
from tests.properties.outside import Outside
from tests.properties.runs import position
from tests.properties.soundness import check_history, check_step
from tests.support.nodes import StandingClock

REGION = "us-east-1"
PAGE = 37
"""Events of a history that are read at a time."""


class Uninterrupted(Alone):
    """An execution that is told what another was told."""

    def __init__(self, machine: StateMachine, stored: StoredExecution) -> None:
        super().__init__(machine, "", info=info_of(stored, machine, REGION))
        self.stored = stored
        self.commit_steps = False
        self.told: list[chunks.AppliedEvent] = []

    def tell(self, one: chunks.AppliedEvent) -> None:
        assert one.now >= self.now or not self.told, "time never goes back"
        if isinstance(one.event, events.TimerFired) and one.event.timer in self.timers:
            assert self.timers[one.event.timer] <= one.now, f"timer {one.event.timer} fires before its time"
        self.now = one.now
        self.slice = Slice(events=one.slice) if one.slice else DEFAULT_SLICE
        self.heavy = Outcomes(one.outcomes, unhurried)
        self.told.append(one)
        step = self.step(one.event, one.seed)
        assert step.first_event == one.first_event, "its events have the numbers that were written down"


@dataclass
class Reckoning:
    """Looks through a database in which everything has ended."""

    pool: asyncpg.Pool[Any]
    outside: Outside
    clock: StandingClock

    def __post_init__(self) -> None:
        self._store = PostgresRuntimeStore("", self.pool, self.clock)
        self._maps = PostgresMapRunStore(self._store, self.pool, self.clock)
        self._reader = PostgresExecutions(self.pool)
        self._machines: dict[tuple[int, str | None], StateMachine] = {}
        self._definitions: dict[int, str] = {}
        self.runs: dict[ExecutionId, Uninterrupted] = {}

    async def check(self) -> None:
        """All executions, then all Map Runs."""
        rows = await self.pool.fetch("SELECT machine_key, definition FROM state_machine_revision")
        self._definitions = {row[0]: row[1] for row in rows}
        written: dict[ExecutionId, list[bytes]] = defaultdict(list)
        for row in await self.pool.fetch("SELECT execution_id, data FROM history_chunk ORDER BY execution_id, rev"):
            written[ExecutionId(row[0].bytes)].append(row[1])
        for row in await self.pool.fetch("SELECT id FROM execution ORDER BY started_at, id"):
            id = ExecutionId(row[0].bytes)
            await self._check_execution(id, [chunks.decode(data) for data in written[id]])
        for row in await self.pool.fetch("SELECT id FROM map_run ORDER BY started_at, id"):
            await self._check_map_run(ExecutionId(row[0].bytes))

    # -- executions ------------------------------------------------------------------------------------------------

    async def _check_execution(self, id: ExecutionId, read: Sequence[chunks.Chunk]) -> None:
        stored = await self._store.load(id)
        assert stored is not None
        run = self.runs[id] = Uninterrupted(self._machine(stored.machine_key, stored.processor), stored)
        try:
            for chunk in read:
                for one in chunk.applied:
                    run.tell(one)
            await self._compare(id, run, read)
            self._check_told(id, run)
        except Exception as error:
            told = "\n".join(f"+{one.now} {one.event}" for chunk in read for one in chunk.applied)
            error.add_note(f"{stored.arn}\n{self._definitions[stored.machine_key]}\n{told}\n" + "\n".join(run.lines))
            raise

    async def _compare(self, id: ExecutionId, run: Uninterrupted, read: Sequence[chunks.Chunk]) -> None:
        same("chunks", [event for chunk in read for event in chunk.events], run.seen)
        same("history", await self._history(id), run.seen)
        check_step(run)
        check_history(run)
        state, _ = await revive(self._store, run.stored, run.machine, REGION)
        same("position", position(state), position(run.state))
        view = await self._reader.describe(id)
        assert view is not None and run.finish is not None
        same("end", ending(view), ending(run.finish))
        same("redrives", view.redrive_count, run.state.redrive_count)
        same("last redrive", view.redriven_at, run.state.redriven_at or None)
        same("input", view.input, run.state.input)

    async def _history(self, id: ExecutionId) -> list[HistoryEvent]:
        """The history as whoever asks for it is given it, page by page."""
        found: list[HistoryEvent] = []
        last = 1
        while len(found) < last:
            page = await self._reader.history(id, after=len(found), limit=PAGE)
            assert page is not None and page[0], f"no events behind the {len(found)}th, but there are {page}"
            assert [number for number, _ in page[0]] == list(range(len(found) + 1, len(found) + len(page[0]) + 1))
            found += [event for _, event in page[0]]
            last = page[1]
        return found

    def _machine(self, key: int, processor: str | None) -> StateMachine:
        if (key, processor) not in self._machines:
            whole = self._machines.setdefault((key, None), parse_definition(self._definitions[key]))
            if processor is not None:
                self._machines[key, processor] = child_machine(whole, processor)
        return self._machines[key, processor]

    def _check_told(self, id: ExecutionId, run: Uninterrupted) -> None:
        """It was told nothing that was not so, and what somebody was answered for came true."""
        ended: dict[int, object] = {}
        for one in run.told:
            event = one.event
            if isinstance(event, events.TaskSucceeded | events.TaskFailed):
                assert event in self.outside.said[id, event.task], f"nobody has said {event}"
                ended.setdefault(event.task, event)
            elif isinstance(event, events.TaskSubmitted):
                assert event in self.outside.said[id, event.task], f"nobody has said {event}"
            assert not isinstance(event, events.Poisoned), "all can be written"
        for (of, task), said in self.outside.accepted.items():
            if of == id:
                assert len(said) == 1, f"two outcomes of task {task} were answered for"
                assert ended.get(task) == said[0], (
                    f"another outcome of task {task} than {said[0]}, which was answered for"
                )

    # -- Map Runs --------------------------------------------------------------------------------------------------

    async def _check_map_run(self, id: ExecutionId) -> None:
        """Its children are what it counts, and its parent was told once what they have given."""
        run = await self._maps.load_map_run(id)
        assert run is not None and run.status is not Status.RUNNING
        items = await self._maps.map_items(id)
        assert [item.number for item in items] == list(range(run.progress.made))
        assert sum(item.size for item in items) == run.progress.source
        told = [one.event for one in self.runs[run.parent].told if isinstance(one.event, events.MapRunFinished)]
        reports = {report.redrives: report for report in told if report.map_run == run.number}
        assert len(reports) == sum(report.map_run == run.number for report in told), "it has reported twice"
        report = reports.get(run.progress.redrives)  # which the parent may have ended before
        if run.status is Status.SUCCEEDED and run.spec.writer is None and report is not None:
            given = [json.loads(item.output) for item in items if item.output is not None]
            assert json.loads(bytes(report.output)) == given, (
                "it has reported something else than its children have given"
            )


def same(what: str, stored: object, uninterrupted: object) -> None:
    """They do not differ."""
    assert stored == uninterrupted, f"{what} in the store:\n{stored!r}\nand without one:\n{uninterrupted!r}"


def ending(of: ExecutionView | Finish) -> tuple[object, ...]:
    """How an execution has ended."""
    error = ErrorName.TIMEOUT if of.status is Status.TIMED_OUT else of.error
    return of.status, of.stopped_at, error, of.cause, of.output.text if of.output is not None else None
