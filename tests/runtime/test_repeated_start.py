"""A start that is asked for again while its execution runs: nothing that comes for the execution meanwhile may be lost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import UUID

import msgspec

from stepwell.engine.errors import StoreUnavailableError
from stepwell.engine.ids import ExecutionId
from stepwell.engine.machine.commands import Status
from stepwell.engine.machine.events import TaskSucceeded
from stepwell.engine.ports import CommitEntry, StartOutcome
from stepwell.engine.store.runtime_store import PostgresRuntimeStore
from tests.runtime.test_node import tasks
from tests.support.nodes import CommandedTargets, open_node
from tests.support.waiting import until


class SlowCommits(PostgresRuntimeStore):
    """Commits that wait until they are let go."""

    may_go: asyncio.Event
    asked: int = 0

    async def commit(self, node: UUID, entries: Sequence[CommitEntry]) -> set[ExecutionId]:
        self.asked += 1
        await self.may_go.wait()
        return await super().commit(node, entries)


async def test_an_outcome_that_comes_during_the_same_start_again_is_kept(database: str) -> None:
    targets = CommandedTargets()
    async with open_node(database, targets) as node:
        machine = await node.machine(tasks("A"))
        started = await node.start(machine, {"x": 1}, "same")
        await until(lambda: "A" in targets.waiting)
        store = node.engine.committer._store
        assert isinstance(store, PostgresRuntimeStore)
        store.__class__ = SlowCommits
        assert isinstance(store, SlowCommits)
        store.may_go = asyncio.Event()
        node.engine.executor.drop_all(StoreUnavailableError("as after a reconnect"))
        again = asyncio.create_task(node.start(machine, {"x": 1}, "same"))
        await until(lambda: store.asked)  # the start that will be refused is being committed
        targets.waiting["A"].set_result(TaskSucceeded(1, msgspec.Raw(b'{"y":2}')))
        hot = node.engine.executor.hot(started.id)
        assert hot is not None
        await until(lambda: hot.works)
        store.may_go.set()
        assert (await again).outcome in (StartOutcome.EXISTS_SAME, StartOutcome.EXISTS_OTHER)
        assert (await node.ended(started.id)).status is Status.SUCCEEDED
