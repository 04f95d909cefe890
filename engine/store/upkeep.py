"""Upkeep of the database, by itself: history partitions are made ahead of time, and what is past retention is deleted.

Every engine node does this; several at once do no harm. It must not know the runtime.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from stepwell.engine.clock import Clock
from stepwell.engine.errors import StepwellError
from stepwell.engine.store import partitions
from stepwell.engine.store.express import expire_express
from stepwell.engine.store.pool import connect
from stepwell.engine.store.statements import Connection

log = logging.getLogger(__name__)

EVERY_SECONDS: Final = 3600
AGAIN_SECONDS: Final = 300
EXPRESS_AT_ONCE: Final = 5_000


class Upkeep:
    """Runs the upkeep at start and every hour."""

    def __init__(self, url: str, clock: Clock, retention_days: int, express_hours: float = 24) -> None:
        self._url = url
        self._clock = clock
        self._retention_days = retention_days
        self._express_hours = express_hours
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name="upkeep")

    async def close(self) -> None:
        """Stop; what was under way is found again the next time."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def once(self) -> partitions.Expired:
        """Make partitions, delete what is past retention."""
        connection = await connect(self._url, statement_timeout_ms=0)
        try:
            await partitions.create_ahead(connection, self._clock.now_ms())
            await self._expire_express(connection)
            return await partitions.expire(connection, self._clock.now_ms(), retention_days=self._retention_days)
        finally:
            await connection.close()

    async def _expire_express(self, connection: Connection) -> None:
        before = self._clock.now_ms() - int(self._express_hours * 3_600_000)
        while await expire_express(connection, before, EXPRESS_AT_ONCE) == EXPRESS_AT_ONCE:
            pass

    async def _run(self) -> None:
        while True:
            try:
                expired = await self.once()
                if expired.executions or expired.buckets:
                    log.info("history past retention was deleted", extra={"executions": expired.executions})
                await asyncio.sleep(EVERY_SECONDS)
            except StepwellError as error:
                log.warning("the upkeep of the database will be tried again", extra={"reason": str(error)})
                await asyncio.sleep(AGAIN_SECONDS)
