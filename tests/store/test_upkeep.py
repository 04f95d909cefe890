"""The upkeep of the database."""

from __future__ import annotations

import asyncpg

from stepwell.engine.store.partitions import DAY_MS
from stepwell.engine.store.upkeep import Upkeep
from tests.runtime.test_node import PASS
from tests.support.nodes import SystemClock, open_node


class LaterClock(SystemClock):
    """A clock a hundred days ahead."""

    def now_ms(self) -> int:
        return super().now_ms() + 130 * DAY_MS


async def test_what_is_past_retention_goes_and_the_rest_stays(database: str) -> None:
    async with open_node(database) as node:
        started = await node.start(await node.machine(PASS))
        await node.ended(started.id)
    assert (await Upkeep(database, SystemClock(), 90).once()).executions == 0
    assert (await Upkeep(database, LaterClock(), 90).once()).executions == 1
    connection = await asyncpg.connect(database)
    try:
        assert await connection.fetchval("SELECT count(*) FROM execution") == 0
        assert await connection.fetchval("SELECT count(*) FROM history_chunk") == 0
    finally:
        await connection.close()
