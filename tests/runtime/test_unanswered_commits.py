"""What a node remembers must never be behind the store: commits whose answer was lost, shards lost and taken again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
import msgspec
import pytest

from stepwell.engine.errors import StoreUnavailableError
from stepwell.engine.ids import ExecutionId, as_uuid
from stepwell.engine.machine.commands import Status
from stepwell.engine.machine.events import Continued, TaskSucceeded
from stepwell.engine.ports import CommitEntry, StoredExecution
from stepwell.engine.runtime.hot import CONTINUE_TIMER
from stepwell.engine.runtime.identity import Identity
from stepwell.engine.store.runtime_store import PostgresRuntimeStore
from tests.runtime.test_node import tasks
from tests.support.nodes import CommandedTargets, Node, open_node
from tests.support.waiting import until

Store = TypeVar("Store", bound=PostgresRuntimeStore)


def turned_into(kind: type[Store], node: Node) -> Store:
    """The store of a node, with the methods of `kind`."""
    store = node.engine.committer._store
    store.__class__ = kind
    assert isinstance(store, kind)
    return store


class CutCommits(PostgresRuntimeStore):
    """While `cut` is set, a commit's connection is lost as soon as the server has begun to wait for a lock."""

    cut = False

    async def commit(self, node: UUID, entries: Sequence[CommitEntry]) -> set[ExecutionId]:
        if not self.cut:
            return await super().commit(node, entries)
        self.cut = False
        connection = await self._connect()
        self._idle.append(connection)
        committing = asyncio.create_task(super().commit(node, entries))
        await until_waiting_for_locks(self._pool, 1)
        connection.terminate()
        return await committing


async def until_waiting_for_locks(pool: asyncpg.Pool[Any], sessions: int) -> None:
    """Return when so many sessions wait for locks."""
    query = "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted"
    async with asyncio.timeout(30):
        while await pool.fetchval(query) < sessions:  # noqa: ASYNC110 - no signal tells of a lock that is waited for
            await asyncio.sleep(0.005)


