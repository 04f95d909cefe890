"""Timers: the near ones in a heap in memory, all of them in Postgres.

A timer row is deleted by the commit that applies it, so a timer is never lost; one that fires twice changes nothing the
second time. Timers beyond the horizon are found by the scan that runs every `SCAN_SECONDS`.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from stepwell.engine.clock import Clock
from stepwell.engine.errors import StoreUnavailableError
from stepwell.engine.ids import ExecutionId
from stepwell.engine.ports import RuntimeStore
from stepwell.engine.telemetry import TIMERS_LATE_SECONDS, Counts

log = logging.getLogger(__name__)

HORIZON_MS: Final = 60_000
SCAN_SECONDS: Final = 20.0
SCAN_LIMIT: Final = 50_000

Fire = Callable[[ExecutionId, int], None]


class Timers:
    """Fires timers of the owned shards when they are due."""

    def __init__(
        self, store: RuntimeStore, clock: Clock, owned: Callable[[], set[int]], fire: Fire, metrics: Counts
    ) -> None:
        self._metrics = metrics
        self._store = store
        self._clock = clock
        self._owned = owned
        self._fire = fire
        self._heap: list[tuple[int, ExecutionId, int]] = []
        self._known: set[tuple[ExecutionId, int]] = set()
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin firing."""
        self._tasks = [
            asyncio.create_task(self._run(), name="timers"),
            asyncio.create_task(self._scan(), name="timer scan"),
        ]

    async def close(self) -> None:
        """Stop firing."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def add(self, id: ExecutionId, timer: int, due_at: int) -> None:
        """Arm a timer that is durable; one beyond the horizon is left to the scan."""
        if due_at > self._clock.now_ms() + HORIZON_MS or (id, timer) in self._known:
            return
        self._known.add((id, timer))
        heapq.heappush(self._heap, (due_at, id, timer))
        if self._heap[0][0] == due_at:
            self._wake.set()

    async def scan_now(self) -> None:
        """Find due timers in the store, as after taking shards over."""
        shards = self._owned()
        if not shards:
            return
        until = self._clock.now_ms() + HORIZON_MS
        for id, timer, due_at in await self._store.timers_due(sorted(shards), until, SCAN_LIMIT):
            self.add(id, timer, due_at)

    async def _run(self) -> None:
        while True:
            now = self._clock.now_ms()
            while self._heap and self._heap[0][0] <= now:
                due_at, id, timer = heapq.heappop(self._heap)
                self._metrics.observe(TIMERS_LATE_SECONDS, (now - due_at) / 1000)
                self._known.discard((id, timer))
                self._fire(id, timer)
            self._wake.clear()
            delay = (self._heap[0][0] - now) / 1000 if self._heap else SCAN_SECONDS
            with suppress(TimeoutError):
                async with asyncio.timeout(max(delay, 0.001)):
                    await self._wake.wait()

    async def _scan(self) -> None:
        while True:
            try:
                await self.scan_now()
            except StoreUnavailableError as error:
                log.warning("timers cannot be read", extra={"reason": str(error)})
                await asyncio.sleep(1)
                continue
            await asyncio.sleep(SCAN_SECONDS)
