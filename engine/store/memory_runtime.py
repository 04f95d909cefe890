"""The durable side of the runtime in memory: every rule of `runtime_store` and its SQL, without a database.

Each method is one transaction: it never gives way between its first read and its last write. It keeps what constraints the
tables have, so that what Postgres would refuse is refused here. For simulations and single-process use; nothing survives.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

import msgspec

from stepwell.engine.asl.resources import TargetKind
from stepwell.engine.clock import Clock
from stepwell.engine.errors import BadBatchError, NotOwnerError
from stepwell.engine.ids import SHARD_COUNT, ExecutionId, claim_key, shard_of
from stepwell.engine.jsontypes import Document
from stepwell.engine.machine import chunks
from stepwell.engine.machine.commands import Status, TimerKind
from stepwell.engine.machine.events import Event, Started, TaskStarted
from stepwell.engine.machine.map_events import Message
from stepwell.engine.machine.map_run import ItemStatus
from stepwell.engine.map_ports import MapItem, NewMapRun
from stepwell.engine.messages import Claim, WorkerReport
from stepwell.engine.ports import (
    CommitEntry,
    InboxRow,
    NewExecution,
    NewTask,
    NodeRow,
    OpenTaskRow,
    StoredExecution,
    TaskAnswer,
)
from stepwell.engine.store.codes import TASK_READY, TASK_SENT, TASK_STARTED, UNKNOWN_WORKER_GRACE_MS
from stepwell.engine.store.memory import MemoryDatabase, StoredRow

_event_encoder = msgspec.json.Encoder()
_event_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)


@dataclass(slots=True, kw_only=True)
class TaskRow:
    """A row of `task`."""

    new: NewTask
    shard: int
    created_at: int
    status: int = TASK_READY
    delivery: int = 0
    worker: UUID | None = None
    sent_at: int | None = None
    started_at: int | None = None
    outcome: bytes | None = None


@dataclass(frozen=True, slots=True)
class TimerRow:
    """A row of `timer`."""

    shard: int
    due_at: int
    kind: TimerKind
    task: int | None


@dataclass(slots=True)
class MapRunRow:
    """A row of `map_run`, with its rows of `map_item` by number."""

    new: NewMapRun
    parent: ExecutionId
    started_at: int
    rev: int = 0
    status: Status = Status.RUNNING
    stopped_at: int | None = None
    redriven_at: int | None = None
    progress: bytes = b"{}"
    items: dict[int, MapItem] = field(default_factory=dict)


@dataclass(slots=True)
class ShardRow:
    """A row of `shard`."""

    owner: UUID | None = None
    epoch: int = 0


TaskKey = tuple[ExecutionId, int]


class MemoryRuntimeStore:
    """`ports.RuntimeStore` in memory. `clock` is the store's own: leases are judged by it alone."""

    def __init__(self, clock: Clock, database: MemoryDatabase | None = None) -> None:
        self._clock = clock
        self._inbox_ids = 0
        self.database = database or MemoryDatabase()
        self.executions = self.database.executions
        self.tasks: dict[TaskKey, TaskRow] = {}
        self.timers: dict[TaskKey, TimerRow] = {}
        self.heartbeats: dict[TaskKey, int] = {}
        self.map_runs: dict[ExecutionId, MapRunRow] = {}
        self.database.pending_redrive = self._pending_redrive
        self.inbox_rows: dict[int, tuple[int, ExecutionId, bytes]] = {}
        self.workers: dict[UUID, int] = {}
        self.running: dict[UUID, frozenset[str]] = {}
        self.nodes: dict[UUID, tuple[str | None, int]] = {}
        self.shards: list[ShardRow] = [ShardRow() for _ in range(SHARD_COUNT)]

    # -- group commit ----------------------------------------------------------------------------------------------

    async def commit(self, node: UUID, entries: Sequence[CommitEntry]) -> set[ExecutionId]:
        done = [entry for entry in entries if self._passes(node, entry)]
        ids = {entry.id for entry in done}
        if sum(entry.id in ids for entry in entries) > len(ids):
            raise BadBatchError("The database refuses a value: two steps of one execution in one batch.")
        for entry in done:
            self._check(entry)
        for entry in done:
            self._write(entry)
        return ids

    def _passes(self, node: UUID, entry: CommitEntry) -> bool:
        if not self.owned_by(node, entry.shard) or self._comes_late(entry):
            return False
        row = self.executions.get(entry.id)
        if entry.new is not None:
            return row is None
        return row is not None and self._at_revision(row, entry)

    def owned_by(self, node: UUID, shard: int) -> bool:
        """Fence b: the shard belongs to the node that commits."""
        return self.shards[shard].owner == node

    def _at_revision(self, row: StoredRow, entry: CommitEntry) -> bool:
        """Fence a: the execution stands where the step was computed from."""
        return row.rev == entry.rev

    def _comes_late(self, entry: CommitEntry) -> bool:
        """A task this entry closes or starts has an outcome it does not know of, or one it starts belongs to another worker."""
        for number, known in entry.tasks_closed:
            task = self.tasks.get((entry.id, number))
            if task is not None and task.outcome is not None and not known:
                return True
        for number, worker in entry.tasks_started:
            task = self.tasks.get((entry.id, number))
            if task is not None and task.outcome is not None:
                return True
            if task is not None and task.worker is not None and worker is not None and task.worker != UUID(worker):
                return True
        return False

    def _check(self, entry: CommitEntry) -> None:
        """The constraints of the tables."""
        row = self.executions.get(entry.id)
        before = row.view.stopped_at if row is not None else None
        if entry.status is not Status.RUNNING and (entry.stopped_at or before) is None:
            raise BadBatchError("The database refuses a value: an execution that has ended has a stop date.")
        taken = [task.task for task in entry.tasks_new if (entry.id, task.task) in self.tasks]
        taken += [timer for timer, *_ in entry.timers_new if (entry.id, timer) in self.timers]
        if taken:
            raise BadBatchError(f"The database refuses a value: task or timer {taken[0]} is there already.")

    def _write(self, entry: CommitEntry) -> None:
        now = self._clock.now_ms()
        id = entry.id
        known = self.executions.get(id)
        written = self.database.commit(entry if known is None else replace(entry, rev=known.rev), now)
        assert written, "the fences have been passed"
        for number, _ in entry.tasks_closed:
            self.tasks.pop((id, number), None)
            self.heartbeats.pop((id, number), None)
        for number, worker in entry.tasks_started:
            task = self.tasks.get((id, number))
            if task is not None:
                task.status, task.started_at = TASK_STARTED, now
                task.worker = UUID(worker) if worker is not None else task.worker
        for new in entry.tasks_new:
            self.tasks[id, new.task] = TaskRow(new=new, shard=entry.shard, created_at=now)
        for timer in entry.timers_gone:
            self.timers.pop((id, timer), None)
        for timer, due_at, kind, of_task in entry.timers_new:
            self.timers[id, timer] = TimerRow(entry.shard, due_at, kind, of_task)
        for inbox in entry.inbox_gone:
            self.inbox_rows.pop(inbox, None)
        for run in entry.map_runs_new:
            self.map_runs[run.id] = MapRunRow(run, id, now)
        for receiver, message in entry.posts:
            self.put(receiver, message)

    # -- loading ---------------------------------------------------------------------------------------------------

    def _pending_redrive(self, row: StoredRow) -> bool:
        run = self.map_runs.get(row.map_run) if row.map_run is not None else None
        item = run.items.get(row.map_item) if run is not None and run.stopped_at is None else None
        if item is None or item.status not in (ItemStatus.PENDING, ItemStatus.RUNNING):
            return False
        return item.redrives > row.view.redrive_count and row.view.status is not Status.RUNNING

    async def load(self, id: ExecutionId) -> StoredExecution | None:
        row = self.executions.get(id)
        if row is None:
            return None
        view = row.view
        return StoredExecution(
            id=id, rev=row.rev, status=view.status, machine_key=view.machine_key, revision=view.revision,
            machine_arn=view.machine_arn, machine_name=view.machine_name,
            role_arn=self.database.revisions[view.machine_key, view.revision].role_arn, name=view.name, arn=view.arn,
            started_at=view.started_at, stopped_at=view.stopped_at, last_event=view.last_event,
            redrive_count=view.redrive_count, redriven_at=view.redriven_at, redrive_token=row.redrive_token,
            trace_header=view.trace_header, version_arn=view.version_arn, alias_arn=view.alias_arn,
            chunks=row.chunks[max(row.snapshot_rev, 1) - 1 :],
            first_chunk=row.chunks[0] if row.snapshot_rev > 1 else None, map_run=row.map_run, map_item=row.map_item,
            processor=self.map_runs[row.map_run].new.state if row.map_run is not None else None,
        )  # fmt: skip

    async def status(self, id: ExecutionId) -> Status | None:
        row = self.executions.get(id)
        return row.view.status if row is not None else None

    async def task_secret(self, id: ExecutionId, task: int) -> bytes | None:
        row = self._open(id, task)
        return row.new.secret if row is not None else None

    def _open(self, id: ExecutionId, task: int) -> TaskRow | None:
        """The row of a task that has no outcome."""
        row = self.tasks.get((id, task))
        return row if row is not None and row.outcome is None else None

    async def chunks_with(self, id: ExecutionId, events: Sequence[int]) -> Sequence[bytes]:
        row = self.executions.get(id)
        if row is None:
            return []
        return [data for data in row.chunks if _holds(chunks.decode(data), events)]

    async def open_tasks(self, shards: Sequence[int]) -> Sequence[OpenTaskRow]:
        return [row for row in self._tasks_of(shards) if not row.started]

    async def lost_tasks(self, shards: Sequence[int], forgotten_before: int = 0) -> Sequence[OpenTaskRow]:
        return [row for row in self._tasks_of(shards) if self._lost((row.execution, row.task), forgotten_before)]

    def _lost(self, key: TaskKey, forgotten_before: int) -> bool:
        task = self.tasks[key]
        if task.worker is None:
            return False
        now = self._clock.now_ms()
        expires_at = self.workers.get(task.worker)
        if expires_at is None:
            return task.started_at is not None and task.started_at < now - UNKNOWN_WORKER_GRACE_MS
        forgotten = f"{key[0].hex()}/{key[1]}" not in self.running.get(task.worker, ())
        return expires_at < now or (forgotten and task.started_at is not None and task.started_at < forgotten_before)

    def _tasks_of(self, shards: Sequence[int]) -> list[OpenTaskRow]:
        wanted = set(shards)
        found = [
            (row.created_at, *key) for key, row in self.tasks.items() if row.shard in wanted and row.outcome is None
        ]
        return [self._task_row(id, task) for _, id, task in sorted(found)]

    def _task_row(self, id: ExecutionId, task: int) -> OpenTaskRow:
        row = self.tasks[id, task]
        new = row.new
        return OpenTaskRow(
            execution=id, task=task, kind=new.kind, started=row.status == TASK_STARTED, resource=new.resource,
            scheduled_event=new.scheduled_event, attempt=new.attempt, delivery=row.delivery, secret=new.secret,
            state=new.state, entry=new.entry, worker=str(row.worker) if row.worker is not None else None,
            heartbeat_seconds=new.heartbeat_seconds, timeout_seconds=new.timeout_seconds,
        )  # fmt: skip

    async def timers_due(self, shards: Sequence[int], until: int, limit: int) -> Sequence[tuple[ExecutionId, int, int]]:
        wanted = set(shards)
        due = [(row.due_at, *key) for key, row in self.timers.items() if row.shard in wanted and row.due_at < until]
        return [(id, timer, due_at) for due_at, id, timer in sorted(due)[:limit]]

    # -- inbox -----------------------------------------------------------------------------------------------------

    async def inbox(
        self, shards: Sequence[int], limit: int, rows: Collection[int] = (), receivers: Collection[ExecutionId] = ()
    ) -> Sequence[InboxRow]:
        wanted = set(shards)
        found = [
            (number, id, event)
            for number, (shard, id, event) in self.inbox_rows.items()
            if shard in wanted and number not in rows and id not in receivers
        ]
        return [InboxRow(number, id, _event_decoder.decode(event)) for number, id, event in sorted(found)[:limit]]

    async def started_input(self, id: ExecutionId) -> bytes | None:
        for _, execution, data in self.inbox_rows.values():
            event = _event_decoder.decode(data) if execution == id else None
            if isinstance(event, Started):
                return bytes(event.input)
        return None

    def put(self, id: ExecutionId, event: Message) -> int:
        """Put a message into an inbox; the number of its row."""
        self._inbox_ids += 1
        self.inbox_rows[self._inbox_ids] = (shard_of(id), id, _event_encoder.encode(event))
        self.hint(shard_of(id))
        return self._inbox_ids

    async def hint_all(self) -> None: ...

    def hint(self, shard: int) -> None:
        """Something was put into an inbox of this shard; what NOTIFY would tell."""

    async def post(self, execution: ExecutionId, event: Event) -> None:
        if execution in self.executions:
            self.put(execution, event)

    async def post_start(self, execution: ExecutionId, new: NewExecution, input: Document) -> bool:
        if execution in self.executions:
            return False
        self.database.begin(execution, new)
        self.put(execution, Started(msgspec.Raw(input.text)))
        return True

    async def post_outcome(self, execution: ExecutionId, task: int, secret: bytes, event: Event) -> TaskAnswer:
        row = self._open(execution, task)
        if row is None or row.new.secret != secret:
            return self._closed(execution)
        row.outcome = _event_encoder.encode(event)
        self.put(execution, event)
        return TaskAnswer.ACCEPTED

    def _closed(self, execution: ExecutionId) -> TaskAnswer:
        return TaskAnswer.TIMED_OUT if execution in self.executions else TaskAnswer.INVALID

    async def post_claim(self, execution: ExecutionId, claim: Claim) -> bool:
        row = self._open(execution, claim.task)
        if row is None or claim_key(row.new.secret) != claim.key:
            return False
        if row.status == TASK_STARTED and str(row.worker) not in (claim.worker, claim.holder):
            return False
        row.status, row.worker, row.started_at = TASK_STARTED, UUID(claim.worker), self._clock.now_ms()
        self.put(execution, TaskStarted(claim.task, claim.name))
        return True

    async def post_heartbeat(self, execution: ExecutionId, task: int, secret: bytes, now: int) -> TaskAnswer:
        row = self._open(execution, task)
        if row is None or row.new.secret != secret:
            return self._closed(execution)
        self.heartbeats[execution, task] = max(now, self.heartbeats.get((execution, task), 0))
        return TaskAnswer.ACCEPTED

    async def last_heartbeat(self, execution: ExecutionId, task: int) -> int:
        return self.heartbeats.get((execution, task), 0)

    async def take_activity_task(self, resource: str, worker: str | None) -> tuple[ExecutionId, int, bytes, int] | None:
        ready = [
            (row.created_at, *key)
            for key, row in self.tasks.items()
            if row.new.resource == resource
            and row.new.kind is TargetKind.ACTIVITY
            and row.status == TASK_READY
            and row.outcome is None
        ]
        if not ready:
            return None
        _, id, task = min(ready)
        row = self.tasks[id, task]
        row.status, row.started_at = TASK_STARTED, self._clock.now_ms()
        self.put(id, TaskStarted(task, worker))
        return id, task, row.new.secret, row.new.scheduled_event

    async def requeue_tasks(
        self, tasks: Sequence[tuple[ExecutionId, int, str]], forgotten_before: int = 0
    ) -> set[tuple[ExecutionId, int]]:
        done: set[TaskKey] = set()
        for id, task, worker in tasks:
            row = self._open(id, task)
            if row is not None and row.worker == UUID(worker) and self._lost((id, task), forgotten_before):
                row.status, row.worker = TASK_READY, None
                row.delivery += 1
                done.add((id, task))
        return done

    async def mark_sent(self, tasks: Sequence[tuple[ExecutionId, int]], now: int) -> None:
        for key in tasks:
            row = self.tasks.get(key)
            if row is not None and row.status == TASK_READY:
                row.status, row.sent_at = TASK_SENT, now

    async def report_worker(self, report: WorkerReport, lease_seconds: int) -> None:
        self.workers[UUID(report.worker)] = self._clock.now_ms() + 1000 * (-1 if report.ended else lease_seconds)
        self.running[UUID(report.worker)] = frozenset(report.running)

    # -- leases ----------------------------------------------------------------------------------------------------

    async def register_node(self, incarnation: UUID, address: str | None, ttl_ms: int) -> None:
        if incarnation in self.nodes:
            raise BadBatchError("The database refuses a value: this node is registered already.")
        self.nodes[incarnation] = (address, self._clock.now_ms() + ttl_ms)

    async def live_nodes(self) -> Sequence[NodeRow]:
        now = self._clock.now_ms()
        return [NodeRow(node, address) for node, (address, expires_at) in self.nodes.items() if expires_at > now]

    async def renew_node(self, incarnation: UUID, ttl_ms: int) -> Sequence[NodeRow]:
        if incarnation not in self.nodes:
            raise NotOwnerError("This node's lease was lost and has been cleaned up; it must start anew.")
        self.nodes[incarnation] = (self.nodes[incarnation][0], self._clock.now_ms() + ttl_ms)
        return await self.live_nodes()

    async def remove_node(self, incarnation: UUID) -> None:
        await self.release_shards(incarnation, range(SHARD_COUNT))
        self.nodes.pop(incarnation, None)

    async def rename_node(self, incarnation: UUID, fresh: UUID) -> None:
        for id in await self.owned_shards(incarnation):
            self.shards[id] = ShardRow(fresh, self.shards[id].epoch + 1)
        for row in self.database.express.values():
            if row.owner == incarnation and row.ended is None:
                row.owner = fresh
        if incarnation in self.nodes:
            self.nodes[fresh] = self.nodes.pop(incarnation)

    async def take_shards(self, incarnation: UUID, most: int) -> Sequence[int]:
        now = self._clock.now_ms()
        live = {node for node, (_, expires_at) in self.nodes.items() if expires_at > now}
        free = [id for id, row in enumerate(self.shards) if row.owner not in live][:most]
        for id in free:
            self.shards[id] = ShardRow(incarnation, self.shards[id].epoch + 1)
        return free

    async def owned_shards(self, incarnation: UUID) -> Sequence[int]:
        return [id for id, row in enumerate(self.shards) if row.owner == incarnation]

    async def release_shards(self, incarnation: UUID, shards: Sequence[int]) -> None:
        for id in shards:
            if self.shards[id].owner == incarnation:
                self.shards[id] = ShardRow(None, self.shards[id].epoch + 1)

    async def shard_owners(self) -> dict[int, UUID]:
        return {id: row.owner for id, row in enumerate(self.shards) if row.owner is not None}


def _holds(chunk: chunks.Chunk, events: Sequence[int]) -> bool:
    after = chunk.first_event + len(chunk.events)
    return any(chunk.first_event <= event < after for event in events)
