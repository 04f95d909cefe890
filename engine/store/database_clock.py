"""The time that all nodes agree on: the database's."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any, Final

import asyncpg

from stepwell.engine.clock import Clock
from stepwell.engine.errors import StepwellError
from stepwell.engine.store.failures import store_errors

log = logging.getLogger(__name__)

EVERY_SECONDS: Final = 10.0
SLOW_SECONDS: Final = 1.0
"""An answer that took longer says too little about what time it is."""
NOTABLE_MS: Final = 1_000


class DatabaseClock:
    """`engine.clock.Clock` that shows Postgres's time: read from it now and then, and carried on by the machine's monotonic clock.

    So timers are due by one clock, whatever the clocks of the machines say, and a machine whose clock is set
    while it runs does not notice. While the database is away the clock goes on.
    """

    def __init__(self, base: Clock) -> None:
        self._base = base
        self._offset = base.now_ms() - base.monotonic() * 1000
        self._task: asyncio.Task[None] | None = None

    def now_ms(self) -> int:
        return int(self._base.monotonic() * 1000 + self._offset)

    def monotonic(self) -> float:
        return self._base.monotonic()

    async def adjust(self, pool: asyncpg.Pool[Any]) -> None:
        """Read the database's clock. Raises `StoreUnavailableError`."""
        with store_errors():
            async with pool.acquire() as connection:
                sent = self._base.monotonic()
                told = await connection.fetchval("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::float8")
                received = self._base.monotonic()
        if received - sent > SLOW_SECONDS:
            return
        offset = told - (sent + received) / 2 * 1000
        if abs(offset - self._offset) > NOTABLE_MS:
            log.warning(
                "this machine's clock differs from the database's, which counts",
                extra={"difference_ms": round(offset - self._offset)},
            )
        self._offset = offset

    async def start(self, pool: asyncpg.Pool[Any]) -> None:
        """Adjust, and do so again every few seconds until `close`. Raises `StoreUnavailableError`."""
        await self.adjust(pool)
        self._task = asyncio.create_task(self._keep(pool), name="clock")

    async def close(self) -> None:
        """Stop adjusting."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _keep(self, pool: asyncpg.Pool[Any]) -> None:
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            with suppress(StepwellError):
                await self.adjust(pool)
