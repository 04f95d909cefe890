"""Where the other engine nodes are: the owner of an execution, the node of a tag, any node at all.

Read from the store when what is known is older than a second. It must not know what they are asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

from stepwell.engine.clock import Clock
from stepwell.engine.ids import ExecutionId, node_tag, shard_of
from stepwell.engine.ports import RuntimeStore
from stepwell.engine.runtime.identity import Identity
from stepwell.engine.runtime.peers import Peer

FRESH_SECONDS: Final = 1.0


class Directory:
    """The live nodes beside this one, and connections to them."""

    def __init__(self, store: RuntimeStore, identity: Identity, clock: Clock, connect: Callable[[str], Peer]) -> None:
        self._store = store
        self._identity = identity
        self._clock = clock
        self._connect = connect
        self._peers: dict[str, Peer] = {}
        self._owners: dict[int, str] = {}
        self._nodes: dict[str, str] = {}
        self._read_at = -FRESH_SECONDS
        self._reading = asyncio.Lock()
        self._turn = 0

    def close(self) -> None:
        """Hang up on all of them."""
        for peer in self._peers.values():
            peer.close()

    async def owner(self, id: ExecutionId) -> Peer | None:
        """The node that owns the execution, if it is another one and has an address."""
        await self._fresh()
        address = self._owners.get(shard_of(id))
        return None if address is None else self._peer(address)

    async def node(self, tag: str) -> Peer | None:
        """The live node with this `node_tag`."""
        await self._fresh()
        address = self._nodes.get(tag)
        return None if address is None else self._peer(address)

    async def all(self) -> Sequence[Peer]:
        """Every live node that can be asked; another one comes first each time."""
        await self._fresh()
        addresses = sorted(self._nodes.values())
        self._turn += 1
        first = self._turn % len(addresses) if addresses else 0
        return [self._peer(address) for address in addresses[first:] + addresses[:first]]

    def _peer(self, address: str) -> Peer:
        peer = self._peers.get(address)
        if peer is None:
            peer = self._peers[address] = self._connect(address)
        return peer

    async def _fresh(self) -> None:
        if self._clock.monotonic() - self._read_at > FRESH_SECONDS:
            async with self._reading:
                if self._clock.monotonic() - self._read_at > FRESH_SECONDS:
                    await self._read()

    async def _read(self) -> None:
        nodes: dict[UUID, str | None] = {node.incarnation: node.address for node in await self._store.live_nodes()}
        nodes.pop(self._identity.node, None)
        owners = await self._store.shard_owners()
        self._owners = {shard: address for shard, owner in owners.items() if (address := nodes.get(owner))}
        self._nodes = {node_tag(address): address for address in nodes.values() if address}
        self._read_at = self._clock.monotonic()
        for address in self._peers.keys() - set(self._nodes.values()):
            self._peers.pop(address).close()
