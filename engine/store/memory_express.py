"""Asynchronous Express executions in memory: every rule of `express` and its SQL, without a database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from stepwell.engine.clock import Clock
from stepwell.engine.ids import ExecutionId
from stepwell.engine.machine.commands import Status
from stepwell.engine.ports import ExecutionFilter, ExpressStart, ExpressView, Page
from stepwell.engine.store.memory import ExpressRow, MemoryDatabase, page
from stepwell.engine.store.views import EXPRESS, scope_of


@dataclass(slots=True)
class MemoryExpress:
    """`ExpressStore`. `nodes` and `workers` are those of the memory store of the runtime: their leases."""

    database: MemoryDatabase
    clock: Clock
    nodes: dict[UUID, tuple[str | None, int]]
    workers: dict[UUID, int] = field(default_factory=dict)

    async def begin(self, node: UUID | None, starts: Sequence[ExpressStart]) -> set[ExecutionId]:
        fresh = [start for start in starts if start.id not in self.database.express]
        for start in fresh:
            self.database.express[start.id] = ExpressRow(start, node, self.clock.now_ms())
        return {start.id for start in fresh}

    async def end(self, ends: Sequence[ExpressView], *, keep: bool = True) -> set[ExecutionId]:
        done: set[ExecutionId] = set()
        for end in ends:
            row = self.database.express.get(end.id)
            if row is not None and row.ended is None and row.start.attempt == end.attempt:
                row.ended = end
                done.add(end.id)
        if not keep:
            for id in done:
                del self.database.express[id]
        return done

    async def discard(self, nodes: Sequence[UUID], ids: Sequence[ExecutionId]) -> None:
        for row in self._first_runs(nodes, ids):
            del self.database.express[row.start.id]

    async def release(self, nodes: Sequence[UUID], ids: Sequence[ExecutionId]) -> None:
        for row in self._first_runs(nodes, ids):
            row.owner = None

    def _first_runs(self, nodes: Sequence[UUID], ids: Sequence[ExecutionId]) -> list[ExpressRow]:
        rows = [self.database.express[id] for id in ids if id in self.database.express]
        return [row for row in rows if row.owner in nodes and row.ended is None and row.start.attempt <= 1]

    async def take(self, node: UUID, limit: int, forgotten_before: int) -> Sequence[ExpressStart]:
        now = self.clock.now_ms()
        live = {name for name, (_, expires_at) in self.nodes.items() if expires_at > now}
        rows = [row for row in self.database.express.values() if row.ended is None]
        rows = [row for row in rows if row.start.machine_key in self.database.machines]
        rows.sort(key=lambda row: (row.claimed_at, row.start.id))
        orphans = [row for row in rows if row.owner not in live or row.claimed_at < forgotten_before][:limit]
        for row in orphans:
            row.owner, row.claimed_at = node, now
            row.start = replace(row.start, attempt=row.start.attempt + 1)
        return [row.start for row in orphans]

    async def still(self, node: UUID, ids: Sequence[ExecutionId]) -> dict[ExecutionId, int]:
        rows = {id: self.database.express[id] for id in ids if id in self.database.express}
        return {id: row.start.attempt for id, row in rows.items() if row.owner == node and row.ended is None}

    async def lost_workers(self, workers: Sequence[str]) -> set[str]:
        now = self.clock.now_ms()
        return {worker for worker in workers if self.workers.get(UUID(worker), 0) <= now}

    async def expire(self, before: int, limit: int) -> int:
        rows = self.database.express
        gone = [id for id, row in rows.items() if row.ended is not None and (row.ended.stopped_at or 0) < before][
            :limit
        ]
        for id in gone:
            del rows[id]
        return len(gone)

    async def describe(self, id: ExecutionId) -> ExpressView | None:
        row = self.database.express.get(id)
        return None if row is None else _view(row)

    async def list(self, where: ExecutionFilter, limit: int, after: str | None) -> Page[ExpressView]:
        rows = [replace(_view(row), input=None, output=None) for row in self.database.express.values()]
        rows = [
            row
            for row in rows
            if (where.machine_arn is None or row.machine_arn == where.machine_arn)
            and (where.status is None or row.status is where.status)
            and (where.started_after is None or row.started_at >= where.started_after)
            and (where.started_before is None or row.started_at < where.started_before)
            and (where.name_prefix is None or row.name.startswith(where.name_prefix))
        ]
        return page(rows, lambda one: (one.started_at, one.id), scope_of(EXPRESS, where), limit, after, newest=True)


def _view(row: ExpressRow) -> ExpressView:
    start, ended = row.start, row.ended
    return ExpressView(
        id=start.id, arn=start.arn, name=start.name, machine_arn=start.machine_arn, machine_name=start.machine_name,
        machine_key=start.machine_key, revision=start.revision, started_at=start.started_at, attempt=start.attempt,
        trace_header=start.trace_header, input=start.input, status=Status.RUNNING if ended is None else ended.status,
        stopped_at=None if ended is None else ended.stopped_at, error=None if ended is None else ended.error,
        cause=None if ended is None else ended.cause, output=None if ended is None else ended.output,
    )  # fmt: skip
