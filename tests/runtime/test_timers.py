"""The heap of near timers, over a store that has none and a clock that stands still."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from stepwell.engine.ids import ExecutionId
from stepwell.engine.runtime.timers import HORIZON_MS, Timers
from stepwell.engine.store.memory_runtime import MemoryRuntimeStore
from stepwell.engine.telemetry import NoMetrics
from tests.support.waiting import DEADLINE

NOW = 1_000_000
ID = ExecutionId(b"e" * 16)


class StandingClock:
    def now_ms(self) -> int:
        return NOW

    def monotonic(self) -> float:
        return 0.0


class Heard:
    """The timers that fired, in order."""

    def __init__(self) -> None:
        self.timers: list[int] = []
        self._more = asyncio.Event()
        clock = StandingClock()
        self.armed = Timers(MemoryRuntimeStore(clock), clock, set, self._fire, NoMetrics())

    def _fire(self, id: ExecutionId, timer: int) -> None:
        self.timers.append(timer)
        self._more.set()

    async def until(self, count: int) -> list[int]:
        async with asyncio.timeout(DEADLINE):
            while len(self.timers) < count:
                self._more.clear()
                await self._more.wait()
        return self.timers


@pytest.fixture
async def heard() -> AsyncIterator[Heard]:
    heard = Heard()
    heard.armed.start()
    yield heard
    await heard.armed.close()


async def test_due_timers_fire_soonest_first(heard: Heard) -> None:
    for timer, due in ((1, NOW - 1), (2, NOW - 3), (3, NOW - 2)):
        heard.armed.add(ID, timer, due)
    assert await heard.until(3) == [2, 3, 1]


async def test_a_timer_that_is_armed_twice_fires_once(heard: Heard) -> None:
    heard.armed.add(ID, 1, NOW)
    heard.armed.add(ID, 1, NOW)
    heard.armed.add(ID, 2, NOW)
    assert await heard.until(2) == [1, 2]


async def test_a_timer_that_has_fired_can_be_armed_again(heard: Heard) -> None:
    """A heartbeat's is, each time one was heard; and one that fired while its shard was being lost, by who has it back."""
    for times in (1, 2):
        heard.armed.add(ID, 1, NOW)
        assert await heard.until(times) == [1] * times


async def test_what_is_far_away_is_left_to_the_scan(heard: Heard) -> None:
    heard.armed.add(ID, 1, NOW + HORIZON_MS + 1)
    heard.armed.add(ID, 2, NOW)
    assert await heard.until(1) == [2]
    assert not heard.armed._known
