"""The months of history: partitions made ahead, and dropped when nothing in them is kept any longer.

A partition holds the chunks of the executions that started in one month, of one retention class. Rows that came before
their partition was made lie in the default one and are moved when it is. Executions go with their month: they are kept
for the retention time after their end, and at most a month longer. So expiry is the dropping of tables, not of rows.
Children of a Map Run are kept as long as the execution that started it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg

from stepwell.engine.limits import HISTORY_RETENTION_DAYS
from stepwell.engine.store.codes import (
    BUCKETS_PER_CLASS,
    DEFAULT_RETENTION_CLASS,
    bucket_end,
    bucket_month,
    bucket_of,
)

MONTHS_AHEAD: Final = 2
"""Months after the current one whose partitions are there."""

DEFAULT_PARTITION: Final = "history_chunk_default"

_MOVE: Final = (
    "WITH moved AS (DELETE FROM history_chunk_default WHERE bucket = $1 RETURNING *) "
    "INSERT INTO {name} SELECT * FROM moved"
)


def partition_name(bucket: int) -> str:
    """The table of a bucket: `history_chunk_1_2026_11` is class 1, November 2026."""
    retention_class, year, month = bucket_month(bucket)
    return f"history_chunk_{retention_class}_{year:04}_{month:02}"


def partition_bucket(name: str) -> int:
    """The bucket of a partition's table."""
    retention_class, year, month = (int(part) for part in name.removeprefix("history_chunk_").split("_"))
    return retention_class * BUCKETS_PER_CLASS + year * 12 + month - 1


async def existing(connection: asyncpg.Connection[Any]) -> list[int]:
    """Buckets that have a partition of their own, oldest first."""
    rows = await connection.fetch(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
        "WHERE i.inhparent = 'history_chunk'::regclass AND c.relname <> $1",
        DEFAULT_PARTITION,
    )
    return sorted(partition_bucket(row[0]) for row in rows)


async def create_ahead(
    connection: asyncpg.Connection[Any], now: int, retention_class: int = DEFAULT_RETENTION_CLASS
) -> list[int]:
    """Make the partitions of this month and the next ones; returns those that were missing."""
    first = bucket_of(now, retention_class)
    missing = sorted(set(range(first, first + MONTHS_AHEAD + 1)) - set(await existing(connection)))
    for bucket in missing:
        await _create(connection, bucket)
    return missing


async def _create(connection: asyncpg.Connection[Any], bucket: int) -> None:
    name = partition_name(bucket)
    async with connection.transaction():
        # The lock that ATTACH will need, taken before the rows are moved, so that none arrives behind them
        await connection.execute(f"LOCK TABLE {DEFAULT_PARTITION} IN ACCESS EXCLUSIVE MODE")
        if await connection.fetchval("SELECT to_regclass($1)", name) is not None:
            return
        await connection.execute(f"CREATE TABLE {name} (LIKE history_chunk INCLUDING ALL, CHECK (bucket = {bucket}))")
        await connection.execute(_MOVE.format(name=name), bucket)
        await connection.execute(f"ALTER TABLE history_chunk ATTACH PARTITION {name} FOR VALUES IN ({bucket})")


DAY_MS: Final = 86_400_000
MOST_STRAGGLERS: Final = 10_000
"""A month with more executions that must be kept (they run for long) is left as it is, rather than moved."""

# A child execution belongs to its Map Run, which may still run or be redriven: it goes after it.
_DELETE_EXECUTIONS: Final = """
WITH gone AS (
    SELECT e.id FROM execution e
     WHERE e.bucket = $1 AND e.started_at < $2 AND e.stopped_at < $3
       AND NOT EXISTS (SELECT FROM map_run m WHERE m.id = e.map_run)
       AND NOT EXISTS (SELECT FROM map_run m WHERE m.execution_id = e.id AND m.stopped_at IS NULL)
     ORDER BY e.started_at, e.id LIMIT $4 FOR UPDATE SKIP LOCKED
), items AS (
    DELETE FROM map_item i USING gone g, map_run m WHERE m.execution_id = g.id AND i.map_run = m.id
), runs AS (
    DELETE FROM map_run m USING gone g WHERE m.execution_id = g.id
), letters AS (
    DELETE FROM dead_letter l USING gone g WHERE l.execution_id = g.id
)
DELETE FROM execution e USING gone g WHERE e.id = g.id
"""
_STRAGGLERS: Final = "SELECT id FROM execution WHERE bucket = $1 AND started_at < $2 ORDER BY started_at, id LIMIT $3"
_LEFT_IN_DEFAULT: Final = "SELECT DISTINCT bucket FROM history_chunk_default ORDER BY bucket"


