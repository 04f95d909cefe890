"""Ownership: this node's lease, and the shards it owns.

The lease is one row, renewed every third of its life; expiry is judged by Postgres's clock alone. The holder stops acting a
margin before its lease could run out by its own monotonic clock, counted from the moment the renewal was sent. Even a holder
that oversleeps does no harm: every commit is fenced in the database.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence, Set
from uuid import UUID

from stepwell.engine.clock import Clock
from stepwell.engine.errors import NotOwnerError, StoreUnavailableError
from stepwell.engine.ids import SHARD_COUNT
from stepwell.engine.ports import NodeRow, RuntimeStore
from stepwell.engine.runtime.failpoints import reach
from stepwell.engine.runtime.identity import Identity
from stepwell.engine.telemetry import SHARDS_OWNED, Counts

log = logging.getLogger(__name__)

Taken = Callable[[set[int], set[int]], Awaitable[None]]
"""Told of shards that are ours now, and which of them their last owner gave back."""
Lost = Callable[[set[int]], None]


class Leases:
    """Keeps the node's lease and its fair share of the shards."""

    def __init__(
        self,
        store: RuntimeStore,
        identity: Identity,
        clock: Clock,
        *,
        address: str | None,
        ttl_ms: int,
        taken: Taken,
        lost: Lost,
        lapsed: Callable[[], None],
        unsettled: Callable[[], set[int]],
        metrics: Counts,
    ) -> None:
        self._metrics = metrics
        self._store = store
        self._identity = identity
        self._clock = clock
        self._address = address
        self._ttl_ms = ttl_ms
        self._taken = taken
        self._lost = lost
        self._lapsed = lapsed
        self._unsettled = unsettled
        self._valid_until = 0.0
        self._task: asyncio.Task[None] | None = None
        self.owned: set[int] = set()
        self.nodes: Sequence[NodeRow] = ()

    @property
    def valid(self) -> bool:
        """Whether this node may act: dispatch, answer, take in work."""
        return self._clock.monotonic() < self._valid_until

    async def start(self) -> None:
        """Register, take the first share of shards, keep renewing."""
        await self._register()
        await self._round()
        self._task = asyncio.create_task(self._keep(), name="leases")

    async def close(self, kept: Set[int] = frozenset()) -> None:
        """Give everything back, but for the shards to be `kept`: as those of a node that died, they are taken when the lease runs out."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        try:
            if kept & self.owned:
                await self._store.release_shards(self._identity.node, sorted(self.owned - kept))
            else:
                await self._store.remove_node(self._identity.node)
        except StoreUnavailableError:
            log.warning("the lease could not be given back; it will run out by itself")

    def _renewed(self, sent: float) -> None:
        self._valid_until = sent + self._ttl_ms / 1000 * 0.8

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(min(self._ttl_ms / 3000, 1.0))
            try:
                await self._round()
            except StoreUnavailableError as error:
                log.warning("the lease cannot be renewed", extra={"reason": str(error)})
            except NotOwnerError:
                self._lose(set(self.owned))
                await self._register_again()
            except Exception:  # whatever it was, a node that stopped renewing would be there without doing anything
                log.exception("a round of the lease failed")

    async def _register_again(self) -> None:
        try:
            await self._register()
        except StoreUnavailableError:
            return

    async def _register(self) -> None:
        async with self._identity.lock:
            sent = self._clock.monotonic()
            await self._store.register_node(self._identity.node, self._address, self._ttl_ms)
            self._renewed(sent)
            self._lapsed()

    async def _round(self) -> None:
        async with self._identity.lock:
            await self._share(self._identity.node)

    async def _share(self, node: UUID) -> None:
        """Renew, see who is alive, and take or give shards until the share is fair."""
        sent = self._clock.monotonic()
        self.nodes = await self._store.renew_node(node, self._ttl_ms)
        was_valid = self.valid  # until this very moment: whatever was left undone meanwhile is done anew below
        self._renewed(sent)
        if not was_valid:
            self._lapsed()
            self._lose(set(self.owned))  # before anything that may fail: the next round would not know any more
        owned = set(await self._store.owned_shards(node))
        given: set[int] = set()
        self._lose(self.owned - owned)
        engines = max(1, len(self.nodes))
        fair = -(-SHARD_COUNT // engines)
        if len(owned) > fair:
            settled = sorted((owned & self.owned) - self._unsettled())
            surplus = set(settled[max(0, len(settled) - (len(owned) - fair)) :])
            self._lose(surplus)
            await self._store.release_shards(node, sorted(surplus))
            owned -= surplus
        elif len(owned) < fair:
            left = set(await self._store.shard_owners())  # by nodes that are gone, as far as they can be taken
            taken = set(await self._store.take_shards(node, fair - len(owned)))
            given = taken - left
            owned |= taken
        new = owned - self.owned
        self._metrics.set(SHARDS_OWNED, len(owned))
        if new:
            reach("after_takeover")
            self.owned |= new
            await self._taken(new, given)

    def _lose(self, shards: set[int]) -> None:
        if shards:
            self.owned -= shards
            self._lost(shards)
