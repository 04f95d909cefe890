"""The name under which this node owns shards and commits.

A commit whose answer was lost may still be under way in the database, and take effect after its executions have been read
back: what is in memory would be behind the store, and nothing would tell. So the node takes a new name first. The shards pass
from the old name to the new one by an update that waits for every commit that holds them, and whatever comes later under the
old name is refused by the fence.
"""

from __future__ import annotations

import asyncio
from uuid import UUID

from stepwell.engine.clock import Entropy, SeedSource
from stepwell.engine.ports import RuntimeStore


class Identity:
    """`node` is the present name. Whoever changes who owns what holds `lock`, so that nobody does it under an old name."""

    def __init__(self, store: RuntimeStore, node: UUID, seeds: SeedSource) -> None:
        self._store = store
        self._seeds = seeds
        self._in_doubt = False
        self._next: UUID | None = None
        self.node = node
        self.lock = asyncio.Lock()

    def doubt(self) -> None:
        """A commit's fate is unknown."""
        self._in_doubt = True

    def gives_up(self, name: UUID) -> bool:
        """Whether this node gives up this name, or has: what is refused under it may be the node's all the same."""
        return self._in_doubt or self.node != name

    async def settled(self) -> None:
        """Return when no commit of unknown fate can take effect any more. Raises `StoreUnavailableError` if that is not known."""
        while self._in_doubt:
            async with self.lock:
                await self._rename()

    async def _rename(self) -> None:
        if not self._in_doubt:  # somebody else has done it
            return
        if self._next is None:
            self._next = Entropy(self._seeds.seed()).uuid4()
        await self._store.rename_node(self.node, self._next)
        self.node, self._next, self._in_doubt = self._next, None, False
