"""Engine nodes over Postgres that die at their commits, and their successors.

A node that dies is cut off at once: its connections are lost, whatever they were at, and nothing of it happens any more. Some
never hear what became of a commit and live on; some are taken for dead while they live, and meet their successor.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import suppress
from typing import Any, TypeVar
from uuid import UUID, uuid4

import asyncpg

from stepwell.engine.asl.states import StateMachine
from stepwell.engine.errors import StepwellError, StoreUnavailableError
from stepwell.engine.map_ports import ItemSource
from stepwell.engine.query.jsonata import Evaluation, Outcome
from stepwell.engine.runtime.dispatch import Targets
from stepwell.engine.runtime.engine import EngineOptions
from stepwell.engine.runtime.requests import Requests
from stepwell.engine.store.pool import create_pool
from stepwell.engine.store.runtime_store import PostgresRuntimeStore
from tests.properties.chance import Chance
from tests.properties.families import unhurried
from tests.support.local_machine import START
from tests.support.nodes import StandingClock, make_node

T = TypeVar("T")

FOREVER = 10**9
LEASE_MS = 600_000
"""So long that leases end when the test says so."""
LIVES = {1: 5, 3: 10, 10: 20, 25: 30, 60: 35}
"""About how many commits a node lives to see."""
LAST_COMMITS = {"before": 30, "meanwhile": 30, "after": 40}
"""Whether the commit that a node dies at takes effect: no, perhaps, yes."""


class GoneError(StepwellError):
    """The node that was asked died."""


_NODE: contextvars.ContextVar[MortalNode | None] = contextvars.ContextVar("node", default=None)


def is_dying() -> bool:
    """Whether what goes on here is the end of a node, which has lost its connections."""
    node = _NODE.get()
    return node is not None and node.dead


def _make_task(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T] | Generator[Any, None, T], **more: Any
) -> asyncio.Task[T]:
    """A task, which knows what node it is of: that one takes it along when it dies."""
    task = asyncio.Task(coroutine, loop=loop, **more)
    context = more.get("context")
    node = _NODE.get() if context is None else context.get(_NODE)
    if node is not None:
        node.remember(task)
    return task


class MortalStore(PostgresRuntimeStore):
    """The connections of one node. It dies at one of its commits."""

    def __init__(self, url: str, pool: asyncpg.Pool[Any], clock: StandingClock, node: MortalNode) -> None:
        super().__init__(url, pool, clock)
        self._node = node
        self._made: list[asyncpg.Connection[Any]] = []

    async def _connect(self) -> asyncpg.Connection[Any]:
        connection = await super()._connect()
        self._made.append(connection)
        return connection

    async def fetch_committing(self, statement: str, *arguments: Any) -> list[Any]:
        return await self._node.commit(lambda: super(MortalStore, self).fetch_committing(statement, *arguments))

    def cut(self) -> None:
        """All connections are lost."""
        self._pool.terminate()
        for connection in self._made:
            connection.terminate()


class MortalNode:
    """One engine process. `requests` is how it is asked."""

    requests: Requests

    def __init__(self, cluster: MortalCluster) -> None:
        self._cluster = cluster
        self._tasks: set[asyncio.Task[Any]] = set()
        self._context = contextvars.copy_context()
        self._context.run(_NODE.set, self)
        self.dead = False
        chance = cluster.chance
        self._left = chance.whole(1, 2 * chance.weighted(LIVES))
        self._last = chance.weighted(LAST_COMMITS)

    def remember(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self.dead:
            task.cancel()

    async def open(self) -> None:
        """Come up and take over what nobody owns."""
        await self.ask(self._open)

    async def _open(self) -> None:
        cluster = self._cluster
        pool = await create_pool(cluster.url, max_size=4)
        self._store = MortalStore(cluster.url, pool, cluster.clock, self)
        options = EngineOptions(node=uuid4(), lease_ttl_ms=LEASE_MS, express_drain_seconds=0.0)
        self._engine, self.requests = make_node(
            self._store, pool, cluster.targets, cluster.clock, options, items=cluster.items, evaluate=_evaluate
        )
        self._engine._compiled = cluster.compiled
        await self._engine.open()

    async def commit(self, write: Callable[[], Awaitable[T]]) -> T:
        """Something is to be committed; it may be the last thing this node does."""
        cluster = self._cluster
        self._left -= 1
        cluster.commits += 1
        dies = self._left <= 0 and not cluster.calm
        if dies and self._last == "before":
            await self._end()
        if dies and self._last == "meanwhile":
            self._writes = asyncio.ensure_future(write())
            for _ in range(cluster.chance.whole(1, 3)):
                await asyncio.sleep(0)
            await self._end()
        cluster.under_way += 1
        try:
            written = await write()
        finally:
            cluster.under_way -= 1
        if dies:
            await self._end()
        if not cluster.calm and cluster.chance.often(1):
            cluster.answers_lost += 1
            raise StoreUnavailableError("The connection was lost (the statement took effect).")
        return written

    async def _end(self) -> None:
        self.kill()
        await asyncio.get_running_loop().create_future()

    def kill(self) -> None:
        """Nothing happens here any more."""
        if self.dead:
            return
        self.dead = True
        self._cluster.deaths += 1
        self._store.cut()
        for task in self._tasks:
            task.cancel()

    async def bury(self) -> None:
        """Wait until nothing is left of it."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def ask(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Have the node do something; raises `GoneError` if it dies meanwhile, and nobody knows what came of it."""
        task = asyncio.get_running_loop().create_task(call(), context=self._context)
        await asyncio.wait({task})
        if task.cancelled():
            raise GoneError("The node died.")
        return task.result()

    @property
    def name(self) -> UUID:
        """By which it owns shards."""
        return self._engine.identity.node

    async def take_shards(self) -> None:
        """Take what nobody owns, without waiting for the next round."""
        await self.ask(self._engine.leases._round)

    def look_at_the_clock(self) -> None:
        """Time has been moved: whoever waits for it in real time would not notice."""
        if not self.dead:
            self._engine.timers._wake.set()

    async def close(self) -> None:
        """End in good order."""
        self.requests.close()
        await self.ask(self._close)
        await self.bury()

    async def _close(self) -> None:
        await self._engine.close()
        await self._store.close()
        await self._store._pool.close()


