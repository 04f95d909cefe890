"""Outcomes that are durable before their owner hears of any of them, and one of which makes the others needless."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pytest

from stepwell.engine.ids import ExecutionId
from stepwell.engine.machine.commands import Status
from stepwell.engine.machine.events import TaskFailed, TaskSucceeded
from stepwell.engine.ports import InboxRow, TaskAnswer
from stepwell.engine.store.runtime_store import PostgresRuntimeStore
from tests.runtime.test_map_runs import nothing_left
from tests.runtime.test_node import tasks
from tests.support.local_machine import raw
from tests.support.nodes import open_node
from tests.support.waiting import until


class ShutInbox:
    """Nothing is read from the inbox while it is shut. Before a node begins: it may read at any moment after."""

    shut = True

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        read = PostgresRuntimeStore.inbox

        async def inbox(
            store: PostgresRuntimeStore, shards: Sequence[int], limit: int, rows: Collection[int] = (),
            receivers: Collection[ExecutionId] = (),
        ) -> Sequence[InboxRow]:  # fmt: skip
            return [] if self.shut else await read(store, shards, limit, rows, receivers)

        monkeypatch.setattr(PostgresRuntimeStore, "inbox", inbox)


async def test_a_failure_is_applied_that_leads_through_many_events_beside_another_outcome(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step uses up its slice before it comes to the other outcome; it must not be void for that, again and again."""
    each = {"StartAt": "P", "States": {"P": {"Type": "Pass", "End": True}}}
    catch = [{"ErrorEquals": ["States.ALL"], "ResultPath": None, "Next": "Many"}]
    definition = {
        "StartAt": "Both",
        "States": {
            "Both": {"Type": "Parallel", "Branches": [tasks("A"), tasks("B")], "Catch": catch, "End": True},
            "Many": {"Type": "Map", "ItemsPath": "$.many", "ItemProcessor": each, "End": True},
        },
    }
    inbox = ShutInbox(monkeypatch)
    async with open_node(database, notify=False) as node:
        store = node.engine.committer._store
        started = await node.start(await node.machine(definition), {"many": list(range(200))})
        await until(lambda: node.targets.waiting.keys() >= {"A", "B"})
        for outcome in (TaskFailed(1, "Broke"), TaskSucceeded(2, raw({}))):
            secret = await store.task_secret(started.id, outcome.task)
            assert secret is not None
            assert await store.post_outcome(started.id, outcome.task, secret, outcome) is TaskAnswer.ACCEPTED
        inbox.shut = False
        assert (await node.ended(started.id)).status is Status.SUCCEEDED
        await nothing_left(node)
        assert await node.pool.fetchval("SELECT count(*) FROM task") == 0
