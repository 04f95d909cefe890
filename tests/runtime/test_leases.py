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
    """A store with `nodes`, one of which has all shards; `breaks` once between the renewal and the look at the shards."""

    breaks = False
    nodes = 1

    def __init__(self) -> None:
        self.owned = set(range(SHARD_COUNT))
        self.gone = False

    async def register_node(self, node: UUID, address: str | None, ttl_ms: int) -> None:
        pass

    async def renew_node(self, node: UUID, ttl_ms: int) -> list[Any]:
        return [node] * self.nodes

    async def release_shards(self, node: UUID, shards: list[int]) -> None:
        self.owned -= set(shards)

    async def remove_node(self, node: UUID) -> None:
        self.gone = True

    async def shard_owners(self) -> dict[int, UUID]:
        return {}

    async def owned_shards(self, node: UUID) -> list[int]:
        if self.breaks:
            self.breaks = False
            raise StoreUnavailableError("The connection was lost.")
        return sorted(self.owned)


async def test_a_lapse_is_not_forgotten_where_the_store_breaks_off_after_the_renewal() -> None:
    """What stood still without a lease, and timers that were passed over, are taken up anew all the same."""
    store, clock, taken, lost = Shards(), Hand(), list[set[int]](), list[set[int]]()

    async def take(shards: set[int], _: set[int]) -> None:
        taken.append(shards)

    leases = Leases(
        cast(RuntimeStore, store), Identity(cast(RuntimeStore, store), uuid4(), SystemSeeds()), clock, address=None,
        ttl_ms=10_000, taken=take, lost=lost.append, lapsed=lambda: None, unsettled=set, metrics=NoMetrics(),
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


async def test_what_is_not_settled_is_not_given_back() -> None:
    store, unsettled = Shards(), set(range(SHARD_COUNT))

    async def take(_: set[int], __: set[int]) -> None:
        pass

    leases = Leases(
        cast(RuntimeStore, store), Identity(cast(RuntimeStore, store), uuid4(), SystemSeeds()), Hand(), address=None,
        ttl_ms=10_000, taken=take, lost=lambda _: None, lapsed=lambda: None, unsettled=lambda: unsettled,
        metrics=NoMetrics(),
    )  # fmt: skip
    await leases.start()
    store.nodes = 2
    await leases._round()
    assert len(store.owned) == SHARD_COUNT
    unsettled -= {0, 7}
    await leases._round()
    assert store.owned == leases.owned == set(range(SHARD_COUNT)) - {0, 7}
    unsettled.clear()
    await leases._round()
    assert store.owned == leases.owned == set(range(1, SHARD_COUNT // 2 + 2)) - {7}
    await leases.close({2, 9, SHARD_COUNT})
    assert (store.owned, store.gone) == ({2, 9}, False), "what is kept is taken when the lease runs out"
    await leases.close({SHARD_COUNT})
    assert store.gone