async def _evaluate(evaluation: Evaluation) -> Outcome:
    return unhurried(evaluation)


class MortalCluster:
    """A node at a time, or two while one does not know that it has been given up."""

    def __init__(self, url: str, targets: Targets, items: ItemSource, chance: Chance) -> None:
        self.url, self.targets, self.items, self.chance = url, targets, items, chance
        self.clock = StandingClock(START)
        self.compiled: dict[tuple[int, int, str | None], StateMachine] = {}
        """Definitions that nodes share, to save time; they are data that nobody changes."""
        self.calm = False
        """Nobody dies any more."""
        self.commits = self.under_way = self.deaths = self.answers_lost = self.given_up = 0
        self._node: MortalNode | None = None
        self._former: MortalNode | None = None
        """Was given up, and does not know."""
        self._lock = asyncio.Lock()
        asyncio.get_running_loop().set_task_factory(_make_task)

    async def node(self) -> MortalNode:
        """The node that is up, or its successor."""
        async with self._lock:
            while self._node is None or self._node.dead:
                if self._node is not None:
                    await self._bury(self._node)
                await self._begin()
            return self._node

    async def _begin(self) -> None:
        """All leases have run out, and another node takes over."""
        self._node = None
        await self._expire()
        node = MortalNode(self)
        with suppress(GoneError):
            await node.open()
            self._node = node

    async def give_up(self) -> None:
        """The node that is up is taken for dead, and lives on beside its successor for a while."""
        async with self._lock:
            await self._end_former()
            self._former = self._node
            self.given_up += 1
            await self._begin()

    async def end_former(self) -> None:
        """The one that was given up ends; what it has got back goes to the one that is up."""
        async with self._lock:
            await self._end_former()

    async def _end_former(self) -> None:
        if self._former is None:
            return
        await self._bury(self._former)
        self._former = None
        if self._node is not None and not self._node.dead:
            await self._expire(self._node.name)
            with suppress(GoneError):
                await self._node.take_shards()

    @staticmethod
    async def _bury(node: MortalNode) -> None:
        node.kill()
        await node.bury()

    async def _expire(self, survivor: UUID | None = None) -> None:
        """All leases run out, but that of the survivor."""
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute(
                "UPDATE node SET expires_at = clock_timestamp() - interval '1 s' WHERE incarnation IS DISTINCT FROM $1",
                survivor,
            )
        finally:
            await connection.close()

    async def close(self) -> None:
        """End all in good order, if it is still alive."""
        await self.end_former()
        if self._node is not None and not self._node.dead:
            await self._node.close()
        asyncio.get_running_loop().set_task_factory(None)
