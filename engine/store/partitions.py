"""The months of history: partitions made ahead, and dropped when nothing in them is kept any longer.

A partition holds the chunks of the executions that started in one month, of one retention class. Rows that came before
their partition was made lie in the default one and are moved when it is.
"""

from __future__ import annotations

from typing import Any, Final

import asyncpg

from stepwell.engine.store.codes import (
    BUCKETS_PER_CLASS,
    DEFAULT_RETENTION_CLASS,
    bucket_month,
    bucket_of,
)

MONTHS_AHEAD: Final = 2
"""Months after the current one whose partitions are there."""

DEFAULT_PARTITION: Final = "history_chunk_default"


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
        await connection.execute(
            f"WITH moved AS (DELETE FROM {DEFAULT_PARTITION} WHERE bucket = {bucket} RETURNING *)"
            f" INSERT INTO {name} SELECT * FROM moved"
        )
        await connection.execute(f"ALTER TABLE history_chunk ATTACH PARTITION {name} FOR VALUES IN ({bucket})")
