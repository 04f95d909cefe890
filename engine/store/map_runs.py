"""Map Runs in Postgres: `map_ports.MapRunStore` for their owner, `map_ports.MapRunReader` for everybody.

A Map Run's progress is one small value, written with each of its steps; its children are narrow rows. Nothing of it is touched
by the group commit, except that a parent's step inserts its row and a child's last step a message to its owner.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from stepwell.engine.clock import Clock
from stepwell.engine.ids import ExecutionId, as_uuid, shard_of
from stepwell.engine.machine.events import Started
from stepwell.engine.machine.map_events import MapRunEvent, MapRunUpdated, Message
from stepwell.engine.machine.map_run import ItemStatus, Progress
from stepwell.engine.machine.map_spec import MapRunSpec
from stepwell.engine.map_ports import ITEMS_BYTES, MapItem, MapRunEntry, MapRunView, StoredMapRun
from stepwell.engine.store.codes import STATUS_CODES, STATUS_OF, bucket_of
from stepwell.engine.store.pages import make_position, read_position
from stepwell.engine.store.runtime_store import PostgresRuntimeStore, store_errors
from stepwell.engine.store.sql import QUERIES

message_encoder: Final = msgspec.json.Encoder()
_progress: Final = msgspec.json.Decoder(Progress)
MAX_NUMBER: Final = 2**31 - 1
"""No child has this number, nor one beyond it."""
_spec: Final = msgspec.json.Decoder(MapRunSpec)


class PostgresMapRunStore:
    """`MapRunStore`, over the connections of the runtime store: its commits have the same plans pinned."""

    def __init__(self, store: PostgresRuntimeStore, pool: Any, clock: Clock) -> None:
        self._store = store
        self._pool = pool
        self._clock = clock

    async def open_map_runs(self, shards: Sequence[int]) -> Sequence[ExecutionId]:
        async with store_errors():
            rows = await self._pool.fetch(
                "SELECT id FROM map_run WHERE shard = ANY ($1::smallint[]) AND stopped_at IS NULL ORDER BY started_at, id",
                list(shards),
            )
        return [ExecutionId(row[0].bytes) for row in rows]

    async def load_map_run(self, id: ExecutionId) -> StoredMapRun | None:
        async with store_errors():
            row = await self._pool.fetchrow(QUERIES["load_map_run"], as_uuid(id))
        if row is None:
            return None
        return StoredMapRun(
            id=id,
            rev=row["rev"],
            arn=row["arn"],
            status=STATUS_OF[row["status"]],
            parent=ExecutionId(row["execution_id"].bytes),
            number=row["number"],
            machine_key=row["machine_key"],
            revision=row["revision"],
            role_arn=row["role_arn"],
            state=row["state"],
            started_at=row["started_at"],
            stopped_at=row["stopped_at"],
            max_concurrency=row["max_concurrency"],
            tolerated_count=row["tolerated_count"],
            tolerated_percentage=row["tolerated_percentage"],
            spec=_spec.decode(row["spec"]),
            progress=_progress.decode(row["progress"]),
            redriven_at=row["redriven_at"],
            express=row["express"],
        )

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
        columns = f"{_KNOWN}, {_DATA if data else _NO_DATA}"
        where = "" if status is None else " AND status = $4"
        values: list[Any] = [as_uuid(id), after, limit, *([] if status is None else [int(status)])]
        found = f"SELECT * FROM map_item WHERE map_run = $1 AND item > $2{where} ORDER BY item LIMIT $3"  # noqa: S608
        statement = f"SELECT {columns} FROM ({found}) i ORDER BY item"  # noqa: S608
        if data:
            size = "octet_length(input) + coalesce(octet_length(output), 0)"
            sized = f"SELECT *, sum({size}) OVER (ORDER BY item) - ({size}) AS before FROM ({found}) i"  # noqa: S608
            values.append(most_bytes)
            statement = f"SELECT {columns} FROM ({sized}) i WHERE before < ${len(values)} ORDER BY item"  # noqa: S608
        async with store_errors():
            rows = await self._pool.fetch(statement, *values)
        return [_item(row) for row in rows]

    async def unsuccessful(self, id: ExecutionId) -> dict[ItemStatus, tuple[int, int]]:
        async with store_errors():
            rows = await self._pool.fetch(
                "SELECT status, count(*), sum(size) FROM map_item WHERE map_run = $1 AND status > $2 GROUP BY status",
                as_uuid(id),
                int(ItemStatus.SUCCEEDED),
            )
        return {ItemStatus(row[0]): (row[1], int(row[2])) for row in rows}

    async def commit_map_run(self, node: UUID, entry: MapRunEntry) -> dict[ExecutionId, int] | None:
        rows = await self._store.fetch_committing(QUERIES["commit_map_run"], *_arguments(node, entry))
        if not rows:
            return None
        return {ExecutionId(row[1].bytes): row[2] for row in rows if row[1] is not None}

    async def post_map_run(self, id: ExecutionId, event: MapRunEvent) -> None:
        async with store_errors():
            await self._pool.execute(
                QUERIES["post_map_run"], as_uuid(id), message_encoder.encode(event), self._clock.now_ms()
            )
        await self._store.hint_all()


_KNOWN: Final = "item, status, size, error, cause, started_at, stopped_at, redrives, losses"
_DATA: Final = "input, output"
_NO_DATA: Final = "''::bytea AS input, NULL::bytea AS output"


def _item(row: Any) -> MapItem:
    return MapItem(
        number=row["item"], status=ItemStatus(row["status"]), size=row["size"], input=row["input"],
        output=row["output"], error=row["error"], cause=row["cause"], started_at=row["started_at"],
        stopped_at=row["stopped_at"], redrives=row["redrives"], losses=row["losses"],
    )  # fmt: skip


def _arguments(node: UUID, entry: MapRunEntry) -> list[Any]:
    new, ended, children, posts = entry.items_new, entry.items_ended, entry.children, entry.posts
    return [
        node,
        as_uuid(entry.id),
        shard_of(entry.id),
        entry.rev,
        STATUS_CODES[entry.status],
        message_encoder.encode(entry.progress),
        entry.stopped_at,
        entry.redriven_at,
        entry.now,
        [item.number for item in new],
        [int(item.status) for item in new],
        [item.size for item in new],
        [item.input for item in new],
        [entry.now if item.status is ItemStatus.RUNNING else 0 for item in new],
        entry.items_started,
        [item.number for item in ended],
        [int(item.status) for item in ended],
        [item.output for item in ended],
        [_text(item.error) for item in ended],
        [_text(item.cause) for item in ended],
        [item.stopped_at for item in ended],
        entry.again,
        [as_uuid(child.id) for child in children],
        [shard_of(child.id) for child in children],
        [child.name for child in children],
        [child.arn for child in children],
        [child.number for child in children],
        bucket_of(entry.now),
        [message_encoder.encode(Started(msgspec.Raw(child.input))) for child in children],
        [as_uuid(id) for id, _ in posts],
        [shard_of(id) for id, _ in posts],
        [encode_message(event) for _, event in posts],
        entry.inbox_gone,
        entry.progress.losses,
    ]


def encode_message(event: Message) -> bytes:
    """A message as inboxes hold it."""
    return message_encoder.encode(event)


def _text(text: str | None) -> str | None:
    return text.replace("\x00", "\ufffd") if text is not None else None


_VIEW: Final = (
    "SELECT m.id, m.arn, e.arn AS execution_arn, e.machine_key, e.revision, m.status, m.started_at, m.stopped_at, m.max_concurrency, m.tolerated_count,"
    " m.tolerated_percentage, m.progress, m.redriven_at, m.express, again.children, again.items FROM map_run m JOIN execution e ON e.id = m.execution_id"
    " CROSS JOIN LATERAL (SELECT count(*) AS children, coalesce(sum(i.size), 0) AS items FROM map_item i"
    " WHERE m.redriven_at IS NOT NULL AND m.stopped_at IS NULL AND i.map_run = m.id AND i.redrives > 0"
    " AND i.status = :pending) again"
).replace(":pending", str(int(ItemStatus.PENDING)))


class PostgresMapRuns:
    """`MapRunReader`."""

    def __init__(self, pool: Any, clock: Clock) -> None:
        self._pool = pool
        self._clock = clock

    async def describe(self, id: ExecutionId) -> MapRunView | None:
        async with store_errors():
            row = await self._pool.fetchrow(f"{_VIEW} WHERE m.id = $1", as_uuid(id))
        return _view(row) if row is not None else None

    async def list(
        self, execution: ExecutionId, limit: int, after: str | None
    ) -> tuple[Sequence[MapRunView], str | None]:
        scope = f"map-runs {execution.hex()}"
        at, key = read_position(scope, after, (int, str)) if after is not None else (2**62, "f" * 32)
        async with store_errors():
            rows = await self._pool.fetch(
                f"{_VIEW} WHERE m.execution_id = $1 AND (m.started_at, m.id) < ($2, $3)"
                " ORDER BY m.started_at DESC, m.id DESC LIMIT $4",
                as_uuid(execution), at, UUID(str(key)), limit + 1,
            )  # fmt: skip
        views = [_view(row) for row in rows[:limit]]
        more = len(rows) > limit
        return views, make_position(scope, views[-1].started_at, views[-1].id.hex()) if more else None

    async def begun_items(
        self, id: ExecutionId, *, status: ItemStatus | None, limit: int, before: int | None
    ) -> Sequence[MapItem]:
        begun = [each for each in ItemStatus if each is not ItemStatus.PENDING] if status is None else [status]
        async with store_errors():
            rows = await self._pool.fetch(
                f"SELECT {_KNOWN}, {_NO_DATA} FROM map_item"  # noqa: S608
                " WHERE map_run = $1 AND item < $2 AND status = ANY ($3::smallint[]) ORDER BY item DESC LIMIT $4",
                as_uuid(id), MAX_NUMBER if before is None else min(before, MAX_NUMBER), [int(each) for each in begun],
                limit,
            )  # fmt: skip
        return [_item(row) for row in rows]

    async def item(self, id: ExecutionId, number: int) -> MapItem | None:
        if number >= MAX_NUMBER:
            return None
        async with store_errors():
            row = await self._pool.fetchrow(
                f"SELECT {_KNOWN}, {_DATA} FROM map_item WHERE map_run = $1 AND item = $2",  # noqa: S608
                as_uuid(id), number,
            )  # fmt: skip
        return _item(row) if row is not None else None

    async def update(
        self,
        id: ExecutionId,
        *,
        max_concurrency: int | None,
        tolerated_count: int | None,
        tolerated_percentage: float | None,
    ) -> bool:
        event = encode_message(MapRunUpdated())
        async with store_errors():
            done = await self._pool.fetchval(
                "WITH changed AS (UPDATE map_run SET max_concurrency = coalesce($2, max_concurrency),"
                " tolerated_count = coalesce($3, tolerated_count),"
                " tolerated_percentage = coalesce($4, tolerated_percentage)"
                " WHERE id = $1 AND stopped_at IS NULL RETURNING shard, id)"
                " INSERT INTO inbox (shard, execution_id, event, created_at)"
                " SELECT shard, id, $5, $6 FROM changed RETURNING shard",
                as_uuid(id), max_concurrency, tolerated_count, tolerated_percentage, event, self._clock.now_ms(),
            )  # fmt: skip
        return done is not None


def _view(row: Any) -> MapRunView:
    return MapRunView(
        id=ExecutionId(row["id"].bytes),
        arn=row["arn"],
        execution_arn=row["execution_arn"],
        machine_key=row["machine_key"],
        revision=row["revision"],
        status=STATUS_OF[row["status"]],
        started_at=row["started_at"],
        stopped_at=row["stopped_at"],
        max_concurrency=row["max_concurrency"],
        tolerated_count=row["tolerated_count"] or 0,
        tolerated_percentage=row["tolerated_percentage"] or 0.0,
        progress=_progress.decode(row["progress"]),
        redriven_at=row["redriven_at"],
        express=row["express"],
        pending_redrive=row["children"],
        pending_redrive_items=row["items"],
    )