@dataclass(slots=True)
class Expired:
    """What one round of expiry did: the buckets dropped, how many executions were deleted and how many moved."""

    buckets: list[int] = field(default_factory=list)
    executions: int = 0
    moved: int = 0


async def expire(
    connection: asyncpg.Connection[Any],
    now: int,
    *,
    retention_days: int = HISTORY_RETENTION_DAYS,
    retention_class: int = DEFAULT_RETENTION_CLASS,
    batch: int = 1_000,
) -> Expired:
    """Delete what is past retention, in short transactions. May be run by several nodes at once, and again after a crash."""
    cutoff = now - retention_days * DAY_MS
    result = Expired()
    left = [row[0] for row in await connection.fetch(_LEFT_IN_DEFAULT)]
    for bucket in sorted({*await existing(connection), *left}):
        if bucket // BUCKETS_PER_CLASS == retention_class and bucket_end(bucket) <= cutoff:
            await _expire_bucket(connection, bucket, bucket_of(now, retention_class), cutoff, batch, result)
    await connection.execute(
        "DELETE FROM heartbeat h WHERE at < $1"
        " AND NOT EXISTS (SELECT FROM task t WHERE t.execution_id = h.execution_id AND t.task = h.task)",
        now - DAY_MS,
    )
    await connection.execute(
        "DELETE FROM inbox i WHERE created_at < $1"
        " AND NOT EXISTS (SELECT FROM execution e WHERE e.id = i.execution_id)"
        " AND NOT EXISTS (SELECT FROM map_run m WHERE m.id = i.execution_id)",
        now - DAY_MS,
    )
    return result


async def _expire_bucket(
    connection: asyncpg.Connection[Any], bucket: int, target: int, cutoff: int, batch: int, result: Expired
) -> None:
    end = bucket_end(bucket)
    while True:
        deleted = int((await connection.execute(_DELETE_EXECUTIONS, bucket, end, cutoff, batch)).split()[-1])
        result.executions += deleted
        if not deleted:  # after a batch with parents their children can go
            break
    stragglers = [row[0] for row in await connection.fetch(_STRAGGLERS, bucket, end, MOST_STRAGGLERS + 1)]
    if len(stragglers) > MOST_STRAGGLERS:
        return
    for id in stragglers:
        async with connection.transaction():
            # The execution's row first, as a commit does: one that runs meanwhile writes its chunk to the new bucket
            await connection.execute(
                "UPDATE execution SET bucket = $3 WHERE id = $1 AND bucket = $2", id, bucket, target
            )
            await connection.execute(
                "UPDATE history_chunk SET bucket = $3 WHERE execution_id = $1 AND bucket = $2", id, bucket, target
            )
        result.moved += 1
    if await _drop(connection, bucket):
        result.buckets.append(bucket)


async def _drop(connection: asyncpg.Connection[Any], bucket: int) -> bool:
    """Drop a bucket that no execution uses. Gives up, until the next round, when a reader is in the way."""
    if await connection.fetchval(
        "SELECT EXISTS (SELECT FROM execution WHERE bucket = $1 AND started_at < $2)", bucket, bucket_end(bucket)
    ):
        return False
    await connection.execute("DELETE FROM history_chunk_default WHERE bucket = $1", bucket)
    try:
        async with connection.transaction():
            await connection.execute("SET LOCAL lock_timeout = '2s'")  # commits queue behind this lock
            await connection.execute(f"DROP TABLE IF EXISTS {partition_name(bucket)}")
    except asyncpg.LockNotAvailableError:
        return False
    return True
