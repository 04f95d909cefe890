"""The clock of a node whose machine's clock is wrong."""

from __future__ import annotations

from typing import Any

import asyncpg

from stepwell.cli.system import SystemClock
from stepwell.engine.store.database_clock import SLOW_SECONDS, DatabaseClock

HOUR_MS = 3_600_000
NOW = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::float8"


class WrongClock(SystemClock):
    """A machine whose clock is an hour ahead, and can be set."""

    def __init__(self) -> None:
        self.ahead_ms = HOUR_MS
        self.slept = 0.0

    def now_ms(self) -> int:
        return super().now_ms() + self.ahead_ms

    def monotonic(self) -> float:
        return super().monotonic() + self.slept


async def test_the_databases_time_counts(pool: asyncpg.Pool[Any]) -> None:
    machine = WrongClock()
    clock = DatabaseClock(machine)
    assert clock.now_ms() > await pool.fetchval(NOW) + HOUR_MS / 2, "nothing has been read yet"
    await clock.adjust(pool)
    before = await pool.fetchval(NOW)
    read = clock.now_ms()
    after = await pool.fetchval(NOW)
    assert before - 1000 * SLOW_SECONDS <= read <= after + 1000 * SLOW_SECONDS
    machine.ahead_ms = -HOUR_MS
    assert clock.now_ms() >= read, "setting the machine's clock changes nothing"


async def test_a_slow_answer_is_no_measurement(pool: asyncpg.Pool[Any]) -> None:
    machine = WrongClock()
    clock = DatabaseClock(machine)

    class SlowPool:
        def acquire(self) -> SlowPool:
            return self

        async def __aenter__(self) -> SlowPool:
            return self

        async def __aexit__(self, *_: object) -> None:
            return None

        async def fetchval(self, query: str) -> object:
            machine.slept += 2 * SLOW_SECONDS
            return await pool.fetchval(query)

    await clock.adjust(SlowPool())
    assert clock.now_ms() > await pool.fetchval(NOW) + HOUR_MS / 2
