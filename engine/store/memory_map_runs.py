"""Map Runs in memory: `map_ports.MapRunStore` and `MapRunReader` over the rows of a `MemoryRuntimeStore`, held to Postgres by the same
contract tests. Each method is one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from uuid import UUID

import msgspec

from stepwell.engine.clock import Clock
from stepwell.engine.ids import ExecutionId, shard_of
from stepwell.engine.machine.events import Started
from stepwell.engine.machine.map_events import MapRunEvent, MapRunUpdated
from stepwell.engine.machine.map_run import ItemStatus, Progress
from stepwell.engine.machine.map_spec import MapRunSpec
from stepwell.engine.map_ports import ITEMS_BYTES, MapItem, MapRunEntry, MapRunView, StoredMapRun
from stepwell.engine.ports import NewExecution
from stepwell.engine.store.memory import page
from stepwell.engine.store.memory_runtime import MapRunRow, MemoryRuntimeStore


class MemoryMapRuns:
    """`MapRunStore` and `MapRunReader`."""

    def __init__(self, store: MemoryRuntimeStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    # -- for the owner ---------------------------------------------------------------------------------------------

    async def open_map_runs(self, shards: Sequence[int]) -> Sequence[ExecutionId]:
        rows = self._store.map_runs.items()
        found = [(row.started_at, id) for id, row in rows if shard_of(id) in set(shards) and row.stopped_at is None]
        return [id for _, id in sorted(found)]

    async def load_map_run(self, id: ExecutionId) -> StoredMapRun | None:
        row = self._store.map_runs.get(id)
        if row is None:
            return None
        parent = self._store.executions[row.parent].view
        revision = self._store.database.revisions[parent.machine_key, parent.revision]
        new = row.new
        return StoredMapRun(
            id=id, rev=row.rev, arn=new.arn, status=row.status, parent=row.parent, number=new.number,
            machine_key=parent.machine_key, revision=parent.revision, role_arn=revision.role_arn, state=new.state,
            started_at=row.started_at, stopped_at=row.stopped_at, max_concurrency=new.max_concurrency,
            tolerated_count=new.tolerated_count, tolerated_percentage=new.tolerated_percentage,
            spec=msgspec.json.decode(new.spec, type=MapRunSpec), progress=_progress(row), redriven_at=row.redriven_at,
            express=new.express,
        )  # fmt: skip

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
        row = self._store.map_runs.get(id)
        items = [item for _, item in sorted(row.items.items())] if row is not None else []
        found = [item for item in items if item.number > after and status in (None, item.status)][:limit]
        if not data:
            return [replace(item, input=b"", output=None) for item in found]
        before = accumulate((len(item.input) + len(item.output or b"") for item in found), initial=0)
        return [item for item, size in zip(found, before, strict=False) if size < most_bytes]

    async def unsuccessful(self, id: ExecutionId) -> dict[ItemStatus, tuple[int, int]]:
        counts: dict[ItemStatus, tuple[int, int]] = {}
        for item in self._store.map_runs[id].items.values():
            if item.status > ItemStatus.SUCCEEDED:
                executions, items = counts.get(item.status, (0, 0))
                counts[item.status] = (executions + 1, items + item.size)
        return counts

    async def commit_map_run(self, node: UUID, entry: MapRunEntry) -> dict[ExecutionId, int] | None:
        row = self._store.map_runs.get(entry.id)
        if row is None or row.rev != entry.rev or not self._store.owned_by(node, shard_of(entry.id)):
            return None
        row.rev += 1
        row.status, row.stopped_at = entry.status, entry.stopped_at
        row.redriven_at = entry.redriven_at or row.redriven_at
        row.progress = msgspec.json.encode(entry.progress)
        self._write_items(row, entry)
        starts = self._begin(row, entry)
        for receiver, message in entry.posts:
            if receiver not in starts:
                self._store.put(receiver, message)
        for inbox in entry.inbox_gone:
            self._store.inbox_rows.pop(inbox, None)
        return starts

    def _write_items(self, row: MapRunRow, entry: MapRunEntry) -> None:
        before = dict(row.items)
        for item in entry.items_new:
            at = entry.now if item.status is ItemStatus.RUNNING else 0
            row.items[item.number] = replace(item, started_at=at, losses=entry.progress.losses)
        for number in entry.items_started:
            waiting = before.get(number)
            if waiting is not None and waiting.status is ItemStatus.PENDING:
                at = waiting.started_at or entry.now
                row.items[number] = replace(
                    waiting, status=ItemStatus.RUNNING, started_at=at, losses=entry.progress.losses
                )
        for ended in entry.items_ended:
            running = before.get(ended.number)
            if running is not None and running.status is ItemStatus.RUNNING:
                row.items[ended.number] = replace(
                    running, status=ended.status, output=ended.output, error=ended.error, cause=ended.cause,
                    stopped_at=ended.stopped_at,
                )  # fmt: skip
        if entry.again:
            for number, item in before.items():
                if item.status > ItemStatus.SUCCEEDED:
                    again = replace(item, status=ItemStatus.PENDING, redrives=item.redrives + 1)
                    row.items[number] = replace(again, error=None, cause=None)

    def _begin(self, row: MapRunRow, entry: MapRunEntry) -> dict[ExecutionId, int]:
        parent = self._store.executions[row.parent].view
        starts: dict[ExecutionId, int] = {}
        for child in entry.children:
            if child.id in self._store.executions:
                continue
            new = NewExecution(
                machine_key=parent.machine_key,
                revision=parent.revision,
                name=child.name,
                arn=child.arn,
                started_at=entry.now,
            )
            begun = self._store.database.begin(child.id, new)
            begun.map_run, begun.map_item = entry.id, child.number
            size = row.items[child.number].size if child.number in row.items else None
            begun.view = replace(begun.view, map_run_arn=row.new.arn, item_count=size)
            starts[child.id] = self._store.put(child.id, Started(msgspec.Raw(child.input)))
        return starts

    async def post_map_run(self, id: ExecutionId, event: MapRunEvent) -> None:
        if id in self._store.map_runs:
            self._store.put(id, event)

    # -- for everybody ---------------------------------------------------------------------------------------------

    async def describe(self, id: ExecutionId) -> MapRunView | None:
        row = self._store.map_runs.get(id)
        return self._view(id, row) if row is not None else None

    def _view(self, id: ExecutionId, row: MapRunRow) -> MapRunView:
        parent = self._store.executions[row.parent].view
        again = [item for item in row.items.values() if item.redrives and item.status is ItemStatus.PENDING]
        again = again if row.stopped_at is None and row.redriven_at is not None else []
        return MapRunView(
            id=id, arn=row.new.arn, execution_arn=parent.arn, machine_key=parent.machine_key, revision=parent.revision,
            status=row.status,
            started_at=row.started_at, stopped_at=row.stopped_at, max_concurrency=row.new.max_concurrency,
            tolerated_count=row.new.tolerated_count or 0, tolerated_percentage=row.new.tolerated_percentage or 0.0,
            progress=_progress(row), redriven_at=row.redriven_at, express=row.new.express,
            pending_redrive=len(again), pending_redrive_items=sum(item.size for item in again),
        )  # fmt: skip

    async def list(
        self, execution: ExecutionId, limit: int, after: str | None
    ) -> tuple[Sequence[MapRunView], str | None]:
        views = [self._view(id, row) for id, row in self._store.map_runs.items() if row.parent == execution]
        found = page(
            views, lambda one: (one.started_at, one.id), f"map-runs {execution.hex()}", limit, after, newest=True
        )
        return found.items, found.next

    async def begun_items(
        self, id: ExecutionId, *, status: ItemStatus | None, limit: int, before: int | None
    ) -> Sequence[MapItem]:
        items = [item for _, item in sorted(self._store.map_runs[id].items.items(), reverse=True)]
        found = [item for item in items if item.status is not ItemStatus.PENDING and status in (None, item.status)]
        shown = [item for item in found if before is None or item.number < before][:limit]
        return [replace(item, input=b"", output=None) for item in shown]

    async def item(self, id: ExecutionId, number: int) -> MapItem | None:
        row = self._store.map_runs.get(id)
        return row.items.get(number) if row is not None else None

    async def update(
        self,
        id: ExecutionId,
        *,
        max_concurrency: int | None,
        tolerated_count: int | None,
        tolerated_percentage: float | None,
    ) -> bool:
        row = self._store.map_runs.get(id)
        if row is None or row.stopped_at is not None:
            return False
        given = {
            "max_concurrency": max_concurrency,
            "tolerated_count": tolerated_count,
            "tolerated_percentage": tolerated_percentage,
        }
        row.new = replace(row.new, **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
        self._store.put(id, MapRunUpdated())
        return True


def _progress(row: MapRunRow) -> Progress:
    return msgspec.json.decode(row.progress, type=Progress)