@asynccontextmanager
async def locked(url: str, id: ExecutionId) -> AsyncIterator[Callable[[], Any]]:
    """Another session's lock on an execution's row, and what lets go of it."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("BEGIN")
        await connection.execute("SELECT FROM execution WHERE id = $1 FOR UPDATE", as_uuid(id))
        yield lambda: connection.execute("COMMIT")
    finally:
        await connection.close()


@pytest.mark.parametrize("protected", (True, False), ids=["protected", "control"])
async def test_nothing_is_read_back_while_a_commit_of_unknown_fate_may_still_take_effect(
    database: str, protected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not protected:
        monkeypatch.setattr(Identity, "doubt", lambda self: None)
    async with open_node(database, notify=False) as node:
        started = await node.start(await node.machine(tasks("A", "B")))
        await until(lambda: "A" in node.targets.waiting)
        store = turned_into(CutCommits, node)
        async with locked(database, started.id) as let_go:
            store.cut = True
            executor = node.engine.executor
            before = executor.hot(started.id)
            old = node.engine.identity.node
            node.targets.waiting.pop("A").set_result(TaskSucceeded(1, msgspec.Raw(b"{}")))
            if not protected:
                await until(lambda: executor.hot(started.id) not in (None, before))  # behind what is still to come
                return
            await until_waiting_for_locks(node.pool, 2)  # the commit waits for the row, the new name for the commit
            assert executor.hot(started.id) is None
            await let_go()
        await until(lambda: "B" in node.targets.waiting)
        assert node.engine.identity.node != old
        assert await node.pool.fetchval("SELECT count(DISTINCT owner) FROM shard") == 1
        assert await node.pool.fetchval("SELECT owner FROM shard LIMIT 1") == node.engine.identity.node
        assert await node.pool.fetchval("SELECT rev FROM execution") == 2
        node.targets.waiting["B"].set_result(TaskSucceeded(2, msgspec.Raw(b"{}")))
        assert (await node.ended(started.id)).status is Status.SUCCEEDED


class SlowLoads(PostgresRuntimeStore):
    """Once, what was read of an execution comes late."""

    may_come: asyncio.Event
    read: int = 0

    async def load(self, id: ExecutionId) -> StoredExecution | None:
        found = await super().load(id)
        self.read += 1
        if self.read == 1:
            await self.may_come.wait()
        return found


def give_up_shards(node: Node) -> set[int]:
    """Have a node lose all its shards, and think so."""
    shards = set(node.engine.executor.owned)
    node.engine.executor.drop_shards(shards)
    return shards


async def test_what_was_being_read_when_its_shard_was_lost_is_read_again(database: str) -> None:
    async with open_node(database, notify=False) as node:
        started = await node.start(await node.machine(tasks("A", "B")))
        await until(lambda: "A" in node.targets.waiting)
        store = turned_into(SlowLoads, node)
        store.may_come = asyncio.Event()
        executor = node.engine.executor
        executor.drop_all(StoreUnavailableError("as after a reconnect"))
        reading = executor.ask(started.id, Continued())
        await until(lambda: store.read)
        await node.engine.leases.close()
        shards = give_up_shards(node)
        async with open_node(database, CommandedTargets({"A": lambda _: {}}), notify=False) as other:
            await until(lambda: "B" in other.targets.waiting)
        mine = node.engine.identity.node
        await node.pool.execute("UPDATE shard SET owner = $1, epoch = epoch + 1", mine)
        executor.owned |= shards
        store.may_come.set()
        await reading
        hot = executor.hot(started.id)
        assert hot is not None
        assert hot.rev == await node.pool.fetchval("SELECT rev FROM execution") == 2
        assert store.read == 2


class FirstCommitOnly(PostgresRuntimeStore):
    """Commits wait, but for the first one."""

    may_go: asyncio.Event
    asked: int = 0

    async def commit(self, node: UUID, entries: Sequence[CommitEntry]) -> set[ExecutionId]:
        self.asked += 1
        if self.asked > 1:
            await self.may_go.wait()
        return await super().commit(node, entries)


async def test_a_step_that_is_committed_after_its_execution_was_read_back_is_not_missed(database: str) -> None:
    async with open_node(database, notify=False) as node:
        started = await node.start(await node.machine(tasks("A", "B")))
        await until(lambda: "A" in node.targets.waiting)
        store, executor = turned_into(FirstCommitOnly, node), node.engine.executor
        store.may_go, store.asked = asyncio.Event(), 1
        try:
            node.targets.waiting["A"].set_result(TaskSucceeded(1, msgspec.Raw(b"{}")))
            await until(lambda: store.asked == 2)
            executor.owned |= give_up_shards(node)  # lost, and had again before the commit
            await executor.ask(started.id, Continued())
            behind = executor.hot(started.id)
            assert behind is not None and behind.rev == 1
        finally:
            store.may_go.set()
        await until(lambda: "B" in node.targets.waiting)
        node.targets.waiting["B"].set_result(TaskSucceeded(2, msgspec.Raw(b"{}")))
        assert (await node.ended(started.id)).status is Status.SUCCEEDED


async def test_an_execution_left_between_two_slices_goes_on(database: str) -> None:
    item = {"StartAt": "P", "States": {"P": {"Type": "Pass", "End": True}}}
    definition = {"StartAt": "M", "States": {"M": {"Type": "Map", "ItemProcessor": item, "End": True}}}
    async with open_node(database, notify=False) as node:
        store = turned_into(FirstCommitOnly, node)
        store.may_go = asyncio.Event()
        started = await node.start(await node.machine(definition), list(range(200)))
        try:
            await until(lambda: store.asked == 2)
            assert await node.pool.fetchval("SELECT count(*) FROM timer WHERE timer = $1", CONTINUE_TIMER) == 1
            await node.engine.leases.close()
            give_up_shards(node)
            async with open_node(database, notify=False) as other:
                assert (await other.ended(started.id)).status is Status.SUCCEEDED
                assert await other.pool.fetchval("SELECT count(*) FROM timer") == 0
        finally:
            store.may_go.set()
