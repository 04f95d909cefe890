"""The lease of a node: what is taken up anew after a time without one."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID, uuid4

import pytest

from stepwell.engine.errors import StoreUnavailableError
from stepwell.engine.ids import SHARD_COUNT
from stepwell.engine.ports import RuntimeStore
from stepwell.engine.runtime.identity import Identity
from stepwell.engine.runtime.leases import Leases
from stepwell.engine.telemetry import NoMetrics
from tests.support.nodes import SystemSeeds


class Hand:
    """A clock that goes on when it is told to."""

    at = 1000.0

    def now_ms(self) -> int:
        return int(1000 * self.at)

    def monotonic(self) -> float:
        return self.at


class Shards:
    """A store with one node; `breaks` once between the renewal and the look at the shards."""

    breaks = False

    async def register_node(self, node: UUID, address: str | None, ttl_ms: int) -> None:
        pass

    async def renew_node(self, node: UUID, ttl_ms: int) -> list[Any]:
        return [node]

    async def shard_owners(self) -> dict[int, UUID]:
        return {}

    async def owned_shards(self, node: UUID) -> list[int]:
        if self.breaks:
            self.breaks = False
            raise StoreUnavailableError("The connection was lost.")
        return list(range(SHARD_COUNT))


async def test_a_lapse_is_not_forgotten_where_the_store_breaks_off_after_the_renewal() -> None:
    """What stood still without a lease, and timers that were passed over, are taken up anew all the same."""
    store, clock, taken, lost = Shards(), Hand(), list[set[int]](), list[set[int]]()

    async def take(shards: set[int], _: set[int]) -> None:
        taken.append(shards)

    leases = Leases(
        cast(RuntimeStore, store), Identity(cast(RuntimeStore, store), uuid4(), SystemSeeds()), clock, address=None,
        ttl_ms=10_000, taken=take, lost=lost.append, lapsed=lambda: None, metrics=NoMetrics(),
    )  # fmt: skip
    await leases.start()
    try:
        clock.at += 60
        assert not leases.valid
        store.breaks = True
        with pytest.raises(StoreUnavailableError):
            await leases._round()  # what it does by itself each second
        await leases._round()
        everything = set(range(SHARD_COUNT))
        assert lost == [everything]
        assert taken == [everything, everything]
    finally:
        assert leases._task is not None
        leases._task.cancel()
