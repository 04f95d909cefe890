"""The simulated store: the memory store, watched. Every write is checked against the promises as it happens.

Its protections can be switched off one by one, to show that the simulation notices.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Final
from uuid import UUID

import msgspec

from stepwell.engine.clock import Clock
from stepwell.engine.ids import ExecutionId, shard_of
from stepwell.engine.machine import chunks, events
from stepwell.engine.machine.commands import Status
from stepwell.engine.machine.history import TERMINAL
from stepwell.engine.machine.map_run import ItemStatus
from stepwell.engine.map_ports import ITEMS_BYTES, MapItem, MapRunEntry, StoredMapRun
from stepwell.engine.messages import Claim
from stepwell.engine.ports import CommitEntry, InboxRow, NodeRow, OpenTaskRow
from stepwell.engine.store.memory import StoredRow
from stepwell.engine.store.memory_map_runs import MemoryMapRuns
from stepwell.engine.store.memory_runtime import MapRunRow, MemoryRuntimeStore
from tests.simulation.express import ExpressWatch, ObservedExpress


class Protection(StrEnum):
    """What can be switched off."""

    REVISION = "revision fence"
    """It guards against double owners, which the epoch fence allows none of: what it is for shows only without that."""
    EPOCH = "epoch fence"
    OUTCOME = "first outcome wins"
    CLAIM = "second claim refused"
    REDELIVERY = "redelivery at take-over"
    RESCUE = "redelivery of lost workers' tasks"
    INBOX = "inbox rows live until they are applied"
    MAP_RUN_REVISION = "revision fence of Map Runs"
    """As that of executions, it guards against double owners."""
    MAP_RUN_EPOCH = "epoch fence of Map Runs"
    GENERATION = "what a Map Run came to before a redrive is ignored"
    RERUN = "Express children of lost nodes are run again"
    LOSSES = "losses of Express children are counted"
    EXPRESS_ATTEMPT = "the newest run of an Express execution alone is heard"
    EXPRESS_TAKE = "Express executions of lost nodes are run again"


class BrokenPromiseError(AssertionError):
    """An invariant does not hold."""


LATE_MS: Final = 1_500

Task = tuple[ExecutionId, int]


class ObservedStore(MemoryRuntimeStore):
    """`without` names the protections that are switched off."""

    def __init__(
        self,
        clock: Clock,
        without: frozenset[Protection] = frozenset(),
        *,
        double_owners: bool = False,
        late_ends: bool = False,
    ) -> None:
        """`late_ends`: of Map Runs that have ended, every other one is heard of some time later."""
        super().__init__(clock)
        self.double_owners = double_owners
        self._late_ends = late_ends
        self._asked_for: dict[int, int] = {}
        self._without = without
        self.broken: list[str] = []
        self.commits = 0
        self.applied_outcomes: dict[Task, events.Event] = {}
        self.overtaken: set[Task] = set()
        """Tasks whose accepted outcome came to nothing because that of another task, accepted as well, was applied first."""
        self.granted: set[tuple[ExecutionId, int, UUID]] = set()
        """(execution, task, worker): claims that are or were durable."""
        self.lapsed: set[tuple[ExecutionId, int, UUID]] = set()
        """Claims that were taken away from workers whose lease had run out."""
        self._decoded: dict[ExecutionId, list[chunks.Chunk]] = defaultdict(list)
        self.hints: list[int] = []
        self.processes: dict[UUID, int] = {}
        """The process of each name that a node has borne."""
        self.lapses: Counter[int] = Counter()
        """How often a process may have been without a lease for a while."""
        self.takes: Counter[int] = Counter()
        """How often a shard has been taken."""
        self._renewed_at: dict[int, int] = {}
        self.express_watch = ExpressWatch(self.accuse, self.map_runs)
        self.watched_express = ObservedExpress(
            self.database, clock, self.express_watch, self.processes, nodes=self.nodes, workers=self.workers,
            hears_all=Protection.EXPRESS_ATTEMPT in without, leaves_lost=Protection.EXPRESS_TAKE in without,
        )  # fmt: skip
        self.watched_map_runs = ObservedMapRuns(self, clock)
        self.truly_running: Callable[[UUID, Task], bool] = lambda worker, task: False
        """Whether a worker that lives runs a task, whatever it has reported."""

    def without(self, protection: Protection) -> bool:
        return protection in self._without

    def accuse(self, what: str) -> None:
        self.broken.append(f"at {self._clock.now_ms() % 10_000_000 / 1000:.3f}: {what}")

    # -- protections -----------------------------------------------------------------------------------------------

    def owned_by(self, node: UUID, shard: int) -> bool:
        return Protection.EPOCH in self._without or super().owned_by(node, shard)

    def _at_revision(self, row: StoredRow, entry: CommitEntry) -> bool:
        return Protection.REVISION in self._without or super()._at_revision(row, entry)

    def _comes_late(self, entry: CommitEntry) -> bool:
        return Protection.OUTCOME not in self._without and super()._comes_late(entry)

    async def open_tasks(self, shards: Sequence[int]) -> Sequence[OpenTaskRow]:
        return [] if Protection.REDELIVERY in self._without else await super().open_tasks(shards)

    async def inbox(
        self, shards: Sequence[int], limit: int, rows: Collection[int] = (), receivers: Collection[ExecutionId] = ()
    ) -> Sequence[InboxRow]:
        found = await super().inbox(shards, limit, rows, receivers)
        if self._late_ends:
            found = [row for row in found if not self._is_late(row)]
        if Protection.INBOX in self._without:
            for row in found:
                del self.inbox_rows[row.id]
        if Protection.GENERATION in self._without:
            return [self._as_if_new(row) for row in found]
        return found

    def _is_late(self, row: InboxRow) -> bool:
        now = self._clock.now_ms()
        since = self._asked_for.setdefault(row.id, now)
        return isinstance(row.event, events.MapRunFinished) and row.id % 2 == 0 and now - since < LATE_MS

    def _as_if_new(self, row: InboxRow) -> InboxRow:
        """What a Map Run says of an earlier of its runs, as though it said it of this one."""
        event = row.event
        if not isinstance(event, events.MapRunFinished):
            return row
        arns = {
            run.new.arn
            for run in self.map_runs.values()
            if (run.parent, run.new.number) == (row.execution, event.map_run)
        }
        written = [each for chunk in self._decoded[row.execution] for each in chunk.events]
        redriven = [each.details or {} for each in written if each.type == "MapRunRedriven"]
        counts = [details["redriveCount"] for details in redriven if details["mapRunArn"] in arns]
        return replace(row, event=msgspec.structs.replace(event, redrives=max(counts, default=0)))

    async def lost_tasks(self, shards: Sequence[int], forgotten_before: int = 0) -> Sequence[OpenTaskRow]:
        return [] if Protection.RESCUE in self._without else await super().lost_tasks(shards, forgotten_before)

    # -- watching --------------------------------------------------------------------------------------------------

    async def commit(self, node: UUID, entries: Sequence[CommitEntry]) -> set[ExecutionId]:
        done = await super().commit(node, entries)
        for entry in entries:
            if entry.id in done:
                if self.shards[entry.shard].owner != node and not self.double_owners:
                    self.accuse(f"a node that does not own shard {entry.shard} has written to it")
                self.commits += 1
                self._watch(entry)
        return done

    def _watch(self, entry: CommitEntry) -> None:
        chunk = chunks.decode(entry.chunk)
        before = self._decoded[entry.id]
        name = self.executions[entry.id].view.name
        last = before[-1].first_event + len(before[-1].events) - 1 if before else 0
        if chunk.first_event != last + 1 or entry.last_event != last + len(chunk.events):
            self.accuse(f"{name}: events {chunk.first_event}..{entry.last_event} follow event {last}")
        ended = bool(before) and self._ended(entry.id)
        for event in chunk.events:
            if ended and event.type != "ExecutionRedriven":
                self.accuse(f"{name}: {event.type} after the end")
            ended = event.type in TERMINAL
        before.append(chunk)
        for applied in chunk.applied:
            self._watch_outcome(entry.id, name, applied.event)
        outcomes = {
            one.event.task for one in chunk.applied if isinstance(one.event, events.TaskSucceeded | events.TaskFailed)
        }
        for task, known in entry.tasks_closed:
            if known and task not in outcomes:
                if not outcomes:
                    self.accuse(f"{name}: the outcome of task {task} was overtaken by none")
                self.overtaken.add((entry.id, task))
        for task, worker in entry.tasks_started:
            if worker is not None:
                self.granted.add((entry.id, task, UUID(worker)))

    def _watch_outcome(self, id: ExecutionId, name: str, event: events.Event) -> None:
        if not isinstance(event, events.TaskSucceeded | events.TaskFailed):
            return
        if (id, event.task) in self.applied_outcomes:
            self.accuse(f"{name}: task {event.task} has two outcomes")
        self.applied_outcomes[id, event.task] = event

    def _ended(self, id: ExecutionId) -> bool:
        for chunk in reversed(self._decoded[id]):
            if chunk.events:
                return chunk.events[-1].type in TERMINAL
        return False

    def history(self, id: ExecutionId) -> list[chunks.Chunk]:
        """The chunks of an execution, in the order they were written."""
        return self._decoded[id]

    async def post_claim(self, execution: ExecutionId, claim: Claim) -> bool:
        row = self.tasks.get((execution, claim.task))
        if Protection.CLAIM in self._without and row is not None and row.worker is not None:
            row.worker = UUID(claim.worker)
        granted = await super().post_claim(execution, claim)
        if granted:
            self.granted.add((execution, claim.task, UUID(claim.worker)))
        return granted

    async def requeue_tasks(
        self, tasks: Sequence[tuple[ExecutionId, int, str]], forgotten_before: int = 0
    ) -> set[tuple[ExecutionId, int]]:
        before = {(id, task): row.worker for id, task, _ in tasks if (row := self.tasks.get((id, task))) is not None}
        done = await super().requeue_tasks(tasks, forgotten_before)
        for id, task in done:
            worker = before[id, task]
            assert worker is not None
            if self.workers.get(worker, 0) >= self._clock.now_ms() and self.truly_running(worker, (id, task)):
                self.accuse(f"task {task} was taken from a live worker")
            self.lapsed.add((id, task, worker))
        return done

    def hint(self, shard: int) -> None:
        self.hints.append(shard)

    async def register_node(self, incarnation: UUID, address: str | None, ttl_ms: int) -> None:
        await super().register_node(incarnation, address, ttl_ms)
        self.processes[incarnation] = int((address or "").rpartition(":")[2])

    async def renew_node(self, incarnation: UUID, ttl_ms: int) -> Sequence[NodeRow]:
        nodes = await super().renew_node(incarnation, ttl_ms)
        process, now = self.processes[incarnation], self._clock.now_ms()
        self.lapses[process] += now - self._renewed_at.get(process, now) > ttl_ms / 2
        self._renewed_at[process] = now
        return nodes

    async def take_shards(self, incarnation: UUID, most: int) -> Sequence[int]:
        taken = await super().take_shards(incarnation, most)
        self.takes.update(taken)
        return taken

    async def rename_node(self, incarnation: UUID, fresh: UUID) -> None:
        await super().rename_node(incarnation, fresh)
        self.processes[fresh] = self.processes[incarnation]


class ObservedMapRuns(MemoryMapRuns):
    """The Map Runs of the simulated store, watched as well."""

    def __init__(self, store: ObservedStore, clock: Clock) -> None:
        super().__init__(store, clock)
        self._observed = store
        self.told: set[tuple[ExecutionId, int]] = set()
        """(Map Run, redrives): runs whose end was told to their parents."""

    async def commit_map_run(self, node: UUID, entry: MapRunEntry) -> dict[ExecutionId, int] | None:
        store, shard = self._observed, shard_of(entry.id)
        row = store.map_runs[entry.id]
        rev, before = row.rev, dict(row.items)
        owner = store.shards[shard].owner
        if store.without(Protection.MAP_RUN_REVISION):
            entry = replace(entry, rev=rev)
        as_node = owner if store.without(Protection.MAP_RUN_EPOCH) and owner is not None else node
        starts = await super().commit_map_run(as_node, entry)
        if starts is None:
            return None
        if owner != node and not store.double_owners:
            store.accuse(f"a node that does not own shard {shard} has written to a Map Run of it")
        store.commits += 1
        self._watch(row, before, entry)
        if row.new.express:
            self._watch_express(store.processes[node], row, before, entry)
        return starts

    async def load_map_run(self, id: ExecutionId) -> StoredMapRun | None:
        stored = await super().load_map_run(id)
        if stored is not None and self._observed.without(Protection.LOSSES):
            stored.progress.losses = 0
        return stored

    async def map_items(
        self,
        id: ExecutionId,
        *,
        status: ItemStatus | None = None,
        after: int = -1,
        limit: int = 1000,
        data: bool = True,
        most_bytes: int = ITEMS_BYTES,
    ) -> Sequence[MapItem]:
        lost = status is ItemStatus.RUNNING and self._observed.map_runs[id].new.express
        if lost and self._observed.without(Protection.RERUN):
            return []
        return await super().map_items(id, status=status, after=after, limit=limit, data=data, most_bytes=most_bytes)

    def _watch_express(self, process: int, row: MapRunRow, before: dict[int, MapItem], entry: MapRunEntry) -> None:
        watch = self._observed.express_watch
        if entry.children:
            self._observed.accuse(f"Map Run {row.new.number}: Express children have executions of their own")
        for ended in entry.items_ended:
            was = before.get(ended.number)
            if was is not None:
                watch.counts(process, entry.id, row.new.arn, was, ended)
        lapses, takes = self._observed.lapses[process], self._observed.takes[shard_of(entry.id)]
        watch.held(entry.id, row.items, (process, lapses, takes))

    def _watch(self, row: MapRunRow, before: dict[int, MapItem], entry: MapRunEntry) -> None:
        name = f"{self._observed.executions[row.parent].view.name}: Map Run {row.new.number}"
        for ended in entry.items_ended:
            was = before.get(ended.number)
            if was is None or was.status is not ItemStatus.RUNNING:
                self._observed.accuse(f"{name}: the end of child {ended.number} is counted, which did not run")
        for item in entry.items_new:
            if item.number in before:
                self._observed.accuse(f"{name}: child {item.number} is made twice")
        for _, message in entry.posts:
            if isinstance(message, events.MapRunFinished):
                if (entry.id, message.redrives) in self.told:
                    self._observed.accuse(f"{name}: the parent is told twice how it ended")
                self.told.add((entry.id, message.redrives))
        begun = [item for item in entry.items_new if item.status is ItemStatus.RUNNING]
        if (begun or entry.items_started) and self._observed.executions[row.parent].view.status is not Status.RUNNING:
            waiting = {receiver for _, receiver, _ in self._observed.inbox_rows.values()}
            if entry.id not in waiting:
                self._observed.accuse(f"{name}: children are begun though it knows that its parent has ended")
